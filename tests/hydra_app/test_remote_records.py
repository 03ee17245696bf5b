"""The records of a sweep that groups of jobs were measured of elsewhere."""

from __future__ import annotations

from dataclasses import replace

from tests.planning.jobs import job
from tests.results.made import record as make_record
from velosweep.config.settings import Job, RunSettings
from velosweep.hydra_app.remote import RemoteGroup, _job_records
from velosweep.measuring.opening import job_record
from velosweep.records import SweepRecord


def group(name: str, *jobs: Job) -> RemoteGroup:
    return RemoteGroup(name=name, jobs=jobs, settings=RunSettings(), command=(), fingerprints={})


def measured(*jobs: Job) -> SweepRecord:
    return replace(make_record(), jobs=tuple(replace(job_record(one), state="done") for one in jobs))


def test_jobs_that_came_to_one_run_have_one_record_within_a_group_and_across_groups() -> None:
    four, eight, twelve = (job(num=num, n_draft=n) for num, n in enumerate((4, 8, 12)))
    run = replace(four, id="ngram-cache at 8", n_draft=8)
    groups = [group("a", four, eight), group("b", twelve)]
    found = {"a": (measured(replace(run, twins=(1,))), ()), "b": (measured(replace(run, num=2)), ())}

    (record,) = _job_records([four, eight, twelve], groups, found, {})

    assert (record.num, record.twins, record.state) == (0, (1, 2), "done")


def test_jobs_of_a_group_that_is_lost_each_say_why() -> None:
    jobs = [job(num=num, n_draft=n) for num, n in enumerate((4, 8))]

    records = _job_records(jobs, [group("a", *jobs)], {}, {"a": "its worker died"})

    assert [(record.num, record.state, record.error) for record in records] == [
        (0, "failed", "its worker died"),
        (1, "failed", "its worker died"),
    ]
