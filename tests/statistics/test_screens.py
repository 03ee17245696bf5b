"""A screen may mark too much, never too little: whatever a check would say is looked at."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from velosweep.statistics import checks, screens
from velosweep.statistics.intervals import t_interval
from velosweep.statistics.trend import ROUNDING


def _series(seed, n, kind):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 0.01, n)
    if kind == "outlier":
        x[rng.integers(n)] -= rng.exponential(0.1)
    if kind == "cold":
        x[0] -= rng.exponential(0.1)
    if kind == "drift":
        x += np.linspace(0, rng.normal(0, 0.05), n)
    if kind == "rhythm":
        x += 0.02 * np.sin(np.arange(n) / 2)
    if kind == "skewed":
        x -= rng.exponential(0.05, n) ** 2 * 20
    if kind == "constant":
        x[:] = 0
    return x


KINDS = ["quiet", "outlier", "cold", "drift", "rhythm", "skewed", "constant"]
SERIES = {"seed": st.integers(0, 2**32), "n": st.integers(1, 90)}


@settings(max_examples=60, deadline=None)
@given(**SERIES)
def test_every_series_with_a_finding_is_marked(seed, n):
    x = np.stack([30 * np.exp(_series(seed + i, n, kind)) for i, kind in enumerate(KINDS)], axis=1)
    time = np.arange(n, dtype=float)

    marked = screens.arms(x, np.repeat(time[:, None], len(KINDS), axis=1), np.zeros(n))

    speaking = [bool(checks.series_findings(x[:, p], time, "vanilla")) for p in range(len(KINDS))]
    assert all(mark or not speaks for mark, speaks in zip(marked, speaking, strict=True))


@settings(max_examples=60, deadline=None)
@given(**SERIES)
def test_every_pairing_with_a_finding_is_marked(seed, n):
    d = np.stack([0.4 + _series(seed + i, n, kind) for i, kind in enumerate(KINDS)], axis=1)
    intervals = [t_interval(d[:, p].tolist()) for p in range(len(KINDS))]
    low = np.array([np.log(i.low) if i else -9.0 for i in intervals])
    high = np.array([np.log(i.high) if i else 9.0 for i in intervals])

    marked = screens.pairs(d, low - ROUNDING, high + ROUNDING)

    speaking = [bool(checks.pair_findings(d[:, p], intervals[p])) for p in range(len(KINDS))]
    assert all(mark or not speaks for mark, speaks in zip(marked, speaking, strict=True))


def test_quiet_series_are_mostly_not_looked_at():
    x = 30 * np.exp(np.random.default_rng(0).normal(0, 0.01, (10, 1000)))
    time = np.repeat(np.arange(10.0)[:, None], 1000, axis=1)

    assert screens.arms(x, time, np.zeros(10)).mean() < 0.1


def test_runs_out_of_order_in_time_are_looked_at():
    x = 30 * np.exp(np.random.default_rng(0).normal(0, 0.001, (6, 2)))
    time = np.stack([np.arange(6.0), np.arange(6.0)[::-1]], axis=1)

    assert screens.arms(x, time, np.zeros(6)).tolist() == [False, True]
