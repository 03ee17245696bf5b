"""Prompt sets: one text, YAML items, a text file, or JSONL as SPEED-Bench, Spec-Bench and MT-Bench use."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from velosweep.errors import PromptError
from velosweep.model import Prompt, PromptSet

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def load_prompts(
    *,
    prompt: str | None,
    name: str,
    items: Sequence[Mapping[str, Any] | str] = (),
    file: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    categories: Sequence[str] | None = None,
    chat: bool = False,
    base: Path,
) -> PromptSet:
    """The prompts that a configuration names; a `prompt` of its own goes before the set.

    `file` is relative to `base`. `limit` draws that many with `seed`, evenly over categories, in the set's order.
    Raises PromptError with file, line and what to do.
    """
    if prompt is not None:
        if not prompt.strip():
            raise PromptError("prompt is empty", remedy="give a text, or leave prompt out to use prompts=")
        return PromptSet(name="prompt", prompts=(Prompt(id="prompt", text=prompt),), chat=chat)
    found = (
        list(_from_file(base / Path(file).expanduser()))
        if file
        else [_prompt(item, f"prompts.items[{number}]", number) for number, item in enumerate(items)]
    )
    if categories is not None:
        known = sorted({entry.category for entry in found if entry.category})
        found = [entry for entry in found if entry.category in categories]
        if not found:
            raise PromptError(
                f"no prompt of {file or name} has a category of {list(categories)}",
                remedy=f"choose from {', '.join(known) or 'none: the prompts have no categories'}",
            )
    if not found:
        raise PromptError(f"the prompt set {name} is empty", remedy="give prompts.items, prompts.file or prompt")
    if limit is not None:
        found = _draw(found, limit, seed)
    return PromptSet(name=name, prompts=tuple(_with_unique_ids(found)), chat=chat)


def _from_file(path: Path) -> Iterator[Prompt]:
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise PromptError(f"The prompt file {path} can't be read: {reason}", remedy="check prompts.file") from error
    if path.suffix in (".yaml", ".yml"):
        yield from _from_yaml(path, text)
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        if path.suffix in (".jsonl", ".json"):
            yield _prompt(_parse_json(path, number, line), f"{path}, line {number}", number)
        else:
            yield Prompt(id=f"line-{number}", text=line)


def _from_yaml(path: Path, text: str) -> Iterator[Prompt]:
    import yaml

    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PromptError(f"{path} is not YAML: {error}", remedy="check prompts.file") from error
    items = content.get("items") if isinstance(content, dict) else content
    if not isinstance(items, list):
        raise PromptError(f"{path} has no list of prompts", remedy="write a list, or a mapping with `items:`")
    for number, item in enumerate(items):
        yield _prompt(item, f"{path}, item {number}", number)


def _parse_json(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise PromptError(
            f"{path}, line {number} is not JSON: {error}", remedy="write one JSON object a line"
        ) from error


def _prompt(item: object, where: str, number: int) -> Prompt:
    if isinstance(item, str):
        item = {"text": item}
    if not isinstance(item, Mapping):
        raise PromptError(f"{where} is neither a text nor an object", remedy="write {id, text, category} or a text")
    turns = item.get("turns")
    first_turn = turns[0] if isinstance(turns, list) and turns else None
    text = next((value for value in (item.get("text"), item.get("prompt"), first_turn) if value is not None), None)
    if not isinstance(text, str) or not text.strip():
        raise PromptError(f"{where} has no text", remedy="give it `text`, `prompt` or `turns`")
    identity = item.get("id", item.get("question_id"))
    category = item.get("category")
    return Prompt(
        id=_UNSAFE.sub("-", str(identity)).strip("-.")[:64] if identity is not None else f"prompt-{number}",
        text=text,
        category=None if category is None else str(category),
    )


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
    seen: set[str] = set()
    for entry in found:
        identity, copy = entry.id or "prompt", 1
        while identity.lower() in seen:  # file names may not tell cases apart
            copy += 1
            identity = f"{entry.id}-{copy}"
        seen.add(identity.lower())
        yield entry if identity == entry.id else Prompt(id=identity, text=entry.text, category=entry.category)
