"""Intervals of single series against SciPy; what is reported of them is in test_worked_cases.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from velosweep.statistics.intervals import t_quantile, t_ratio, welch_ratio

D = [0.3, 0.31, 0.28, 0.33]


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.97])
def test_the_t_interval_is_scipys_at_any_confidence(confidence):
    expected = stats.ttest_1samp(D, 0).confidence_interval(confidence)

    interval = t_ratio(D, confidence=confidence, method="mine").interval

    assert (interval.low, interval.high) == (
        pytest.approx(math.exp(expected.low)),
        pytest.approx(math.exp(expected.high)),
    )
    assert interval.ratio == pytest.approx(math.exp(np.mean(D)))
    assert (interval.method, interval.n, interval.df) == ("mine", 4, 3)
    assert interval.standard_error == pytest.approx(stats.sem(D))


def test_two_values_are_enough_for_an_interval():
    expected = stats.ttest_1samp(D[:2], 0).confidence_interval(0.95)

    interval = t_ratio(D[:2]).interval

    assert (math.log(interval.low), math.log(interval.high)) == pytest.approx((expected.low, expected.high))


def test_a_quantile_is_two_sided_students():
    assert t_quantile(0.95, 4) == pytest.approx(stats.t.ppf(0.975, 4))
    assert t_quantile(0.95, math.inf) == pytest.approx(stats.norm.ppf(0.975))


def test_one_value_has_a_ratio_and_none_has_nothing():
    assert (t_ratio([0.3]).ratio, t_ratio([0.3]).interval) == (math.exp(0.3), None)
    assert (t_ratio([]).ratio, t_ratio([]).interval) == (None, None)


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_welchs_interval_is_scipys_with_its_degrees_of_freedom(confidence):
    before, after = [0.1, 0.13, 0.09], [0.3, 0.28, 0.35, 0.31]
    result = stats.ttest_ind(after, before, equal_var=False)
    expected = result.confidence_interval(confidence)

    interval = welch_ratio(before, after, confidence=confidence, method="mine").interval

    assert (interval.low, interval.high) == (
        pytest.approx(math.exp(expected.low)),
        pytest.approx(math.exp(expected.high)),
    )
    assert interval.ratio == pytest.approx(math.exp(np.mean(after) - np.mean(before)))
    assert (interval.method, interval.n, interval.df) == ("mine", 3, pytest.approx(result.df))
    assert interval.standard_error == pytest.approx(math.sqrt(stats.sem(before) ** 2 + stats.sem(after) ** 2))


def test_welchs_ratio_needs_a_value_of_each_and_its_interval_two():
    assert (welch_ratio([], [0.3]).ratio, welch_ratio([0.3], []).ratio) == (None, None)
    assert welch_ratio([0.1], [0.3, 0.31]).ratio == pytest.approx(math.exp(0.205))
    assert (welch_ratio([0.1], [0.3, 0.31]).interval, welch_ratio([0.3, 0.31], [0.1]).interval) == (None, None)
    assert welch_ratio([0.1, 0.1], [0.3, 0.31]).interval is not None


def test_constant_series_have_a_point_and_infinitely_many_degrees_of_freedom():
    interval = welch_ratio([0.1] * 7, [0.4] * 6).interval

    assert (interval.low, interval.high, interval.standard_error) == (interval.ratio, interval.ratio, 0.0)
    assert interval.df == math.inf


def test_the_relative_half_width_is_the_sinh_of_the_log_half_width():
    interval = t_ratio(D).interval

    assert interval.half_width == pytest.approx(math.sinh(math.log(interval.high / interval.ratio)))


def test_limits_of_ratios_that_differ_beyond_measure_are_numbers():
    interval = t_ratio([-500.0, 500.0]).interval

    assert 0 < interval.low < 1e-300
    assert 1e300 < interval.high < math.inf
