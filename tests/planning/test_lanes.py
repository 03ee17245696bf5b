"""Which block a lane takes next, and how little it takes to say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.planning.jobs import jobs_over_n_draft
from velosweep.config.settings import ModelPair
from velosweep.planning.lane_queue import Estimator, Queues, Rates, Work
from velosweep.planning.server_groups import ServerGroup, count_measurements, plan_groups

MODELS = ("a", "b", "c")


def block_of(model: str, *n_drafts: int, n_predict: int = 10, iterations: int = 2) -> ServerGroup:
    pair = ModelPair(name=model, main_model=model, draft_model=f"draft of {model}")
    return plan_groups(jobs_over_n_draft(*n_drafts, iterations=iterations, n_predict=n_predict, model_pair=pair))[0]


def counted(group: ServerGroup) -> Work:
    """Every measurement a second, and loading nothing."""
    return Work(loading_s=0.0, running_s=count_measurements(group))


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=30), lanes=st.integers(1, 6))
def test_queues_give_every_block_once_to_whoever_asks(lengths: list[int], lanes: int) -> None:
    groups = [plan_groups(jobs_over_n_draft(4, iterations=n, n_predict=10 + i))[0] for i, n in enumerate(lengths)]
    estimator = Estimator(model_bytes=lambda _: 10**9)
    queues = Queues(lanes=lanes, foretold=estimator.foretold, rates=estimator.rates)
    queues.fill(groups)

    taken = [group for _ in groups if (group := queues.take(0)) is not None]

    assert {id(group) for group in taken} == {id(group) for group in groups}
    assert all(queues.take(lane) is None for lane in range(lanes))


def test_longest_blocks_start_first() -> None:
    groups = [plan_groups(jobs_over_n_draft(n, iterations=n, n_predict=n + 10))[0] for n in (1, 10, 2, 3)]
    queues = Queues(lanes=2, foretold=counted, rates=Rates)
    queues.fill(groups)

    taken = [queues.take(turn % 2) for turn in range(4)]

    assert [count_measurements(group) for group in taken if group] == [20, 6, 4, 2]


def test_a_lane_prefers_what_it_has_loaded_while_the_longest_block_can_wait() -> None:
    queues = Queues(lanes=2, foretold=counted, rates=Rates)
    queues.fill([block_of(model, 4, n_predict=number) for number, model in enumerate("abbaab", start=10)])
    taken = [queues.take(lane) for lane in (0, 1, 0)]

    assert [group.jobs[0].model_pair.main_model for group in taken if group] == ["a", "b", "a"]


def test_estimates_learn_from_what_was_seen() -> None:
    (group,) = plan_groups(jobs_over_n_draft(4, iterations=5, n_predict=100))
    estimator = Estimator(model_bytes=lambda _: 10**9)
    before = estimator.rates().seconds(estimator.foretold(group))
    estimator.learn_run("main.gguf", 100, 20.0)

    loading_s = 2 * (1 + 0.1)
    assert before == pytest.approx(loading_s + 10 * 100 * 0.1)
    assert estimator.rates().seconds(estimator.foretold(group)) == pytest.approx(loading_s + 10 * 20.0)


@dataclass(kw_only=True)
class PlainQueue:
    """The same choice by its definition: every block that is left is weighed at every take."""

    lanes: int
    left: list[ServerGroup]
    estimate: Callable[[ServerGroup], float]
    loaded: dict[int, set[str]] = field(default_factory=dict)

    def take(self, lane: int) -> ServerGroup:
        index = 0 if self.lanes == 1 else self.choice(lane)
        group = self.left.pop(index)
        self.loaded[lane] = {server.id for server in group.servers}
        return group

    def choice(self, lane: int) -> int:
        seconds = [self.estimate(group) for group in self.left]
        longest = max(range(len(seconds)), key=seconds.__getitem__)
        if seconds[longest] > sum(seconds) / self.lanes / 2:
            return longest
        loaded = self.loaded.get(lane, set())
        near = [index for index, group in enumerate(self.left) if any(server.id in loaded for server in group.servers)]
        return max(near, key=seconds.__getitem__, default=longest)


BLOCKS = {
    (model, n_drafts, n_predict): block_of(model, *n_drafts, n_predict=n_predict)
    for model in MODELS
    for n_drafts in ((4,), (8,), (4, 8))
    for n_predict in (10, 20, 40)
}


@given(
    groups=st.lists(st.sampled_from(sorted(BLOCKS)), max_size=20, unique=True),
    lanes=st.integers(1, 4),
    rates=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=20, max_size=20),
    data=st.data(),
)
def test_a_take_chooses_as_if_it_had_weighed_every_block_at_the_rates_of_the_moment(
    groups: Sequence[tuple[str, tuple[int, ...], int]],
    lanes: int,
    rates: Sequence[tuple[int, int]],
    data: st.DataObject,
) -> None:
    now = Rates()
    sizes = dict(zip(MODELS, (1, 2, 5), strict=True))

    def foretold(group: ServerGroup) -> Work:  # whole numbers: both ways to add them up give the same
        first = group.jobs[0]
        size = sizes[first.model_pair.main_model]
        return Work(loading_s=16 * size * len(group.servers), running_s=size * len(group.servers) * first.n_predict)

    queues = Queues(lanes=lanes, foretold=foretold, rates=lambda: now)
    plain = PlainQueue(lanes=lanes, left=[BLOCKS[key] for key in groups], estimate=lambda b: now.seconds(foretold(b)))
    queues.fill(plain.left)

    for _, (loading, running) in zip(groups, rates, strict=False):
        now = Rates(loading=loading, running=running)
        lane = data.draw(st.integers(0, lanes - 1))

        assert queues.take(lane) is plain.take(lane)


class CountedRates(Rates):
    """Counts how often a block, or what is left, is weighed."""

    weighed = 0

    def seconds(self, work: Work) -> float:
        CountedRates.weighed += 1
        return Rates.seconds(self, work)


@pytest.mark.parametrize("each", [8, 64])
def test_a_take_weighs_no_more_blocks_where_more_are_left(each: int) -> None:
    groups = [block_of(model, 4, 8, n_predict=10 + n) for n in range(each) for model in MODELS]
    foretold: list[ServerGroup] = []
    most = 0

    def foretell(group: ServerGroup) -> Work:
        foretold.append(group)
        return estimator.foretold(group)

    estimator = Estimator(model_bytes=lambda model: 10**9 * ord(model))
    queues = Queues(lanes=3, foretold=foretell, rates=CountedRates)
    queues.fill(groups)
    for turn in range(len(groups)):
        CountedRates.weighed = 0
        assert queues.take(turn % 3) is not None
        most = max(most, CountedRates.weighed)

    assert len(foretold) == len(groups)
    # the longest of each model, whether it can wait (two), and the longest for each server that is loaded
    assert most <= len(MODELS) + 2 + len(groups[0].servers)
