"""The records of a sweep that groups of jobs were measured of elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.planning.jobs import job
from tests.results.made import record as make_record
from tests.results.made import sample as make_sample
from velosweep.config.settings import Job, RunSettings
from velosweep.errors import BusyError
from velosweep.hydra_app.remote import RemoteGroup, _job_records, merge
from velosweep.measuring.opening import job_record
from velosweep.records import SweepRecord
from velosweep.results.journal import read_journal, sweep_lock, write_journal
from velosweep.results.paths import SweepPaths
from velosweep.results.sweep_record import write_record


def group(name: str, *jobs: Job) -> RemoteGroup:
    return RemoteGroup(name=name, jobs=jobs, settings=RunSettings(), command=(), fingerprints={})


def measured(*jobs: Job) -> SweepRecord:
    return replace(make_record(), jobs=tuple(replace(job_record(one), state="done") for one in jobs))


@pytest.fixture
def measured_groups(tmp_path: Path) -> list[RemoteGroup]:
    """Of a sweep in the folder: one group with three samples."""
    one = job(num=0, n_draft=4)
    paths = SweepPaths(group("a", one).folder(tmp_path))
    paths.root.mkdir(parents=True)
    write_record(paths.record, measured(one))
    write_journal(paths.journal, [make_sample(number) for number in range(3)])
    return [group("a", one)]


def test_a_sweep_that_others_write_keeps_its_journal(tmp_path: Path, measured_groups: list[RemoteGroup]) -> None:
    paths = SweepPaths(tmp_path)
    paths.journal.write_bytes(b"what was merged before\n")

    with sweep_lock(paths.lock), pytest.raises(BusyError):
        merge(tmp_path, measured_groups[0].jobs, measured_groups, {})

    assert paths.journal.read_bytes() == b"what was merged before\n"


def test_what_is_damaged_in_a_groups_journal_is_told(
    tmp_path: Path, measured_groups: list[RemoteGroup], capsys: pytest.CaptureFixture[str]
) -> None:
    journal = SweepPaths(measured_groups[0].folder(tmp_path)).journal
    journal.write_bytes(journal.read_bytes()[:-1])

    merge(tmp_path, measured_groups[0].jobs, measured_groups, {})

    assert capsys.readouterr().err == f"Lost: {journal}, line 4: torn: the write was cut short\n"
    merged = read_journal(SweepPaths(tmp_path).journal)
    assert (len(merged.samples), merged.damaged) == (2, ())
    assert {sample.lane for sample in merged.samples} == {0}


def test_jobs_that_came_to_one_run_have_one_record_within_a_group_and_across_groups() -> None:
    four, eight, twelve = (job(num=num, n_draft=n) for num, n in enumerate((4, 8, 12)))
    run = replace(four, id="ngram-cache at 8", n_draft=8)
    groups = [group("a", four, eight), group("b", twelve)]
    found = {"a": measured(replace(run, twins=(1,))), "b": measured(replace(run, num=2))}

    (record,) = _job_records([four, eight, twelve], groups, found, {})

    assert (record.num, record.twins, record.state) == (0, (1, 2), "done")


def test_jobs_of_a_group_that_is_lost_each_say_why() -> None:
    jobs = [job(num=num, n_draft=n) for num, n in enumerate((4, 8))]

    records = _job_records(jobs, [group("a", *jobs)], {}, {"a": "its worker died"})

    assert [(record.num, record.state, record.error) for record in records] == [
        (0, "failed", "its worker died"),
        (1, "failed", "its worker died"),
    ]
