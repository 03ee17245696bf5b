"""What a resumed sweep builds upon: groups stay as they were."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.planning.jobs import jobs_over_n_draft
from velosweep.measuring.resuming import plan_with_earlier


@given(
    n_drafts=st.lists(st.integers(1, 64), unique=True, min_size=1, max_size=20),
    before=st.integers(0, 20),
    rooms=st.tuples(st.integers(2, 8), st.integers(2, 8)),
    lanes=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_a_job_keeps_the_block_it_was_measured_in(
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
