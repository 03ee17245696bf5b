"""The search for the first slower build, and how its error is split over looks and comparisons."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.statistics.simulated_builds import Noise, bisected, from_one_on
from velosweep.statistics.bisection import LOOKS, Bisection, BuildVerdict, Look, first_slower
from velosweep.statistics.intervals import MODERATED_LAUNCHES, Interval, log_ratio_interval

MIDDLING = Noise(start=0.03, run=0.03)


@given(st.integers(2, 40), st.data())
def test_the_first_slower_build_is_found_by_halves(count: int, data: st.DataObject) -> None:
    builds = [f"b{number}" for number in range(count)]
    first = data.draw(st.integers(1, count))  # `count`: none
    asked: list[str] = []

    def judge(build: str) -> BuildVerdict:
        asked.append(build)
        return verdict_of(builds, build, first)

    assert first_slower(builds, judge) == builds[first : first + 1]
    assert len(asked) == len(set(asked)) <= 1 + math.ceil(math.log2(max(count - 1, 1)))


@given(st.integers(2, 12), st.data())
def test_builds_that_cannot_be_told_are_named_with_those_that_may_be_it(count: int, data: st.DataObject) -> None:
    builds = [f"b{number}" for number in range(count)]
    first = data.draw(st.integers(1, count - 1))
    amiss = data.draw(
        st.dictionaries(
            st.sampled_from(builds[1:-1] or [""]), st.sampled_from([BuildVerdict.UNCLEAR, BuildVerdict.FAILED])
        )
    )
    told: dict[str, BuildVerdict] = {}

    def judge(build: str) -> BuildVerdict:
        told[build] = amiss.get(build) or verdict_of(builds, build, first)
        return told[build]

    found = first_slower(builds, judge)

    assert builds[first] in found
    assert told[found[-1]] is BuildVerdict.SLOWER
    assert all(told.get(build) is not BuildVerdict.NOT_SLOWER for build in found)
    assert len(told) - sum(verdict is BuildVerdict.FAILED for verdict in told.values()) <= 1 + math.ceil(
        math.log2(count)
    )


def test_a_build_that_fails_is_passed_over_and_those_beside_it_are_judged() -> None:
    builds = list("abcdef")

    def judge(build: str) -> BuildVerdict:
        return BuildVerdict.FAILED if build in "cd" else verdict_of(builds, build, 4)

    assert first_slower(builds, judge) == ["c", "d", "e"]


def test_behind_one_that_can_not_be_told_only_later_ones_are_judged() -> None:
    builds, asked = list("abcdefgh"), []

    def judge(build: str) -> BuildVerdict:
        asked.append(build)
        return BuildVerdict.UNCLEAR if build in "bcde" else verdict_of(builds, build, 5)

    assert first_slower(builds, judge) == list("bcdef")
    assert asked == ["h", "e", "g", "f"]


def test_where_the_last_can_not_be_told_any_may_be_it() -> None:
    assert first_slower(["a", "b", "c"], lambda build: BuildVerdict.UNCLEAR) == ["b", "c"]


def verdict_of(builds: list[str], build: str, first: int) -> BuildVerdict:
    return BuildVerdict.SLOWER if builds.index(build) >= first else BuildVerdict.NOT_SLOWER


def ratio(of: float, *, rounds: int, error: float = 0.003) -> Interval:
    return log_ratio_interval(math.log(of), error, df=rounds - 1, n=rounds, method=MODERATED_LAUNCHES)


@pytest.mark.parametrize(("of_last", "slower_by"), [(0.9, 0.05), (0.79, 0.1), (0.55, 0.22), (0.5, 0.25), (0.97, 0.05)])
def test_between_counts_what_lost_half_as_much_as_the_last(of_last: float, slower_by: float) -> None:
    bisection = Bisection(
        builds="abcd", compare=lambda build, rounds: ratio(of_last if build == "d" else 1.0, rounds=rounds)
    )
    bisection.suspects()

    assert bisection.slower_by == pytest.approx(slower_by)
    assert bisection.looks["d"].share == 0.05
    assert all(look.share == bisection.slower_by for build, look in bisection.looks.items() if build != "d")


@pytest.mark.parametrize(("builds", "comparisons"), [("ab", 1), ("abc", 2), ("abcdefghi", 4), ("abcdefghij", 5)])
def test_each_limit_of_each_look_has_its_share_of_five_per_cent(builds: str, comparisons: int) -> None:
    bisection = Bisection(builds=builds, compare=lambda build, rounds: ratio(0.8, rounds=rounds))
    bisection.suspects()

    assert bisection.looks[builds[-1]].ratio == ratio(0.8, rounds=4).at(1 - 2 * 0.05 / 4 / comparisons)


@pytest.mark.parametrize(
    ("lows", "share"),
    [
        ({"c": (0.866, 1.1), "d": (0.6, 0.84)}, 0.14),
        ({"c": (0.864, 1.1), "d": (0.6, 0.84)}, 0.15),
        ({"b": (0.5, 1.5), "c": (0.868, 1.1), "d": (0.6, 0.84)}, 0.14),  # b is no suspect
        ({"c": (0.69, 1.18), "d": (0.68, 0.91)}, None),
        ({"d": (0.93, 1.1)}, 0.08),
        ({"d": (0.002, 9.0)}, None),
    ],
)
def test_a_share_that_the_same_runs_can_tell_is_offered_where_something_is_slower_by_it(
    lows: dict[str, tuple[float, float]], share: float | None
) -> None:
    looks = {
        build: Look(
            build=build,
            ratio=replace(ratio(1.0, rounds=32), low=low, high=high),
            share=0.05,
            verdict=BuildVerdict.SLOWER if high < 0.95 else BuildVerdict.UNCLEAR,
            last=True,
        )
        for build, (low, high) in lows.items()
    }
    bisection = Bisection(builds="abcd", compare=lambda build, rounds: None, looks=looks)

    assert bisection.clear_share("cd") == share


def test_no_more_counts_as_slower_than_the_last_surely_lost() -> None:
    bisection = Bisection(builds="abc", compare=lambda build, rounds: ratio(0.75, rounds=rounds, error=0.04))
    bisection.suspects()
    last = bisection.looks["c"].ratio

    assert last is not None
    assert bisection.slower_by < 0.12
    assert last.high < 1 - bisection.slower_by < last.high + 0.01


@pytest.mark.parametrize("builds", ["ab", "abc"])
def test_a_share_that_was_asked_for_counts_for_all_and_of_two_builds_the_least_one(builds: str) -> None:
    share = 0.1 if len(builds) > 2 else None
    bisection = Bisection(builds=builds, share=share, compare=lambda build, rounds: ratio(0.55, rounds=rounds))
    bisection.suspects()

    assert bisection.slower_by == (share or 0.05)


@pytest.mark.parametrize(("of", "rounds"), [(0.9594, [4, 8, 16]), (0.9596, [4, 8, 16, 32]), (1.2, [4])])
def test_more_rounds_are_taken_until_a_build_can_be_told_or_is_too_near_to_the_limit(
    of: float, rounds: list[int]
) -> None:
    looks: list[Look] = []
    bisection = Bisection(
        builds="ab", on_look=looks.append, compare=lambda build, rounds: ratio(of, rounds=rounds, error=0.01)
    )
    bisection.suspects()

    assert [look.ratio.n for look in looks if look.ratio] == rounds
    assert [look.last for look in looks] == [*[False] * (len(rounds) - 1), True]


def test_where_an_earlier_bisection_had_come_further_its_rounds_are_looked_at_once() -> None:
    looks: list[Look] = []
    bisection = Bisection(
        builds="ab",
        on_look=looks.append,
        compare=lambda build, rounds: ratio(0.965, rounds=max(rounds, 16), error=0.01),
    )
    bisection.suspects()

    assert [look.ratio.n for look in looks if look.ratio] == [16, 32]


def test_of_builds_that_all_lost_just_what_is_allowed_one_bisection_in_20_at_most_calls_one_slower() -> None:
    rng = np.random.default_rng(5)
    lost = [0, *[0.05] * 6, 0.2]
    wrong = [bisected(lost, MIDDLING, rng, share=0.05).wrong for _ in range(300)]

    assert 0 < np.mean(wrong) <= 0.05


@pytest.mark.parametrize(("slower", "decided"), [(0.1, 0.8), (0.2, 0.95)])
def test_mild_slowdowns_are_found_among_eight_builds(slower: float, decided: float) -> None:
    rng = np.random.default_rng(5)
    found = [bisected(from_one_on(8, slower, rng), MIDDLING, rng) for _ in range(60)]

    assert np.mean([one.wrong for one in found]) <= 0.05
    assert np.mean([not one.undecided for one in found]) >= decided
    assert max(one.rounds for one in found) <= 4 * LOOKS[-1]
