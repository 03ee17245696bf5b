"""`velosweep bisect`: the search over builds, and what it refuses."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.recorded import Recorded, recorded  # noqa: F401
from velosweep.commands.bisect import first_slower


@given(st.integers(2, 40), st.data())
def test_the_first_slower_build_is_found_by_halves(count: int, data: st.DataObject) -> None:
    builds = [f"b{number}" for number in range(count)]
    first = data.draw(st.integers(1, count))  # `count`: none
    asked: list[str] = []

    def judge(build: str) -> bool:
        asked.append(build)
        return builds.index(build) >= first

    assert first_slower(builds, judge) == builds[first : first + 1]
    assert len(asked) == len(set(asked)) <= 1 + math.ceil(math.log2(count))


@given(st.integers(2, 12), st.data())
def test_builds_that_cannot_be_told_are_named_with_those_that_may_be_it(count: int, data: st.DataObject) -> None:
    builds = [f"b{number}" for number in range(count)]
    first = data.draw(st.integers(1, count - 1))
    unclear = data.draw(st.sets(st.sampled_from(builds[:-1])))

    found = first_slower(builds, lambda build: None if build in unclear else builds.index(build) >= first)

    assert builds[first] in found
    assert set(found[:-1]) <= unclear


def test_where_the_last_can_not_be_told_any_may_be_it() -> None:
    assert first_slower(["a", "b", "c"], lambda build: None) == ["b", "c"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-l", "a"], "bisect compares two builds or more"),
        (["-l", "a", "b", "--slower-by", "much"], "--slower-by is much"),
        (["-l", "a", "b", "--slower-by", "0"], "--slower-by is 0"),
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
