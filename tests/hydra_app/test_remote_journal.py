"""What a worker writes is on the driver's disk line by line, and whoever takes its group over goes on from there."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tests.results.made import record as make_record
from tests.results.made import sample as make_sample
from velosweep.errors import StorageError
from velosweep.hydra_app.remote_journal import JournalReplica, line_sender, sweep_files, write_sweep_files
from velosweep.results.journal import Journal, read_journal
from velosweep.results.paths import SweepPaths
from velosweep.results.sweep_record import write_record
from velosweep.values import Sample

SAMPLES = [make_sample(number) for number in range(5)]


def measure(folder: Path, replica: JournalReplica, samples: list[Sample]) -> list[Sample | None]:
    """What a worker does: go on with what the driver has, write the record, journal samples; what the driver took."""
    taken: list[Sample | None] = []
    earlier = replica.files()
    if earlier is not None:
        write_sweep_files(folder, earlier)
    paths = SweepPaths(folder)
    on_line = line_sender(folder, lambda content: taken.append(replica.take(content)))
    with Journal(paths.journal, on_line=on_line) as journal:
        write_record(paths.record, make_record())
        journal.note("plan", blocks=[], accepted=[])
        for sample in samples:
            journal.append(sample)
    return [sample for sample in taken if sample is not None]


def test_each_sample_is_on_the_driver_s_disk_as_soon_as_it_is_on_the_worker_s(tmp_path: Path) -> None:
    with closing(JournalReplica(tmp_path / "here")) as replica:
        taken = measure(tmp_path / "there", replica, SAMPLES[:3])

        here, there = SweepPaths(tmp_path / "here"), SweepPaths(tmp_path / "there")
        assert taken == SAMPLES[:3]
        assert list(read_journal(here.journal).samples) == SAMPLES[:3]
        assert [event.kind for event in read_journal(here.journal).events] == ["plan"]
        assert here.record.read_text() == there.record.read_text()


def test_who_takes_a_group_over_has_what_came_before_and_sends_only_its_own(tmp_path: Path) -> None:
    with closing(JournalReplica(tmp_path / "here")) as replica:
        measure(tmp_path / "lost", replica, SAMPLES[:2])
        taken = measure(tmp_path / "next", replica, SAMPLES[2:])

        assert taken == SAMPLES[2:]
        assert list(read_journal(SweepPaths(tmp_path / "next").journal).samples) == SAMPLES
        assert list(replica.samples()) == SAMPLES


def test_a_group_s_end_leaves_the_driver_what_the_worker_has(tmp_path: Path) -> None:
    with closing(JournalReplica(tmp_path / "here")) as replica:
        measure(tmp_path / "there", replica, SAMPLES)
        SweepPaths(tmp_path / "here").journal.write_bytes(b"a line was lost\n")

        write_sweep_files(replica.folder, sweep_files(tmp_path / "there"))

    assert sweep_files(tmp_path / "here") == sweep_files(tmp_path / "there")


def test_what_begins_anew_puts_the_former_journal_aside(tmp_path: Path) -> None:
    with closing(JournalReplica(tmp_path / "here")) as replica:
        measure(tmp_path / "lost", replica, SAMPLES[:2])
        replica.put_aside()

        assert replica.files() is None
        assert replica.samples() == ()
        assert measure(tmp_path / "next", replica, SAMPLES) == SAMPLES
    assert list(read_journal(tmp_path / "here" / "journal-0.jsonl").samples) == SAMPLES[:2]


def test_a_driver_that_is_started_again_knows_what_has_come(tmp_path: Path) -> None:
    with closing(JournalReplica(tmp_path / "here")) as replica:
        measure(tmp_path / "lost", replica, SAMPLES[:2])

    with closing(JournalReplica(tmp_path / "here")) as replica:
        assert list(replica.samples()) == SAMPLES[:2]
        assert measure(tmp_path / "next", replica, SAMPLES[2:]) == SAMPLES[2:]


def test_a_line_that_was_damaged_on_its_way_is_refused(tmp_path: Path) -> None:
    with closing(JournalReplica(tmp_path / "here")) as replica:
        with Journal(tmp_path / "journal.jsonl") as journal:
            journal.append(SAMPLES[0])
        line = (tmp_path / "journal.jsonl").read_bytes().splitlines(keepends=True)[-1]

        with pytest.raises(StorageError, match="checksum"):
            replica.take(line.replace(b'"order":0', b'"order":1'))
