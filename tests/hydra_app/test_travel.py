"""A group's journal arrives whole, once, and from one worker at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.results.made import record as make_record
from tests.results.made import sample as make_sample
from velosweep.errors import StorageError
from velosweep.hydra_app.remote_journal import JournalReplica, ResumeState, sender, settle_in
from velosweep.results.journal import Journal, read_journal
from velosweep.results.paths import SweepPaths
from velosweep.results.sweep_record import write_record
from velosweep.values import Sample


class JournalChannel:
    """Hands everything to a mirror at once."""

    def __init__(self, mirror: JournalReplica, attempt: str) -> None:
        self.mirror = mirror
        self.attempt = attempt
        self.seen: list[Sample | None] = []

    def carried(self) -> ResumeState:
        return self.mirror.begin(self.attempt)

    def afresh(self) -> None:
        self.mirror.afresh(self.attempt)

    def record(self, text: str) -> None:
        self.mirror.record(self.attempt, text)

    def line(self, line: bytes) -> None:
        self.seen.append(self.mirror.line(self.attempt, line))


def measure(folder: Path, wire: JournalChannel, samples: list[Sample]) -> None:
    """What a worker does: settle in, write the record, journal samples."""
    folder.mkdir()
    settle_in(folder, wire.carried())
    paths = SweepPaths(folder)
    with Journal(paths.journal, on_line=sender(folder, wire)) as journal:
        write_record(paths.record, make_record())
        journal.note("plan", blocks=[], accepted=[])
        for sample in samples:
            journal.append(sample)


SAMPLES = [make_sample(number) for number in range(5)]


def test_each_sample_is_on_the_driver_s_disk_as_soon_as_it_is_on_the_worker_s(tmp_path: Path) -> None:
    with JournalReplica(tmp_path / "here") as mirror:
        wire = JournalChannel(mirror, "1")
        measure(tmp_path / "there", wire, SAMPLES[:3])

        paths = SweepPaths(tmp_path / "here")
        assert list(read_journal(paths.journal).samples) == SAMPLES[:3]
        assert [event.kind for event in read_journal(paths.journal).events] == ["plan"]
        assert paths.record.read_text() == SweepPaths(tmp_path / "there").record.read_text()
        assert [sample for sample in wire.seen if sample] == SAMPLES[:3]


def test_who_takes_a_group_over_has_what_came_before_and_the_end_brings_only_the_rest(tmp_path: Path) -> None:
    with JournalReplica(tmp_path / "here") as mirror:
        measure(tmp_path / "lost", JournalChannel(mirror, "1"), SAMPLES[:2])
        measure(tmp_path / "next", JournalChannel(mirror, "2"), SAMPLES[2:4])
        there = read_journal(SweepPaths(tmp_path / "next").journal).samples

        assert list(there) == SAMPLES[:4]
        assert list(mirror.complete(make_record(), (*there, SAMPLES[4]))) == SAMPLES[4:]
        assert list(read_journal(SweepPaths(tmp_path / "here").journal).samples) == SAMPLES


def test_a_worker_that_was_given_up_is_not_listened_to(tmp_path: Path) -> None:
    with JournalReplica(tmp_path / "here") as mirror:
        old, new = JournalChannel(mirror, "1"), JournalChannel(mirror, "2")
        old.carried()
        new.carried()
        with Journal(tmp_path / "there" / "journal.jsonl", on_line=old.line) as journal:
            journal.append(SAMPLES[0])
        old.afresh()

        assert read_journal(SweepPaths(tmp_path / "here").journal).samples == ()
        assert not list((tmp_path / "here").glob("journal-*"))


def test_what_begins_anew_puts_the_former_journal_aside(tmp_path: Path) -> None:
    with JournalReplica(tmp_path / "here") as mirror:
        measure(tmp_path / "lost", JournalChannel(mirror, "1"), SAMPLES[:2])
        wire = JournalChannel(mirror, "2")
        wire.carried()
        wire.afresh()

        assert wire.carried() == ResumeState()
        assert list(mirror.complete(make_record(), tuple(SAMPLES))) == SAMPLES
    assert list(read_journal(tmp_path / "here" / "journal-0.jsonl").samples) == SAMPLES[:2]


def test_a_driver_that_is_started_again_knows_what_has_come(tmp_path: Path) -> None:
    with JournalReplica(tmp_path / "here") as mirror:
        measure(tmp_path / "lost", JournalChannel(mirror, "1"), SAMPLES[:2])

    with JournalReplica(tmp_path / "here") as mirror:
        assert list(mirror.earlier) == SAMPLES[:2]
        assert list(mirror.complete(make_record(), tuple(SAMPLES))) == SAMPLES[2:]


def test_a_line_that_was_damaged_on_its_way_is_refused(tmp_path: Path) -> None:
    with JournalReplica(tmp_path / "here") as mirror:
        mirror.begin("1")
        with Journal(tmp_path / "journal.jsonl") as journal:
            journal.append(SAMPLES[0])
        line = (tmp_path / "journal.jsonl").read_bytes().splitlines(keepends=True)[-1]

        with pytest.raises(StorageError, match="checksum"):
            mirror.line("1", line.replace(b'"order":0', b'"order":1'))
