"""Which server group a lane takes next."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.planning.jobs import jobs_over_n_draft
from tests.planning.virtual_lanes import gpu_lanes, simulate, skewed
from velosweep.config.settings import ModelPair
from velosweep.planning.lane_queue import LaneQueue, predicted_s
from velosweep.planning.measurements import count_measurements
from velosweep.planning.server_groups import ServerGroup, plan_groups

GIGABYTE = 10**9


def group_of(model: str, *n_drafts: int, n_predict: int = 10, iterations: int = 2) -> ServerGroup:
    pair = ModelPair(name=model, main_model=model, draft_model=f"draft of {model}")
    return plan_groups(jobs_over_n_draft(*n_drafts, iterations=iterations, n_predict=n_predict, model_pair=pair))[0]


def queue_of(groups: Sequence[ServerGroup], *, lanes: int) -> LaneQueue:
    return LaneQueue(groups, lanes=gpu_lanes(lanes), model_bytes=lambda model: GIGABYTE)


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=30), lanes=st.integers(1, 6), data=st.data())
def test_every_group_is_given_once_whichever_lanes_ask(lengths: list[int], lanes: int, data: st.DataObject) -> None:
    groups = [plan_groups(jobs_over_n_draft(4, iterations=n, n_predict=10 + i))[0] for i, n in enumerate(lengths)]
    queue = queue_of(groups, lanes=lanes)

    taken = [group for _ in groups for group in queue.take(data.draw(st.integers(0, lanes - 1)))]

    assert {id(group) for group in taken} == {id(group) for group in groups}
    assert all(queue.take(lane) == () for lane in range(lanes))


def test_a_single_lane_keeps_the_order_of_the_grid() -> None:
    groups = [group_of(model, 4, iterations=n) for model, n in (("a", 1), ("b", 9), ("a", 3))]
    queue = queue_of(groups, lanes=1)

    assert [group for _ in groups for group in queue.take(0)] == groups


def test_longest_groups_start_first() -> None:
    groups = [plan_groups(jobs_over_n_draft(n, iterations=n, n_predict=n + 10))[0] for n in (1, 10, 2, 3)]
    queue = queue_of(groups, lanes=2)

    taken = [group for turn in range(4) for group in queue.take(turn % 2)]

    assert [count_measurements(group) for group in taken] == [20, 6, 4, 2]


def test_a_lane_prefers_what_it_has_loaded_while_the_longest_group_can_wait() -> None:
    groups = [
        group_of(model, 4, n_predict=n_predict) for model, n_predict in zip("abbaabab", range(20, 12, -1), strict=True)
    ]
    queue = queue_of(groups, lanes=2)
    taken = [group for lane in (0, 1, 0) for group in queue.take(lane)]

    assert [group.jobs[0].model_pair.main_model for group in taken] == ["a", "b", "a"]


def test_the_longest_group_goes_before_those_with_loaded_servers_where_it_would_end_last() -> None:
    groups = [group_of("a", 4, iterations=30), group_of("b", 4, iterations=40), group_of("b", 4, iterations=5)]
    queue = queue_of(groups, lanes=2)

    taken = [group for _ in groups for group in queue.take(0)]

    assert [count_measurements(group) for group in taken] == [80, 60, 10]


def test_larger_models_more_loads_and_more_tokens_take_longer() -> None:
    group = group_of("a", 4)
    more = (group_of("a", 4, 8), group_of("a", 4, iterations=3), group_of("a", 4, n_predict=20))

    def seconds(group: ServerGroup, size: int = GIGABYTE, *, on_gpu: bool = False) -> float:
        return predicted_s(group, size, on_gpu=on_gpu)

    # two servers, two runs each of ten tokens, at 1 GB/s of loading and 10 GB/s of decoding
    assert seconds(group) == pytest.approx(2 * (1 + 1) + 4 * (1.0 + 0.05))
    assert [seconds(other) for other in more] == pytest.approx([3 * 2 + 6 * 1.05, 2 * 2 + 6 * 1.05, 2 * 2 + 4 * 2.05])
    assert seconds(group, on_gpu=True) == pytest.approx(2 * 2 + 4 * (1 / 60 + 0.05))


@pytest.mark.parametrize("seed", range(3))
def test_sixteen_lanes_are_at_least_97_percent_of_ideal_over_a_skewed_set(seed: int) -> None:
    assert simulate(skewed(500, 16, seed), 16) >= 0.97
