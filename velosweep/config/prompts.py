"""Prompt sets: one text, YAML items, a text file, or JSONL as SPEED-Bench, Spec-Bench and MT-Bench use."""

import codecs
import difflib
import errno
import json
import os
import random
import re
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from velosweep.config.hydra_errors import not_utf8, not_yaml
from velosweep.config.keys import expanded
from velosweep.config.prompt_items import PROMPT_KEYS, as_word, checked_text, read_item
from velosweep.config.schema import PromptKeys
from velosweep.config.settings import Prompt, PromptSet
from velosweep.errors import PromptError
from velosweep.units import plural

_LARGEST_FILE = 1 << 28
_LARGEST_YAML = 1 << 24
_DEEPEST_YAML = 100
_MOST_VALUES = 1_000_000  # a few hundred bytes of anchors may stand for more values than any memory holds
_LONGEST_NUMBER = 1_000  # characters: PyYAML's time for `1:1:1:…` grows with the square of the length
_LONGEST_WAIT_S = 3.0  # for somebody who writes to a pipe
_OTHER_FORMATS = frozenset((".csv", ".tsv", ".parquet", ".arrow", ".xlsx", ".xls", ".toml", ".xml", ".gz", ".zip"))
_CHAT = "set prompts.chat=true, or leave it out"
_FORMATS = "write it as .txt (a prompt a line), .jsonl, .json or .yaml (items of text, id and category)"


def load_prompts(prompt: str | None, keys: PromptKeys, *, base: Path) -> PromptSet:
    """The prompts that a configuration names; a `prompt` of its own goes before the set.

    A file is relative to `base`: a text file (a prompt a line), .jsonl, .json, .yaml. A limit draws that many with
    the seed, evenly over categories, in the set's order. Ids become unique and safe as file names.
    Raises PromptError with file, line and what to do.
    """
    options: dict[str, Any] = {"chat": keys.chat, "system": keys.system, "template_kwargs": keys.template_kwargs}
    for name in ("system", "template_kwargs") if keys.chat is False else ():
        if options[name]:
            raise PromptError(f"prompts.{name} is for a chat template, and prompts.chat is false", remedy=_CHAT)
    if prompt is not None:
        text = checked_text(prompt, "prompt", "give a text, or leave prompt out to use prompts=")
        return PromptSet(name="prompt", prompts=(Prompt(id="prompt", text=text),), **options)
    if keys.file:
        found = list(_from_file(base / expanded(keys.file)))
    else:
        found = [read_item(item, f"prompts.items[{number}]", number) for number, item in enumerate(keys.items)]
    source = keys.file or keys.name
    if not found:
        raise PromptError(f"The prompt set {source} is empty", remedy="give prompts.items, prompts.file or prompt")
    with_system = [entry.id for entry in found if entry.system is not None and keys.chat is False]
    if with_system:
        raise PromptError(
            f"{source}: {plural(len(with_system), 'prompt')} with a system message (first: {with_system[0]}), which "
            "only a chat template can tell from the prompt",
            remedy="set prompts.chat=true, or take the system messages out",
        )
    if keys.categories is not None:
        found = _of_categories(found, keys.categories, source)
    if keys.limit is not None:
        found = _draw(found, keys.limit, keys.seed)
    found = [turn for entry in found for turn in _turns(entry, keys)]
    # A set with prompts of its own is not what the file holds.
    name = Path(keys.file).stem if keys.file and (keys.items or keys.name == "default") else keys.name
    return PromptSet(name=name, prompts=tuple(_with_unique_ids(found)), **options)


