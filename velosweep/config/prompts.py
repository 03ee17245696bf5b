"""Prompt sets: one text, YAML items, a text file, or JSONL as SPEED-Bench, Spec-Bench and MT-Bench use."""

from __future__ import annotations

import difflib
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from velosweep.config.hydra_errors import not_utf8, not_yaml
from velosweep.config.keys import expanded
from velosweep.config.schema import PromptKeys
from velosweep.config.settings import Prompt, PromptSet
from velosweep.errors import PromptError

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_ID = 64
_LARGEST_FILE = 1 << 28
_LARGEST_YAML = 1 << 24
_DEEPEST_YAML = 100
_OTHER_FORMATS = frozenset((".csv", ".tsv", ".parquet", ".arrow", ".xlsx", ".xls", ".toml", ".xml", ".gz", ".zip"))
_FORMATS = "write it as .txt (a prompt a line), .jsonl, .json or .yaml (items of text, id and category)"
_TEXT_KEYS = ("text", "prompt", "turns", "content")


def load_prompts(prompt: str | None, keys: PromptKeys, *, base: Path) -> PromptSet:
    """The prompts that a configuration names; a `prompt` of its own goes before the set.

    A file is relative to `base`: a text file (a prompt a line), .jsonl, .json, .yaml. A limit draws that many with
    the seed, evenly over categories, in the set's order. Ids become unique and safe as file names.
    Raises PromptError with file, line and what to do.
    """
    if prompt is not None:
        text = _sound(prompt, "prompt", "give a text, or leave prompt out to use prompts=")
        return PromptSet(name="prompt", prompts=(Prompt(id="prompt", text=text),), chat=keys.chat)
    if keys.file:
        found = list(_from_file(base / expanded(keys.file)))
    else:
        found = [_prompt(item, f"prompts.items[{number}]", number) for number, item in enumerate(keys.items)]
    source = keys.file or keys.name
    if not found:
        raise PromptError(f"The prompt set {source} is empty", remedy="give prompts.items, prompts.file or prompt")
    if keys.categories is not None:
        found = _of_categories(found, keys.categories, source)
    if keys.limit is not None:
        found = _draw(found, keys.limit, keys.seed)
    # The shipped set's name is not the file's.
    name = Path(keys.file).stem if keys.file and keys.name == "default" else keys.name
    return PromptSet(name=name, prompts=tuple(_with_unique_ids(found)), chat=keys.chat)


