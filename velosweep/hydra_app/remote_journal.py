"""The driver's copy of a journal that a worker writes where the driver can't read: each line as it is written.

What has come is safe when the worker is lost: the next one is given it, and goes on from there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from velosweep.files import make_folder, write_bytes, write_text
from velosweep.results.journal import Journal, kind_of, read_journal, row_to_sample
from velosweep.results.paths import SweepPaths
from velosweep.values import Sample


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderContent:
    """A group's sweep.json and journal."""

    record: str
    journal: bytes

    @classmethod
    def of(cls, folder: Path) -> FolderContent:
        """What is in `folder`. Raises OSError."""
        paths = SweepPaths(folder)
        return cls(record=paths.record.read_text(encoding="utf-8"), journal=paths.journal.read_bytes())

    def write(self, folder: Path) -> None:
        """Make `folder` one in which a sweep goes on. Raises StorageError."""
        make_folder(folder)
        write_bytes(SweepPaths(folder).journal, self.journal)
        write_text(SweepPaths(folder).record, self.record)


def line_sender(folder: Path, send: Callable[[str | bytes], None]) -> Callable[[bytes], None]:
    """What `run_sweep` calls with each line of the journal in `folder`: sends it, and before it sweep.json's text."""
    record, sent = SweepPaths(folder).record, False

    def on_line(line: bytes) -> None:
        nonlocal sent
        if not sent and record.is_file():
            send(record.read_text(encoding="utf-8"))
            sent = True
        send(line)

    return on_line


class JournalReplica(AbstractContextManager["JournalReplica"]):
    """A group's folder on the driver. All methods raise StorageError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths = SweepPaths(folder)
        self._journal = Journal(self._paths.journal, lock=self._paths.lock)

    def content(self) -> FolderContent | None:
        """What has come so far; None where that is nothing that a worker can go on with."""
        return FolderContent.of(self._folder) if self._paths.record.is_file() else None

    def samples(self) -> tuple[Sample, ...]:
        """The samples that have come so far."""
        return read_journal(self._paths.journal).samples

    def take(self, content: str | bytes) -> Sample | None:
        """Put on disk what `line_sender` sent; the sample that it holds, if it does."""
        if isinstance(content, str):
            write_text(self._paths.record, content)
            return None
        if (held := kind_of(content)) == "journal":  # the first line, which ours has
            return None
        self._journal.copy(content)
        return row_to_sample(json.loads(content)) if held == "sample" else None

    def put_aside(self) -> None:
        """Begin anew; what has come stays to be looked at."""
        self._journal.close()
        number = sum(1 for _ in self._folder.glob("journal-*.jsonl"))
        self._paths.journal.rename(self._paths.journal.with_name(f"journal-{number}.jsonl"))
        self._paths.record.unlink(missing_ok=True)
        self._journal = Journal(self._paths.journal, lock=self._paths.lock)

    def complete(self, content: FolderContent) -> None:
        """Keep the folder as the worker left it."""
        content.write(self._folder)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.close()
