"""When to stop: never before six pairs, only at looks, at the 97 % width, or at the maximum."""

from __future__ import annotations

import math

import pytest

from velosweep.config.settings import Adaptive
from velosweep.statistics.intervals import paired_interval
from velosweep.statistics.stopping import decide


def _pairs(n, spread=0.0):
    vanilla = [30.0] * n
    return vanilla, [60.0 * (1 + spread * (-1) ** i) for i in range(n)]


def test_five_equal_pairs_are_too_few():
    assert not decide(*_pairs(5), Adaptive()).stop


def test_six_close_pairs_converge():
    decision = decide(*_pairs(6, 0.001), Adaptive())

    assert (decision.stop, decision.converged) == (True, True)
    assert decision.half_width < 0.01


def test_between_looks_nothing_stops():
    assert not decide(*_pairs(7, 0.001), Adaptive()).stop
    assert decide(*_pairs(8, 0.001), Adaptive()).stop


def test_wide_pairs_go_on():
    decision = decide(*_pairs(10, 0.05), Adaptive())

    assert (decision.stop, decision.converged) == (False, False)
    assert decision.half_width > 0.01


def test_at_the_maximum_it_stops_and_says_the_width_reached():
    decision = decide(*_pairs(60, 0.2), Adaptive())

    assert (decision.stop, decision.converged) == (True, False)
    interval = paired_interval(*_pairs(60, 0.2), confidence=0.97)
    assert decision.half_width == pytest.approx(math.sinh(math.log(interval.high / interval.ratio)))


def test_a_maximum_between_looks_may_still_converge():
    assert decide(*_pairs(7, 0.001), Adaptive(max_pairs=7)).converged


def test_nothing_measured_goes_on():
    decision = decide([], [], Adaptive())

    assert (decision.stop, decision.half_width) == (False, None)