def _from_file(path: Path) -> Iterator[Prompt]:
    suffix = path.suffix.lower()
    if suffix in _OTHER_FORMATS:
        raise PromptError(f"The prompt file {path} is of a kind that isn't read", remedy=_FORMATS)
    text = _read(path)
    if suffix in (".yaml", ".yml"):
        yield from _from_content(_parse_yaml(path, text), path)
    elif suffix == ".json" and text.lstrip().startswith("["):
        yield from _from_content(_parse_json(text, str(path)), path)
    else:
        # Not splitlines(): texts in JSON may hold U+2028 and other separators as they are.
        for number, line in enumerate(text.split("\n"), start=1):
            where = f"{path}, line {number}"
            if not line.strip():
                continue
            if suffix in (".jsonl", ".json", ".ndjson"):
                yield _prompt(_parse_json(line, where), where, number)
            else:
                remedy = "write a prompt a line"
                yield Prompt(id=f"line-{number}", text=_sound(line.removesuffix("\r"), where, remedy))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as opened:
            data = opened.read(_LARGEST_FILE + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        reason = getattr(error, "strerror", None) or str(error)
        raise PromptError(f"The prompt file {path} can't be read: {reason}", remedy="check prompts.file") from error
    if len(data) > _LARGEST_FILE:
        raise PromptError(f"The prompt file {path} has more than 256 MiB", remedy="check prompts.file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(error, path, PromptError) from error


def _parse_yaml(path: Path, text: str) -> object:
    import yaml

    if len(text) > _LARGEST_YAML:
        raise PromptError(f"{path} has more than 16 MiB of YAML", remedy="write it as .jsonl, which reads faster")
    depth = deepest = 0
    for bracket in re.finditer(r"[\[\]{}]", text):
        depth = depth + 1 if bracket[0] in "[{" else max(depth - 1, 0)
        deepest = max(deepest, depth)
    if deepest > _DEEPEST_YAML:  # PyYAML's time grows with the square of the depth
        raise PromptError(f"{path} opens {_DEEPEST_YAML} brackets one within another", remedy="check prompts.file")
    try:
        return yaml.safe_load(text)
    # Beside its own errors safe_load lets those of Python's dates and numbers through.
    except (yaml.YAMLError, ValueError, ArithmeticError, TypeError, RecursionError, AttributeError) as error:
        raise not_yaml(error, path, PromptError) from error


def _parse_json(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        remedy = 'write one JSON object a line, e.g. {"question_id": 1, "category": "code", "turns": ["…"]}'
        raise PromptError(f"{where} is not JSON: {error}", remedy=remedy) from error


def _from_content(content: object, path: Path) -> Iterator[Prompt]:
    """A list of items, a mapping with `items:`, or a mapping from categories to lists."""
    if isinstance(content, Mapping) and "items" in content:
        content = content["items"]
    if isinstance(content, Mapping) and all(isinstance(items, list) for items in content.values()):
        pairs = ((category, item) for category, items in content.items() for item in items)
        for number, (category, item) in enumerate(pairs, start=1):
            yield _prompt(item, f"{path}, {_scalar(category)} item {number}", number, category)
        return
    if not isinstance(content, list):
        remedy = "write a list, a mapping with `items:`, or one from categories to lists"
        raise PromptError(f"{path} has no list of prompts", remedy=remedy)
    for number, item in enumerate(content, start=1):
        yield _prompt(item, f"{path}, item {number}", number)


def _prompt(item: object, where: str, number: int, category: object = None) -> Prompt:
    if isinstance(item, str):
        item = {"text": item}
    if not isinstance(item, Mapping):
        raise PromptError(f"{where} is neither a text nor an object", remedy="write {id, text, category} or a text")
    text = _text_of(item)
    identity = _first(item, "id", "question_id")
    category = _first(item, "category") if category is None else category
    for key, value in (("id", identity), ("category", category)):
        if value is not None and _scalar(value) is None:
            raise PromptError(f"{where} has a {key} that is no text", remedy=f"give a word or a number as {key}")
    # as part of a file name on any system
    plain = _UNSAFE.sub("-", _scalar(identity) or "").strip("-.")[:_LONGEST_ID].rstrip("-.")
    return Prompt(
        id=f"prompt-{number}" if identity is None else plain or "prompt",
        text=_sound(text, where, "give it `text`, `prompt` or `turns`"),
        category=_scalar(category),
    )


def _text_of(item: Mapping[Any, Any]) -> object:
    """The prompt: of a conversation's turns the first, each a text or a message with `content`."""
    value: object = _first(item, *_TEXT_KEYS)
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        value = value[0] if value else None
    return _first(value, "content") if isinstance(value, Mapping) else value


def _first(item: Mapping[Any, Any], *keys: str) -> object:
    return next((item[key] for key in keys if item.get(key) is not None), None)


def _scalar(value: object) -> str | None:
    """A word or number as text; None for anything nested, whose text could be of any size."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")  # without half surrogate pairs, for any file
    try:
        return str(value) if isinstance(value, (int, float)) else None
    except ValueError:  # an integer of more digits than Python prints
        return None


def _sound(text: object, where: str, remedy: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise PromptError(f"{where} is empty" if where == "prompt" else f"{where} has no text", remedy=remedy)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(
            f"{where} has half a surrogate pair at character {error.start}", remedy="write the character itself"
        ) from error
    return text


def _of_categories(found: Sequence[Prompt], categories: Sequence[str], source: str) -> list[Prompt]:
    known = sorted({entry.category for entry in found if entry.category is not None})
    for category in categories:
        if category not in known:
            near = difflib.get_close_matches(str(category), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(known) or 'none: it has none'}"
            raise PromptError(f"{source} has no prompt of category {category!r}", remedy=hint)
    if not categories:
        raise PromptError("prompts.categories is an empty list", remedy=f"choose from {', '.join(known)}")
    return [entry for entry in found if entry.category in categories]


def _draw(found: Sequence[Prompt], limit: int, seed: int) -> list[Prompt]:
    """`limit` prompts, as evenly over the categories as they allow, in their first order."""
    generator = random.Random(seed)  # noqa: S311 -- a reproducible sample, no secret
    by_category: dict[str | None, list[int]] = {}
    for index, entry in enumerate(found):
        by_category.setdefault(entry.category, []).append(index)
    for members in by_category.values():
        generator.shuffle(members)
    chosen: list[int] = []
    while len(chosen) < min(limit, len(found)):
        for members in by_category.values():
            if members and len(chosen) < limit:
                chosen.append(members.pop())
    return [found[index] for index in sorted(chosen)]


def _with_unique_ids(found: Sequence[Prompt]) -> Iterator[Prompt]:
    """The same prompts; an id that was there before gets a number. File names may not tell cases apart."""
    taken = {entry.id.lower() for entry in found}
    seen: dict[str, int] = {}
    for entry in found:
        stem = entry.id.lower()
        copy = seen[stem] = seen.get(stem, 0) + 1
        identity = entry.id
        while copy > 1 and identity.lower() in taken:
            identity, copy = f"{entry.id}-{copy}", copy + 1
        seen[stem] = max(seen[stem], copy - 1)
        taken.add(identity.lower())
        yield entry if identity == entry.id else Prompt(id=identity, text=entry.text, category=entry.category)
