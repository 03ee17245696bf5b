"""summaries.json: the array of all jobs' summaries, as a whole or in parts that are written side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from velosweep.errors import StorageError
from velosweep.files import explained, read_bytes, replacing

_PART_FILES = 500
_BEGIN, _NEXT = b"[\n  ", b",\n  "  # of one length


@contextmanager
def writing_summaries(path: Path) -> Iterator[Callable[[bytes], None]]:
    """A function that adds a summary (what is in its file) to the array.

    The file is there when the block has ended well. Raises StorageError.
    """
    with replacing(path) as beside, beside.open("wb") as file:

        def add(content: bytes) -> None:
            file.write(_before(file.tell()) + _item(content))

        yield add
        file.write(_end(file.tell()))


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrayPart:
    """Summary files whose contents stand one after another in an array, from `offset` to `end`."""

    offset: int
    end: int
    files: tuple[Path, ...]


def array_parts(files: Sequence[tuple[Path, int]]) -> list[ArrayPart]:
    """The array of these summaries (each file with its `item_size`) in parts that can be written side by side."""
    parts: list[ArrayPart] = []
    offset = 0
    for first in range(0, len(files), _PART_FILES):
        some = files[first : first + _PART_FILES]
        end = offset + sum(len(_before(offset)) + size for _, size in some)
        parts.append(ArrayPart(offset=offset, end=end, files=tuple(file for file, _ in some)))
        offset = end
    return parts


def write_array_part(path: Path, part: ArrayPart) -> None:
    """Write a part of the array to its place in `path`. Raises StorageError, for other sizes than were told too."""
    with explained(path), path.open("r+b") as file:
        file.seek(part.offset)
        for summary_file in part.files:
            file.write(_before(file.tell()) + _item(read_bytes(summary_file)))
        if file.tell() != part.end:
            raise StorageError(
                f"{part.files[0]} or one of the {len(part.files) - 1} summaries after it was changed meanwhile",
                remedy="run `velosweep collate` on the folder again",
            )


@contextmanager
def array_of(path: Path, parts: Sequence[ArrayPart]) -> Iterator[Path]:
    """A file for `write_array_part`, which becomes `path` when the block ends well. Raises StorageError.

    As the summaries in it, it can be derived again: it is moved into place but not synced.
    """
    with replacing(path, durable=False) as beside:
        size = parts[-1].end if parts else 0
        with beside.open("wb") as file:
            file.seek(size)
            file.write(_end(size))
        yield beside


def _before(offset: int) -> bytes:
    return _NEXT if offset else _BEGIN


def _end(offset: int) -> bytes:
    return b"\n]\n" if offset else b"[]\n"


def _item(content: bytes) -> bytes:
    """A summary as it stands in the array. Texts in JSON hold no line ends: these are the layout's."""
    return content.rstrip(b"\n").replace(b"\n", b"\n  ")


def item_size(content: bytes) -> int:
    """Bytes that a summary takes in the array, without what divides it from the one before."""
    return len(_item(content))
