"""A model file as a store has it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LARGEST_NOTE = 1 << 22


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFile:
    """`name`: what the store calls the model; `store`: the program, or the folder where it lies."""

    path: Path
    name: str
    store: str


def gguf_files(folder: Path, store: str, *, depth: int = 3) -> Iterator[StoredFile]:
    """The GGUF files of a folder and of folders in it, so many levels deep, called by their path in it.

    Hidden folders are left out; a folder that can't be read has none.
    """
    try:
        entries = sorted(folder.iterdir())
    except (OSError, ValueError):  # ValueError: a name with a NUL
        return
    for path in entries:
        if path.suffix.lower() == ".gguf" and is_file(path):
            yield StoredFile(path=path, name=path.name, store=store)
        elif depth > 1 and not path.name.startswith(".") and os.path.isdir(path):  # noqa: PTH112 (raises nothing)
            for inner in gguf_files(path, store, depth=depth - 1):
                yield StoredFile(path=inner.path, name=f"{path.name}/{inner.name}", store=store)


def is_file(path: Path) -> bool:
    """Whether a regular file is there that can be asked for; `Path.is_file` raises where that is forbidden."""
    return os.path.isfile(path)  # noqa: PTH113


def note_text(path: Path) -> str:
    """What a program wrote into a small file of its store; empty where it is no text, no file, or not small."""
    try:
        return path.read_text(encoding="utf-8") if is_file(path) and path.stat().st_size <= _LARGEST_NOTE else ""
    except (OSError, ValueError):
        return ""


def note_json(path: Path) -> object:
    """As `note_text`, parsed; None for what is no JSON."""
    try:
        return json.loads(note_text(path))
    except (ValueError, RecursionError):
        return None