def _from_file(path: Path) -> Iterator[Prompt]:
    """JSON is read by its content: one value of any shape, else an object a line."""
    suffix = path.suffix.lower()
    if suffix in _OTHER_FORMATS:
        raise PromptError(f"The prompt file {path} is of a kind that isn't read", remedy=_FORMATS)
    text = _read(path)
    if suffix in (".yaml", ".yml"):
        yield from _from_content(_parse_yaml(path, text), path)
    elif suffix in (".jsonl", ".json", ".ndjson") or _has_json_lines(text):
        yield from _from_json(text, path)
    else:
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                where, remedy = f"{path}, line {number}", "write a prompt a line"
                yield Prompt(id=f"line-{number}", text=checked_text(line.removesuffix("\r"), where, remedy))


def _from_json(text: str, path: Path) -> Iterator[Prompt]:
    # Not splitlines(): texts in JSON may hold U+2028 and other separators as they are.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        return
    try:
        first: object = json.loads(lines[0][1])
    except (ValueError, RecursionError):  # one value over several lines, or nothing that is JSON
        yield from _from_content(_parse_json(text, path), path)
        return
    if len(lines) == 1 and _is_set(first):
        yield from _from_content(first, path)
        return
    for number, line in lines:
        yield read_item(_parse_json(line, path, number), f"{path}, line {number}", number)


