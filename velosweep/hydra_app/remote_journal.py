"""A group's journal on its way from a worker to the driver: each line as it is written, nothing shared but a wire.

The driver's mirror is the truth: who takes a group over asks the driver what has come, and goes on from there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from velosweep.records import SweepRecord
from velosweep.values import Sample


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumeState:
    """What has come of a group so far: sweep.json's text (None: nothing has come) and the journal's lines."""

    record: str | None = None
    journal: bytes = b""


class JournalChannel(Protocol):
    """A worker's way to its driver, for one attempt at a group."""

    def carried(self) -> ResumeState:
        """Announce this attempt and ask what earlier ones have brought. Raises StorageError without an answer."""

    def afresh(self) -> None:
        """Say that this attempt begins anew: what earlier ones have brought does not count."""

    def record(self, text: str) -> None:
        """Send sweep.json; does not wait."""

    def line(self, line: bytes) -> None:
        """Send a line of the journal; does not wait."""


def settle_in(folder: Path, carried: ResumeState) -> None:
    """Make a worker's folder what the driver has of the group, so that a sweep there goes on. Raises StorageError."""
    from velosweep.files import make_folder, write_bytes, write_text
    from velosweep.results.paths import SweepPaths

    paths = SweepPaths(folder)
    make_folder(folder)
    if carried.record is not None:
        write_text(paths.record, carried.record)
        write_bytes(paths.journal, carried.journal)


def sender(folder: Path, wire: JournalChannel) -> Callable[[bytes], None]:
    """What a journal calls with each of its lines: sends it on, sweep.json before the first that follows it."""
    from velosweep.results.paths import SweepPaths

    record = SweepPaths(folder).record
    sent = False

    def send(line: bytes) -> None:
        nonlocal sent
        if not sent and record.is_file():
            wire.record(record.read_text(encoding="utf-8"))
            sent = True
        wire.line(line)

    return send


# ---------------------------------------------------------------- on the driver


class JournalReplica(AbstractContextManager["JournalReplica"]):
    """The driver's copy of a group's folder, filled as the lines come.

    Only the latest attempt is listened to: a worker that was given up may be cut off and not dead. All methods
    raise StorageError.
    """

    def __init__(self, folder: Path) -> None:
        from velosweep.results.journal import Journal, read_journal
        from velosweep.results.paths import SweepPaths

        self._paths = SweepPaths(folder)
        self._journal = Journal(self._paths.journal, lock=self._paths.lock)
        self._attempt: str | None = None
        # a journal without its record can't be gone on with, so its samples are not reckoned with
        earlier = read_journal(self._paths.journal).samples if self._paths.record.is_file() else ()
        self._known = {_mark(sample) for sample in earlier}
        self.earlier = tuple(earlier)

    def begin(self, attempt: str) -> ResumeState:
        """A worker begins: listen to nobody else. Returns what it can go on with."""
        self._attempt = attempt
        if not self._paths.record.is_file():
            return ResumeState()
        return ResumeState(
            record=self._paths.record.read_text(encoding="utf-8"),
            journal=b"".join(self._sound_lines()),
        )

    def afresh(self, attempt: str) -> None:
        """Put aside what came of earlier attempts; it stays to be looked at."""
        from velosweep.results.journal import Journal

        if attempt != self._attempt:
            return
        self._journal.close()
        number = sum(1 for _ in self._paths.root.glob("journal-*.jsonl"))
        self._paths.journal.rename(self._paths.journal.with_name(f"journal-{number}.jsonl"))
        self._paths.record.unlink(missing_ok=True)
        self._known.clear()
        self._journal = Journal(self._paths.journal, lock=self._paths.lock)

    def record(self, attempt: str, text: str) -> None:
        """Keep sweep.json as the worker has it."""
        from velosweep.files import write_text

        if attempt == self._attempt:
            write_text(self._paths.record, text)

    def line(self, attempt: str, line: bytes) -> Sample | None:
        """Put a line of the worker's journal on disk; the sample that it holds, if it does."""
        from velosweep.results.journal import kind_of, row_to_sample

        kind = kind_of(line)
        if attempt != self._attempt or kind == "journal":
            return None
        self._journal.copy(line)
        if kind != "sample":
            return None
        sample = row_to_sample(json.loads(line))
        self._known.add(_mark(sample))
        return sample

    def complete(self, record: SweepRecord, samples: tuple[Sample, ...]) -> Iterator[Sample]:
        """Keep the group's final record, and what of its samples has not come by itself."""
        from velosweep.results.sweep_record import write_record

        for sample in samples:
            if _mark(sample) not in self._known:
                self._known.add(_mark(sample))
                self._journal.append(sample)
                yield sample
        write_record(self._paths.record, record)

    def _sound_lines(self) -> Iterator[bytes]:
        from velosweep.results.journal import scan

        return (line for _, line, damaged in scan(self._paths.journal) if damaged is None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.close()


def _mark(sample: Sample) -> tuple[object, ...]:
    """What tells a run from every other run of its group."""
    return (sample.host, sample.started_at, sample.lane, sample.order)
