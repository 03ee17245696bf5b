"""Simulated noise through the real estimator: does a 95 % interval hold the truth in 95 of 100 sweeps?

The quick version judges 2,000 sweeps a cell with fixed seeds, the long one 20,000. Standard errors: .5 and .15 points.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from velosweep.config.settings import Adaptive
from velosweep.statistics.intervals import paired_interval, t_quantile, welch_interval
from velosweep.statistics.stopping import decide

TRUTH = 1.6
QUICK, LONG = 2_000, 20_000


def _noise(kind, runs, rng, size=0.01):
    """Log disturbance of `runs` successive runs."""
    if kind == "iid":
        return rng.normal(0, size, runs)
    if kind == "skewed":
        return rng.normal(0, size, runs) - np.where(rng.random(runs) < 0.1, rng.exponential(3 * size, runs), 0)
    if kind == "drift":
        return rng.normal(0, size, runs) + np.linspace(0, -0.05, runs)
    if kind == "ar1":
        x = rng.normal(0, size, runs)
        for i in range(1, runs):
            x[i] = 0.5 * x[i - 1] + math.sqrt(0.75) * x[i]
        return x
    raise ValueError(kind)


def _abba(n):
    """Order of 2n runs: which are vanilla's, in pairs VS SV VS SV."""
    vanilla = np.array([2 * i + (i % 2) for i in range(n)])
    return vanilla, np.array([2 * i + 1 - (i % 2) for i in range(n)])


def _block(n):
    return np.arange(n), np.arange(n, 2 * n)


def _coverage(kind, design, n, repetitions, interval_of, seed=0):
    rng = np.random.default_rng(seed)
    first, second = design(n)
    held = 0
    for _ in range(repetitions):
        disturbance = _noise(kind, 2 * n, rng)
        vanilla, speculative = 30 * np.exp(disturbance[first]), 30 * TRUTH * np.exp(disturbance[second])
        interval = interval_of(vanilla.tolist(), speculative.tolist())
        held += interval.low <= TRUTH <= interval.high
    return held / repetitions


@pytest.mark.parametrize("n", [5, 10])
@pytest.mark.parametrize("kind", ["iid", "drift"])
def test_interleaved_pairs_cover_under_noise_and_drift(kind, n):
    coverage = _coverage(kind, _abba, n, QUICK, paired_interval)

    assert 0.935 <= coverage <= 0.99


@pytest.mark.parametrize("n", [5, 10])
def test_the_block_design_fails_under_drift_and_more_runs_do_not_help(n):
    # The drift moves all of the second block by 2.5 %: the narrower the interval, the surer the error.
    assert _coverage("drift", _block, n, 500, welch_interval) < 0.5
    assert _coverage("drift", _block, 20, 500, welch_interval) < 0.05


@pytest.mark.parametrize("kind", ["skewed", "ar1"])
def test_interleaved_pairs_nearly_cover_under_skew_and_autocorrelation(kind):
    assert _coverage(kind, _abba, 10, QUICK, paired_interval) >= 0.92


def test_welch_covers_where_there_is_no_drift():
    assert 0.935 <= _coverage("iid", _block, 8, QUICK, welch_interval) <= 0.975


def _adaptive_coverage(cv, repetitions, adaptive, seed=0):
    """Coverage of the interval that is reported when it stops, and the median number of pairs."""
    rng = np.random.default_rng(seed)
    held, pairs = 0, []
    for _ in range(repetitions):
        d = rng.normal(0, cv * math.sqrt(2), adaptive.max_pairs)
        n = _stopped_at(d, adaptive)
        sd = float(np.std(d[:n], ddof=1))
        held += abs(float(np.mean(d[:n]))) <= t_quantile(adaptive.confidence, n - 1) * sd / math.sqrt(n)
        pairs.append(n)
    return held / repetitions, float(np.median(pairs))


def _stopped_at(d, adaptive):
    for n in range(adaptive.min_pairs, adaptive.max_pairs + 1):
        if decide([1.0] * n, np.exp(d[:n]).tolist(), adaptive).stop:
            return n
    raise AssertionError("the maximum always stops")


@pytest.mark.parametrize(("cv", "pairs"), [(0.005, 6), (0.01, 12), (0.02, 40)])
def test_stopping_early_keeps_what_it_reports_at_95_per_cent(cv, pairs):
    coverage, median = _adaptive_coverage(cv, 400, Adaptive(max_pairs=80))

    assert coverage >= 0.93
    assert median == pytest.approx(pairs, abs=4)


@pytest.mark.long
@pytest.mark.parametrize("n", [5, 10, 20])
@pytest.mark.parametrize("kind", ["iid", "drift"])
def test_interleaved_pairs_cover_94_to_98_per_cent(kind, n):
    assert 0.94 <= _coverage(kind, _abba, n, LONG, paired_interval, seed=1) <= 0.985


@pytest.mark.long
@pytest.mark.parametrize("cv", [0.005, 0.01, 0.02])
def test_stopping_early_covers_95_per_cent(cv):
    assert _adaptive_coverage(cv, 5000, Adaptive(max_pairs=80), seed=1)[0] >= 0.945