def _read(path: Path) -> str:
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as opened:
            first = _first_of_pipe(opened.fileno()) if stat.S_ISFIFO(os.fstat(opened.fileno()).st_mode) else b""
            data = first + opened.read(_LARGEST_FILE + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        reason = getattr(error, "strerror", None) or str(error)
        raise PromptError(f"The prompt file {path} can't be read: {reason}", remedy="check prompts.file") from error
    if len(data) > _LARGEST_FILE:
        raise PromptError(f"The prompt file {path} has more than 256 MiB", remedy="check prompts.file")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # as Windows' shells write
        with suppress(UnicodeDecodeError):
            return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(error, path, PromptError) from error


def _first_of_pipe(pipe: int) -> bytes:
    """The first byte of a pipe, or nothing once somebody is there who will write it. Raises TimeoutError.

    Whoever opens one for reading would wait for ever where nobody writes.
    """
    until = time.monotonic() + _LONGEST_WAIT_S
    first = b""
    with suppress(BlockingIOError):  # somebody holds the other end, and has not written yet
        while not (first := os.read(pipe, 1)):
            if time.monotonic() > until:
                raise TimeoutError(errno.ETIMEDOUT, "it is a pipe, and nobody writes to it")
            time.sleep(0.05)
    os.set_blocking(pipe, True)
    return first


def _parse_yaml(path: Path, text: str) -> object:
    if len(text) > _LARGEST_YAML:
        raise PromptError(f"{path} has more than 16 MiB of YAML", remedy="write it as .jsonl, which reads faster")
    depth = deepest = 0
    for bracket in re.finditer(r"[\[\]{}]", text):
        depth = depth + 1 if bracket[0] in "[{" else max(depth - 1, 0)
        deepest = max(deepest, depth)
    if deepest > _DEEPEST_YAML:  # PyYAML's time grows with the square of the depth
        raise PromptError(f"{path} opens {_DEEPEST_YAML} brackets one within another", remedy="check prompts.file")
    try:
        return _load_bounded(text, path)
    # Beside its own errors safe_load lets those of Python's dates and numbers through.
    except (yaml.YAMLError, ValueError, ArithmeticError, TypeError, RecursionError, AttributeError) as error:
        raise not_yaml(error, path, PromptError) from error


def _load_bounded(text: str, path: Path) -> object:
    """As `yaml.safe_load`, but counts values before it makes any: merges (`<<`) and readers follow every repetition.

    Raises PromptError for more than a million, and whatever PyYAML and Python's dates and numbers raise.
    """
    loader = yaml.SafeLoader(text)
    node = loader.get_single_node()
    if node is None:
        return None
    _count(node, {}, path)
    return loader.construct_document(node)


def _count(node: yaml.Node, known: dict[yaml.Node, int], path: Path) -> int:
    """How many values a node stands for; `known`: of nodes that were counted. Raises PromptError."""
    if node in known:
        return known[node]
    known[node] = _MOST_VALUES  # one that holds itself never ends
    size = 1
    if isinstance(node, yaml.ScalarNode):
        if len(node.value) > _LONGEST_NUMBER and node.tag == "tag:yaml.org,2002:int":
            raise PromptError(
                f"{path}, line {node.start_mark.line + 1} has a number of {len(node.value)} characters",
                remedy="put it in quotes if it is a text",
            )
    else:
        for entry in node.value:
            size += sum(_count(part, known, path) for part in (entry if isinstance(entry, tuple) else (entry,)))
    if size > _MOST_VALUES:
        raise PromptError(
            f"{path} stands for more than {_MOST_VALUES:,} values with what its anchors repeat",
            remedy="write it as .jsonl, without anchors",
        )
    known[node] = size
    return size


def _has_json_lines(text: str) -> bool:
    """Whether each line is an item, whatever the file is called."""
    try:
        items = [json.loads(line) for line in text.split("\n") if line.strip()] if text.lstrip()[:1] == "{" else []
    except (ValueError, RecursionError):
        return False
    return bool(items) and all(isinstance(item, Mapping) and any(k in item for k in PROMPT_KEYS) for item in items)


def _is_set(value: object) -> bool:
    """Whether a JSON value holds items rather than being one."""
    if not isinstance(value, Mapping):
        return isinstance(value, list)
    return "items" in value or (
        not any(key in value for key in PROMPT_KEYS) and all(isinstance(v, list) for v in value.values())
    )


def _parse_json(text: str, path: Path, line: int = 1) -> object:
    """`line`: of the file, on which `text` begins."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        remedy = 'write one JSON object a line, e.g. {"question_id": 1, "category": "code", "turns": ["…"]}, or a list'
        line += error.lineno - 1 if isinstance(error, json.JSONDecodeError) else 0
        reason = error.msg if isinstance(error, json.JSONDecodeError) else error
        raise PromptError(f"{path}, line {line} is not JSON: {reason}", remedy=remedy) from error


def _from_content(content: object, path: Path) -> Iterator[Prompt]:
    """A list of items, a mapping with `items:`, one item, or a mapping from categories to lists."""
    if isinstance(content, Mapping) and "items" in content:
        content = content["items"]
    if isinstance(content, Mapping) and any(key in content for key in PROMPT_KEYS):
        content = [content]
    if isinstance(content, Mapping) and all(isinstance(items, list) for items in content.values()):
        pairs = ((category, item) for category, items in content.items() for item in items)
        for number, (category, item) in enumerate(pairs, start=1):
            yield read_item(item, f"{path}, {as_word(category)} item {number}", number, category)
        return
    if not isinstance(content, list):
        remedy = "write a list, a mapping with `items:`, or one from categories to lists"
        raise PromptError(f"{path} has no list of prompts", remedy=remedy)
    for number, item in enumerate(content, start=1):
        yield read_item(item, f"{path}, item {number}", number)


def _turns(entry: Prompt, keys: PromptKeys) -> list[Prompt]:
    """A prompt for each turn of a conversation that is to be replayed, which needs a chat template."""
    said = (entry.text, *entry.later)[: keys.turns] if keys.chat is not False else (entry.text,)
    if len(said) == 1:
        return [replace(entry, later=())]
    return [
        replace(entry, id=f"{entry.id}.{number}", text=text, before=said[: number - 1], later=(), turn=number)
        for number, text in enumerate(said, start=1)
    ]


def _of_categories(found: Sequence[Prompt], categories: Sequence[str], source: str) -> list[Prompt]:
    known = sorted({entry.category for entry in found if entry.category is not None})
    for category in categories:
        if category not in known:
            near = difflib.get_close_matches(str(category), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}"
            hint = hint if known else "none of its prompts has a category: leave prompts.categories (best's --for) out"
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
        yield entry if identity == entry.id else replace(entry, id=identity)
