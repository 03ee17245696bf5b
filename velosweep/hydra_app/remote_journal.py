"""The driver's copy of the journal that a worker writes on its own disk, updated line by line.

When the worker is lost, the next one gets the copy and continues from there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from velosweep.files import make_folder, write_bytes, write_text
from velosweep.results.journal import Journal, read_journal, row_to_sample
from velosweep.results.paths import SweepPaths
from velosweep.values import Sample


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderContent:
    """A group's sweep.json and journal."""

    record: str
    journal: bytes

    @classmethod
    def of(cls, folder: Path) -> FolderContent:
        """Read `folder`. Raises OSError."""
        paths = SweepPaths(folder)
        return cls(record=paths.record.read_text(encoding="utf-8"), journal=paths.journal.read_bytes())

    def write(self, folder: Path) -> None:
        """Write both files into `folder`, so that a sweep there resumes. Raises StorageError."""
        make_folder(folder)
        write_bytes(SweepPaths(folder).journal, self.journal)
        write_text(SweepPaths(folder).record, self.record)


def line_sender(folder: Path, send: Callable[[str | bytes], None]) -> Callable[[bytes], None]:
    """An `on_line` for `run_sweep` in `folder`: sends each journal line, and sweep.json's text before the first."""
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
        """What has arrived so far; None before the record has, without which no worker can resume."""
        return FolderContent.of(self._folder) if self._paths.record.is_file() else None

    def samples(self) -> tuple[Sample, ...]:
        """The samples that have arrived so far."""
        return read_journal(self._paths.journal).samples

    def take(self, content: str | bytes) -> Sample | None:
        """Store what `line_sender` sent; returns the sample if it is one."""
        if isinstance(content, str):
            write_text(self._paths.record, content)
            return None
        row = json.loads(content)
        if row["kind"] == "journal":  # the header line, which our file has already
            return None
        self._journal.copy(content)
        return row_to_sample(row) if row["kind"] == "sample" else None

    def put_aside(self) -> None:
        """Start over with an empty journal; the old one is kept under another name."""
        self._journal.close()
        number = sum(1 for _ in self._folder.glob("journal-*.jsonl"))
        self._paths.journal.rename(self._paths.journal.with_name(f"journal-{number}.jsonl"))
        self._paths.record.unlink(missing_ok=True)
        self._journal = Journal(self._paths.journal, lock=self._paths.lock)

    def complete(self, content: FolderContent) -> None:
        """Replace both files by the worker's final ones."""
        content.write(self._folder)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.close()
