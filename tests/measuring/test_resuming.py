"""What a resumed sweep builds upon: groups stay as they were."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.planning.jobs import jobs_over_n_draft, of_builds
from velosweep.planning.identity import identify
from velosweep.planning.server_groups import plan_with_earlier


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


@pytest.mark.parametrize(("room", "groups", "together"), [(3, 2, False), (4, 4, True), (6, 2, True)])
def test_builds_share_the_room_there_is_and_are_measured_alone_where_their_pairs_do_not_fit(
    room: int, groups: int, together: bool
) -> None:
    jobs = of_builds(jobs_over_n_draft(4, 8), "old", "new")

    planned = plan_with_earlier(jobs, {}, lanes=1, resident_servers=lambda job: room)
    earlier = {job.id: (job.baseline_id, group.number) for group in planned for job in group.jobs}
    resumed = plan_with_earlier(jobs, earlier, lanes=1, resident_servers=lambda job: room)

    assert len(planned) == groups
    assert {bool(group.family) for group in planned} == {together}
    assert len({(group.family, group.number) for group in planned}) == groups // 2
    assert resumed == planned


@pytest.mark.parametrize(
    ("room", "lanes", "changed", "together"),
    [
        (6, 1, {}, True),
        (5, 1, {}, False),  # one group would have to be split
        (64, 2, {}, False),  # each lane takes one
        (64, 1, {"n_predict": 7}, False),
    ],
)
def test_engine_settings_that_are_asked_the_same_share_rounds_where_all_servers_fit_on_the_only_lane(
    room: int, lanes: int, changed: dict[str, int], together: bool
) -> None:
    first = jobs_over_n_draft(4, 8)
    other = [replace(job, engine=replace(job.engine, threads=3), **changed) for job in first]  # type: ignore[arg-type]

    planned = plan_with_earlier(identify([*first, *other], {}), {}, lanes=lanes, resident_servers=lambda job: room)

    assert [len(group.servers) for group in planned] == [3, 3]
    assert [bool(group.family) for group in planned] == [together] * 2
    assert (planned[0].family == planned[1].family) is (together or not planned[0].family)


def test_main_models_share_rounds_where_as_many_of_the_largest_would_fit() -> None:
    small = jobs_over_n_draft(4)
    large = [replace(job, model_pair=replace(job.model_pair, main_model="/m/large.gguf")) for job in small]
    jobs = identify([*small, *large], {})

    def planned(most: int) -> set[str]:
        rooms = {"/m/large.gguf": most}
        groups = plan_with_earlier(
            jobs, {}, lanes=1, resident_servers=lambda job: rooms.get(job.model_pair.main_model, 64)
        )
        return {group.family for group in groups}

    assert len(planned(4) - {""}) == 1
    assert planned(3) == {""}
