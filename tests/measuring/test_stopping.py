"""When to stop: never before six pairs, only at looks, at the 97 % width, or at the maximum."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from velosweep.config.settings import Adaptive
from velosweep.measuring.convergence import measured_enough


def _pairs(n, spread=0.0):
    return [30.0] * n, [60.0 * (1 + spread * (-1) ** i) for i in range(n)]


def test_five_equal_pairs_are_too_few():
    assert not measured_enough(*_pairs(5), Adaptive())


def test_six_close_pairs_are_enough():
    assert measured_enough(*_pairs(6, 0.001), Adaptive())


def test_between_looks_nothing_stops():
    assert not measured_enough(*_pairs(7, 0.001), Adaptive())
    assert measured_enough(*_pairs(8, 0.001), Adaptive())
    assert measured_enough(*_pairs(8, 0.001), Adaptive(min_pairs=5, look_every=3))
    assert not measured_enough(*_pairs(7, 0.001), Adaptive(min_pairs=5, look_every=3))


def test_wide_pairs_go_on():
    assert not measured_enough(*_pairs(10, 0.05), Adaptive())


def test_at_the_maximum_it_stops_however_wide():
    assert measured_enough(*_pairs(60, 0.2), Adaptive())
    assert measured_enough(*_pairs(7, 0.2), Adaptive(max_pairs=7))


def test_nothing_measured_goes_on():
    assert not measured_enough([], [], Adaptive())


def test_a_run_that_produced_nothing_has_no_ratio_and_goes_on():
    assert not measured_enough([30.0] * 6, [0.0, *[60.0] * 5], Adaptive())
    assert not measured_enough([0.0, *[30.0] * 5], [60.0] * 6, Adaptive())


@pytest.mark.parametrize("share", [0.99, 0.995, 1.005, 1.01])
def test_the_target_is_compared_with_the_97_per_cent_half_width_of_the_pairs_ratios(share):
    vanilla = np.array([30.0, 31.0, 28.0, 33.0, 30.0, 29.0])
    d = np.array([0.3, 0.31, 0.28, 0.33, 0.30, 0.29])
    low, high = stats.ttest_1samp(d, 0).confidence_interval(0.97)
    half_width = math.sinh((high - low) / 2)

    enough = measured_enough(vanilla.tolist(), (vanilla * np.exp(d)).tolist(), Adaptive(target=half_width * share))

    assert enough == (share > 1)


def test_a_width_that_equals_the_target_is_enough():
    assert measured_enough([30.0] * 6, [60.0] * 6, Adaptive(target=0.0))
