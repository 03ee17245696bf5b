"""What a resumed sweep builds upon: groups stay as they were, and nothing of another sweep is overwritten."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.planning.jobs import jobs_over_n_draft
from velosweep.config.settings import Job, Sweep
from velosweep.errors import MismatchError
from velosweep.measuring.resuming import adopt, plan_with_earlier
from velosweep.records import Environment

NOW = datetime(2026, 10, 1, tzinfo=timezone.utc)
HERE = Environment(
    velosweep="1", python="3", host="h", system="s", cpu="c", physical_cores=1, logical_cores=1, memory_bytes=1,
    devices=(), engine="server", program=None, program_sha256=None, llama_cpp_build="b",
)  # fmt: skip


def sweep(jobs: tuple[Job, ...]) -> Sweep:
    return Sweep(id="s", root="/r", jobs=jobs)


@given(
    n_drafts=st.lists(st.integers(1, 64), unique=True, min_size=1, max_size=20),
    before=st.integers(0, 20),
    rooms=st.tuples(st.integers(2, 8), st.integers(2, 8)),
    lanes=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_a_job_keeps_the_group_it_was_measured_in(
    n_drafts: list[int], before: int, rooms: tuple[int, int], lanes: tuple[int, int]
) -> None:
    jobs = jobs_over_n_draft(*n_drafts)
    first = (
        plan_with_earlier(jobs[:before], {}, lanes=lanes[0], resident_servers=lambda job: rooms[0]) if before else ()
    )
    earlier = {job.id: (job.baseline_id, group.number) for group in first for job in group.jobs}
    second = plan_with_earlier(jobs, earlier, lanes=lanes[1], resident_servers=lambda job: rooms[1])

    assert Counter(job.id for group in second for job in group.jobs) == Counter(job.id for job in jobs)
    assert len({(group.jobs[0].baseline_id, group.number) for group in second}) == len(second)
    assert all(len(group.servers) <= rooms[1] for group in second)
    if rooms[1] >= rooms[0]:
        now = {job.id: (job.baseline_id, group.number) for group in second for job in group.jobs}
        assert {job_id: now[job_id] for job_id in earlier} == earlier


def test_the_same_grid_is_adopted_with_what_is_known_of_it() -> None:
    jobs = jobs_over_n_draft(4, 8)
    record = adopt(None, sweep(jobs), HERE, now=NOW)
    done = replace(record, jobs=(replace(record.jobs[0], state="failed", error="it died"), record.jobs[1]))
    again = adopt(done, sweep(jobs), replace(HERE, host="elsewhere"), now=NOW, accepted=["host was h, is elsewhere"])

    assert again.jobs == done.jobs
    assert again.environment.host == "h"
    assert again.accepted == ("host was h, is elsewhere",)


def test_a_grown_grid_adds_its_new_jobs() -> None:
    jobs = jobs_over_n_draft(4, 8, 12)
    record = adopt(adopt(None, sweep(jobs[:2]), HERE, now=NOW), sweep(jobs), HERE, now=NOW)

    assert [job.n_draft for job in record.jobs] == [4, 8, 12]


def test_another_job_in_the_place_of_one_that_stands_is_refused() -> None:
    record = adopt(None, sweep(jobs_over_n_draft(4, 8)), HERE, now=NOW)

    with pytest.raises(MismatchError, match=r"job 1 .* would overwrite the results of job 1"):
        adopt(record, sweep(jobs_over_n_draft(4, 12)), HERE, now=NOW)
