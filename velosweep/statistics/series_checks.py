"""What series of runs and of paired log ratios show in time: outliers, cold starts, drift, autocorrelation.

Series are the rows of arrays (series x runs); each function returns a list of findings for each row. Nothing is ever
deleted. The thresholds come from simulations.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from velosweep.statistics.comparison import Evidence, Finding, warning
from velosweep.statistics.intervals import Interval

OUTLIER_MIN_RUNS = 5
MAD_LIMIT = 14.826  # ten robust standard deviations
DRIFT_LIMIT = 0.01
DRIFT_P = 0.05
COLD_LIMIT = 0.01
AUTOCORRELATION_MIN_PAIRS = 10
HODGES_LEHMANN_MIN_PAIRS = 6
FEW_PAIRS = 3
ROUNDING = 1e-9  # differences that small, relative to the values, are arithmetic
MOST_VALUES = 64  # longer series are averaged or summarised, which bounds the quadratic cost


def series_findings(x: Any, time: Any, launch: Any, subject: str) -> list[list[Finding]]:
    """Zero variance, cold start, outliers and drift of one mode's tokens per second.

    `x`, `time`: series x runs in any order; `launch`: of each run, the same for all series.
    """
    findings: list[list[Finding]] = [[] for _ in x]
    runs = x.shape[1]
    if runs < 2:
        return findings
    order = np.argsort(time, axis=1, kind="stable")
    x, time = (np.take_along_axis(values, order, axis=1) for values in (x, time))
    for row in np.flatnonzero(np.ptp(x, axis=1) == 0).tolist():
        findings[row].append(warning("zero_variance", subject, {"runs": runs}))
    if runs < OUTLIER_MIN_RUNS:
        return findings
    cold = _cold_starts(x, launch[order], subject)
    outliers, drifts = _outliers(x, subject, not_first=cold), _drifts(time, np.log(x), subject)
    for found in (cold, outliers, drifts):
        for row, finding in found.items():
            findings[row].append(finding)
    return findings


def pair_findings(d: Any, time: Any, intervals: Sequence[Interval | None]) -> list[list[Finding]]:
    """What paired log ratios and their intervals say of each other. `time` (as `d`) orders the pairs."""
    pairs = d.shape[1]
    if pairs < FEW_PAIRS:
        return [[warning("too_few_pairs", "pairs", {"pairs": pairs})] for _ in d]
    d = np.take_along_axis(d, np.argsort(time, axis=1, kind="stable"), axis=1)
    outliers = _outliers(d, "pairs") if pairs >= OUTLIER_MIN_RUNS else {}
    related = _autocorrelations(d) if pairs >= AUTOCORRELATION_MIN_PAIRS else {}
    apart = _robust_disagreements(d, intervals) if pairs >= HODGES_LEHMANN_MIN_PAIRS else {}
    return [[found[row] for found in (outliers, related, apart) if row in found] for row in range(len(d))]


def _cold_starts(x: Any, launch: Any, subject: str) -> dict[int, Finding]:
    """Series in which the first run of a launch is far slower than the rest of that launch."""
    found: dict[int, Finding] = {}
    for number in np.unique(launch[0]):
        own = x[launch == number].reshape(len(x), -1)
        if own.shape[1] < OUTLIER_MIN_RUNS:
            continue
        first, rest = own[:, 0], own[:, 1:]
        center = median(rest)
        short = center - first
        usual = median(abs(rest - center[:, None]))
        for row in np.flatnonzero((short > COLD_LIMIT * center) & (short > MAD_LIMIT * usual)).tolist():
            evidence: Evidence = {
                "first": float(first[row]),
                "median_of_rest": float(center[row]),
                "relative": float(short[row] / center[row]),
            }
            found.setdefault(row, warning("cold_start", subject, evidence))
    return found


def _outliers(x: Any, subject: str, *, not_first: Sequence[int] | dict[int, Finding] = ()) -> dict[int, Finding]:
    """Series with values whose distance from the median is over 14.826 median distances.

    `not_first`: series whose first value has been reported otherwise.
    """
    center = median(x)
    distance = abs(x - center[:, None])
    limit = np.maximum(MAD_LIMIT * median(distance), ROUNDING * (1 + abs(center)))
    outlying = distance > limit[:, None]
    outlying[list(not_first), 0] = False
    found = {}
    for row in np.flatnonzero(outlying.any(axis=1)).tolist():
        worst = int(np.argmax(np.where(outlying[row], distance[row], 0)))
        evidence: Evidence = {
            "runs": int(np.count_nonzero(outlying[row])),
            "of": x.shape[1],
            "worst_run": worst + 1,
            "value": float(x[row, worst]),
            "median": float(center[row]),
        }
        found[row] = warning("outlier", subject, evidence)
    return found


def _drifts(time: Any, log_x: Any, subject: str) -> dict[int, Finding]:
    """Series with a trend: Kendall's rank correlation is significant, and Theil-Sen's line moves far enough.

    Both are our own, because importing scipy.stats takes longer than collating a small sweep.
    """
    runs = log_x.shape[1]
    moving = np.flatnonzero(np.ptp(log_x, axis=1) > DRIFT_LIMIT)  # the range bounds any drift
    time, log_x = (_stretches(values[moving]) for values in (time, log_x))
    left, right = pairs_of(log_x.shape[1])
    concordance = np.sign(log_x[:, right] - log_x[:, left]).sum(axis=1).astype(int)
    p = kendall_tail(log_x.shape[1])[abs(concordance)]
    found = {}
    for row in np.flatnonzero(p < DRIFT_P).tolist():
        dx, dt = (values[row, right] - values[row, left] for values in (log_x, time))
        later = dt > 0
        if not later.any():
            continue
        change = float(np.median(dx[later] / dt[later]) * np.ptp(time[row]))
        if abs(change) > DRIFT_LIMIT:
            evidence: Evidence = {"drift": math.expm1(change), "p": float(p[row]), "runs": runs}
            found[int(moving[row])] = warning("drift", subject, evidence)
    return found


def _autocorrelations(d: Any) -> dict[int, Finding]:
    """Series whose correlation at lag 1 is beyond 2 / sqrt(n), which is unlikely for independent values."""
    pairs = d.shape[1]
    limit = 2 / math.sqrt(pairs)
    mean = d.mean(axis=1)
    centred = d - mean[:, None]
    products, power = (centred[:, 1:] * centred[:, :-1]).sum(axis=1), (centred * centred).sum(axis=1)
    varies = power > pairs * (ROUNDING * (1 + abs(mean))) ** 2
    r1 = np.divide(products, power, out=np.zeros(len(d)), where=varies)
    return {
        row: warning("autocorrelation", "pairs", {"r1": float(r1[row]), "limit": limit, "pairs": pairs})
        for row in np.flatnonzero(abs(r1) > limit).tolist()
    }


def _robust_disagreements(d: Any, intervals: Sequence[Interval | None]) -> dict[int, Finding]:
    """Series whose Hodges-Lehmann location is outside their interval."""
    found = {}
    for row, (location, interval) in enumerate(zip(hodges_lehmann(d).tolist(), intervals, strict=True)):
        if interval is None or (math.log(interval.low) - ROUNDING <= location <= math.log(interval.high) + ROUNDING):
            continue
        evidence: Evidence = {"ratio": math.exp(location), "ci_low": interval.low, "ci_high": interval.high}
        found[row] = warning("hodges_lehmann_disagrees", "pairs", evidence)
    return found


def hodges_lehmann(d: Any) -> Any:
    """Median of each row's Walsh averages (d_i + d_j) / 2, i <= j: a location that one outlier doesn't move.

    Longer rows than MOST_VALUES are represented by so many evenly spaced quantiles.
    """
    x = np.sort(d, axis=1)
    if x.shape[1] > MOST_VALUES:
        place = (np.arange(MOST_VALUES) + 0.5) / MOST_VALUES * (x.shape[1] - 1)
        below = place.astype(int)
        share = place - below
        x = x[:, below] * (1 - share) + x[:, below + 1] * share
    left, right = pairs_of(x.shape[1], with_self=True)
    return median(0.5 * (x[:, left] + x[:, right]))


def median(x: Any) -> Any:
    """Median of each row; numpy's own spends more time on NaN than on sorting."""
    half = x.shape[1] // 2
    if x.shape[1] % 2:
        return np.partition(x, half, axis=1)[:, half]
    parted = np.partition(x, (half - 1, half), axis=1)
    return 0.5 * (parted[:, half - 1] + parted[:, half])


def _stretches(x: Any) -> Any:
    """Each row averaged in at most MOST_VALUES consecutive stretches, which keeps a slow drift."""
    runs = x.shape[1]
    if runs <= MOST_VALUES:
        return x
    starts = np.arange(MOST_VALUES) * runs // MOST_VALUES
    return np.add.reduceat(x, starts, axis=1) / np.diff(np.append(starts, runs))


@lru_cache(maxsize=256)
def pairs_of(n: int, *, with_self: bool = False) -> Any:
    """Indices (i, j) of all pairs i < j of n values, or i <= j."""
    return np.triu_indices(n, k=0 if with_self else 1)


@lru_cache(maxsize=256)
def kendall_tail(n: int) -> Any:
    """P(|S| >= s) for s = 0 .. n(n-1)/2: Kendall's S (concordant less discordant pairs) of n values without ties.

    Exact, from the share of permutations with each number of inversions.
    """
    most = n * (n - 1) // 2
    share = np.ones(1)
    for size in range(2, n + 1):
        share = np.convolve(share, np.full(size, 1 / size))
    exactly = np.zeros(most + 1)
    np.add.at(exactly, abs(most - 2 * np.arange(most + 1)), share)
    return np.cumsum(exactly[::-1])[::-1]
