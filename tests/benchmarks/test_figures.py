"""The table of benchmarks says of each figure what was asked, what was seen, and whether that is as asked."""

from __future__ import annotations

import pytest

from tests.benchmarks.figures import Figure, of_runs, table


def test_runs_are_told_by_their_median_and_spread() -> None:
    found = of_runs("share of decoding", [0.9, 0.7, 0.8], least=0.75)

    assert (found.value, found.low, found.high, found.runs) == (0.8, 0.7, 0.9, 3)
    assert (found.asked, found.met) == ("≥ 0.75", "yes")


@pytest.mark.parametrize(("value", "met"), [(0.98, "no"), (0.99, "yes"), (1.0, "yes"), (1.01, "yes"), (1.02, "no")])
def test_a_figure_is_held_against_both_limits(value: float, met: str) -> None:
    found = Figure(what="ratio", value=value, low=value, high=value, runs=1, least=0.99, most=1.01)

    assert (found.asked, found.met) == ("≥ 0.99 ≤ 1.01", met)


def test_what_nothing_is_asked_of_is_told_without_a_verdict() -> None:
    text = table([of_runs("wall-clock", [2.0, 4.0], " s")])

    assert text.splitlines()[2] == "| wall-clock |  | 3 s | min, max 2, 4 | 2 |  |"
