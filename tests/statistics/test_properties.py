"""What must hold of any series' reported figures, by Hypothesis."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import paired_speeds, samples_to_table, speeds, speeds_table, sweep
from velosweep.statistics.series_checks import hodges_lehmann
from velosweep.statistics.summarise import compare_jobs
from velosweep.values import Status

DESIGNS = pytest.mark.parametrize("design", ["abba", "apart"])  # paired, and Welch's


def _job(vanilla, speculative, design="abba"):
    return compare_jobs(speeds_table([vanilla], [speculative], design=design))[-1]


def _near(value):
    return pytest.approx(value, rel=1e-9)


@DESIGNS
@settings(max_examples=50)
@given(pair=paired_speeds(), scale=st.floats(1e-3, 1e3))
def test_units_do_not_matter(design, pair, scale):
    plain = _job(*pair, design)

    scaled = _job(*([x * scale for x in series] for series in pair), design)

    assert (scaled.ci_low, scaled.speedup_gm, scaled.ci_high) == (
        _near(plain.ci_low),
        _near(plain.speedup_gm),
        _near(plain.ci_high),
    )
    assert (scaled.speedup, scaled.speedup_stddev) == (
        _near(plain.speedup),
        pytest.approx(plain.speedup_stddev, rel=1e-9, abs=1e-9),
    )


@DESIGNS
@settings(max_examples=50)
@given(pair=paired_speeds())
def test_swapping_the_modes_inverts_ratio_and_interval(design, pair):
    forward, backward = _job(*pair, design), _job(*pair[::-1], design)

    assert (backward.ci_low, backward.speedup_gm, backward.ci_high) == (
        _near(1 / forward.ci_high),
        _near(1 / forward.speedup_gm),
        _near(1 / forward.ci_low),
    )
    assert forward.speedup * backward.speedup == _near(1)


@DESIGNS
@settings(max_examples=50)
@given(pair=paired_speeds(), seed=st.integers())
def test_the_order_of_rounds_does_not_matter(design, pair, seed):
    order = list(range(len(pair[0])))
    random.Random(seed).shuffle(order)
    plain = _job(*pair, design)

    shuffled = _job(*([series[i] for i in order] for series in pair), design)

    assert (shuffled.ci_low, shuffled.ci_high) == (_near(plain.ci_low), _near(plain.ci_high))


@DESIGNS
@settings(max_examples=50)
@given(vanilla=speeds, ratio=st.floats(0.1, 10), n=st.integers(2, 12))
def test_constant_series_give_a_point(design, vanilla, ratio, n):
    job = _job([vanilla] * n, [vanilla * ratio] * n, design)

    assert (job.ci_low, job.ci_high) == (_near(job.speedup_gm), _near(job.speedup_gm))
    assert job.speedup_gm == _near(ratio)


@settings(max_examples=50)
@given(series=st.lists(speeds, min_size=2, max_size=20), ratio=st.floats(0.1, 10))
def test_a_constant_ratio_gives_a_point_whatever_the_noise_of_the_rounds(series, ratio):
    job = _job(series, [x * ratio for x in series])

    assert job.ci_high / job.ci_low == pytest.approx(1, abs=1e-9)
    assert job.speedup_gm == _near(ratio)


@DESIGNS
@settings(max_examples=50)
@given(pair=paired_speeds())
def test_the_ratio_lies_in_its_interval_and_the_mean_between_its_extremes(design, pair):
    job = _job(*pair, design)
    statistics = job.vanilla.tokens_per_second

    assert job.ci_low <= job.speedup_gm * (1 + 1e-12)
    assert job.speedup_gm <= job.ci_high * (1 + 1e-12)
    assert statistics.min <= statistics.mean * (1 + 1e-12)
    assert statistics.mean <= statistics.max * (1 + 1e-12)


@given(d=st.lists(st.floats(-3, 3), min_size=1, max_size=40), shift=st.floats(-5, 5))
def test_hodges_lehmann_moves_with_its_series_and_stays_within_it(d, shift):
    location, moved = hodges_lehmann(np.array([d, [x + shift for x in d]]))

    assert min(d) - 1e-12 <= location <= max(d) + 1e-12
    assert moved == pytest.approx(location + shift, abs=1e-9)


@given(seed=st.integers(0, 2**32), n=st.integers(65, 300), skew=st.floats(0.1, 2))
@settings(max_examples=20)
def test_a_long_series_keeps_its_location_when_it_is_summarised(seed, n, skew):
    x = np.random.default_rng(seed).gamma(skew, size=n)
    rows, columns = np.triu_indices(n)
    exact = float(np.median(0.5 * (x[rows] + x[columns])))

    # Below the location's own standard error: of 6,000 such series 99.9 % kept within .3 of it, the worst within .52.
    assert hodges_lehmann(x[None])[0] == pytest.approx(exact, abs=0.8 * x.std() / np.sqrt(n))


@settings(max_examples=25)
@given(
    speed=st.lists(speeds, min_size=24, max_size=24), broken=st.sets(st.integers(0, 23), max_size=6), seed=st.integers()
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
