"""`velosweep bisect`: the search over builds, and what it refuses."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.recorded import Recorded, recorded  # noqa: F401
from velosweep.commands.bisect import BuildVerdict, first_slower


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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-l", "a"], "bisect compares two builds or more"),
        (["-l", "a", "b", "--slower-by", "much"], "--slower-by is much"),
        (["-l", "a", "b", "--slower-by", "0"], "--slower-by is 0"),
        (["-l", "a", "b", "--n-draft", "4,8"], "velosweep: --n-draft has several values"),
        (["-l", "a", "b", "iterations=2,3"], "velosweep: iterations has several values"),
        (["-l", "a", "b", "--draft", "d.gguf"], "--draft is given without --main"),
    ],
)
def test_what_makes_no_sense_is_refused(
    words: list[str],
    said: str,
    recorded: Recorded,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert recorded.main(["bisect", *words]) == 2

    assert said in capsys.readouterr().err
    assert recorded.calls == []
