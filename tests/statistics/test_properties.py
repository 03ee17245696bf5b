"""What must hold for any series, by Hypothesis."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import paired_speeds, speeds, sweep
from velosweep.results.samples_file import samples_to_table
from velosweep.statistics.intervals import describe, hodges_lehmann, paired_interval, speedup, welch_interval
from velosweep.statistics.summarise import compare_jobs
from velosweep.values import Status

INTERVALS = pytest.mark.parametrize("interval_of", [paired_interval, welch_interval])


def _near(value):
    return pytest.approx(value, rel=1e-9)


@INTERVALS
@given(pair=paired_speeds(), scale=st.floats(1e-3, 1e3))
def test_units_do_not_matter(interval_of, pair, scale):
    vanilla, speculative = pair
    plain = interval_of(vanilla, speculative)

    scaled = interval_of([x * scale for x in vanilla], [x * scale for x in speculative])

    assert (scaled.low, scaled.ratio, scaled.high) == (_near(plain.low), _near(plain.ratio), _near(plain.high))


@INTERVALS
@given(pair=paired_speeds())
def test_swapping_the_arms_inverts_the_interval(interval_of, pair):
    forward, backward = interval_of(*pair), interval_of(*pair[::-1])

    assert (backward.low, backward.ratio, backward.high) == (
        _near(1 / forward.high),
        _near(1 / forward.ratio),
        _near(1 / forward.low),
    )


@INTERVALS
@given(pair=paired_speeds(), seed=st.integers())
def test_the_order_of_rounds_does_not_matter(interval_of, pair, seed):
    order = list(range(len(pair[0])))
    random.Random(seed).shuffle(order)
    plain = interval_of(*pair)

    shuffled = interval_of(*([series[i] for i in order] for series in pair))

    assert (shuffled.low, shuffled.high) == (_near(plain.low), _near(plain.high))


@INTERVALS
@given(vanilla=speeds, ratio=st.floats(0.1, 10), n=st.integers(2, 12))
def test_constant_arms_give_a_point(interval_of, vanilla, ratio, n):
    interval = interval_of([vanilla] * n, [vanilla * ratio] * n)

    assert interval.low == _near(interval.ratio)
    assert interval.high == _near(interval.ratio)


@given(series=st.lists(speeds, min_size=2, max_size=20), ratio=st.floats(0.1, 10))
def test_a_constant_ratio_gives_a_point_whatever_the_noise_of_the_rounds(series, ratio):
    interval = paired_interval(series, [x * ratio for x in series])

    assert interval.high / interval.low == pytest.approx(1, abs=1e-9)
    assert interval.ratio == _near(ratio)


@given(pair=paired_speeds())
def test_the_ratio_lies_in_its_interval_and_the_mean_between_its_extremes(pair):
    interval = paired_interval(*pair)
    statistics = describe(pair[0])

    assert interval.low <= interval.ratio <= interval.high
    assert statistics.min <= statistics.mean * (1 + 1e-12)
    assert statistics.mean <= statistics.max * (1 + 1e-12)


@given(pair=paired_speeds(min_size=1))
def test_the_specifications_speedup_inverts_when_the_arms_are_swapped(pair):
    vanilla, speculative = (describe(series) for series in pair)

    assert speedup(vanilla, speculative) * speedup(speculative, vanilla) == _near(1)


@given(d=st.lists(st.floats(-3, 3), min_size=1, max_size=40), shift=st.floats(-5, 5))
def test_hodges_lehmann_moves_with_its_series_and_stays_within_it(d, shift):
    location = hodges_lehmann(d)

    assert min(d) - 1e-12 <= location <= max(d) + 1e-12
    assert hodges_lehmann([x + shift for x in d]) == pytest.approx(location + shift, abs=1e-9)


@given(seed=st.integers(0, 2**32), n=st.integers(65, 300), skew=st.floats(0.1, 2))
@settings(max_examples=20)
def test_a_long_series_keeps_its_location_when_it_is_summarised(seed, n, skew):
    x = np.random.default_rng(seed).gamma(skew, size=n)
    rows, columns = np.triu_indices(n)
    exact = float(np.median(0.5 * (x[rows] + x[columns])))

    # Far below the location's own standard error.
    assert hodges_lehmann(x) == pytest.approx(exact, abs=0.2 * x.std() / np.sqrt(n))


@settings(max_examples=25, deadline=None)
@given(
    speed=st.lists(speeds, min_size=24, max_size=24),
    broken=st.sets(st.integers(0, 23), max_size=6),
    seed=st.integers(),
)
def test_any_order_of_rows_gives_the_same_comparisons(speed, broken, seed):
    position = iter(range(24))
    samples = sweep([4, 8], iterations=4, prompts=("a", "b"), speed=lambda n, p, i: speed[next(position)])
    samples = [_broken(s) if index in broken else s for index, s in enumerate(samples)]
    shuffled = samples.copy()
    random.Random(seed).shuffle(shuffled)

    assert compare_jobs(samples_to_table(samples)) == compare_jobs(samples_to_table(shuffled))


def _broken(sample):
    return replace(
        sample, status=Status.FAILED, tokens_per_second=None, time_to_first_token_ms=None, total_time_ms=None
    )
