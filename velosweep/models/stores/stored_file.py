"""A model file as a store has it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


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
    except OSError:
        return
    for path in entries:
        if path.suffix.lower() == ".gguf" and path.is_file():
            yield StoredFile(path=path, name=path.name, store=store)
        elif depth > 1 and not path.name.startswith(".") and path.is_dir():
            for inner in gguf_files(path, store, depth=depth - 1):
                yield StoredFile(path=inner.path, name=f"{path.name}/{inner.name}", store=store)
