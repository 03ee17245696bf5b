"""Ratios of two series of speeds and their t intervals on logarithms.

The only implementation of a half-width: the grid, the search, `compare`, the stopping rule and the live display all
use it. Series are the rows of an array (series x values); a single series is an array with one row. A series lies
together in memory, so that its sums are the same to the last bit whatever series are beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

PAIRED_ONE_LAUNCH = "paired log-ratio t, conditional on this launch"
PAIRED_LAUNCHES = "paired log-ratio t over launch means"
PAIRED_SEQUENTIAL = "paired log-ratio t, 97 % for sequential stopping, conditional on this launch"
WELCH = "Welch t on logs, assumes no drift between blocks"
OVER_PROMPTS = "t over the prompts' mean log ratios"


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A geometric mean ratio with its limits; `standard_error` (of the mean log) and `df` say how it was made."""

    ratio: float
    low: float
    high: float
    method: str
    n: int
    df: float
    standard_error: float

    @property
    def half_width(self) -> float:
        """Relative half-width, sinh of the half-width on the log scale: the x of "±x"."""
        return math.sinh(0.5 * math.log(self.high / self.low))


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratio:
    """A geometric mean ratio (None: nothing was measured) and its interval (None: too few values)."""

    ratio: float | None
    interval: Interval | None


NO_RATIO = Ratio(ratio=None, interval=None)


@lru_cache(maxsize=4096)
def t_quantile(confidence: float, df: float) -> float:
    """Two-sided Student quantile: P(|T_df| <= q) = confidence."""
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.5 + 0.5 * confidence))


def t_half_width(sd: Any, n: int, *, df: float, confidence: float = 0.95) -> Any:
    """Half-width of the two-sided t interval for the mean of `n` values of standard deviation `sd`."""
    return t_quantile(confidence, df) / math.sqrt(n) * sd


def mean_stddev(x: Any) -> tuple[Any, Any]:
    """Mean and standard deviation (n - 1, by two passes: one pass cancels for large means) of each row.

    Rows have at least one value; with one the deviation is NaN.
    """
    import numpy as np

    n = x.shape[1]
    mean = x.mean(axis=1)
    deviation = x - mean[:, None]
    squares = (deviation * deviation).sum(axis=1)
    return mean, np.sqrt(squares / (n - 1)) if n > 1 else np.full(len(x), np.nan)


def t_ratios(logs: Any, *, confidence: float = 0.95, method: str = PAIRED_ONE_LAUNCH) -> list[Ratio]:
    """exp of the mean of each row of log ratios, with its t interval where there are at least two."""
    import numpy as np

    series, n = logs.shape
    if not n:
        return [NO_RATIO] * series
    mean, sd = mean_stddev(logs)
    ratios = [math.exp(value) for value in mean.tolist()]
    if n < 2:
        return [Ratio(ratio=ratio, interval=None) for ratio in ratios]
    half = t_half_width(sd, n, df=n - 1, confidence=confidence)
    limits = np.exp(mean - half).tolist(), np.exp(mean + half).tolist()
    errors = (sd / math.sqrt(n)).tolist()
    return [
        Ratio(
            ratio=ratio,
            interval=Interval(ratio=ratio, low=low, high=high, method=method, n=n, df=n - 1, standard_error=error),
        )
        for ratio, low, high, error in zip(ratios, *limits, errors, strict=True)
    ]


def t_ratio(logs: Sequence[float], *, confidence: float = 0.95, method: str = PAIRED_ONE_LAUNCH) -> Ratio:
    """As `t_ratios`, of one series."""
    import numpy as np

    return t_ratios(np.array([logs], dtype=float), confidence=confidence, method=method)[0]


def welch_ratio(before: Any, after: Any, *, confidence: float = 0.95, method: str = WELCH) -> Ratio:
    """exp of the mean of `after` less that of `before` (two series of logs that are not paired), by Welch's t.

    No ratio where either series is empty, no interval for fewer than two values; a point where neither varies.
    """
    import numpy as np

    sizes = len(before), len(after)
    if not all(sizes):
        return NO_RATIO
    # Relative to its first value a constant series has a deviation of exactly 0.
    moments = [mean_stddev(np.array([series], dtype=float) - series[0]) for series in (before, after)]
    (mean_before, mean_after), deviations = ([float(moment[k][0]) for moment in moments] for k in (0, 1))
    center = float(after[0] - before[0]) + mean_after - mean_before
    ratio = math.exp(center)
    if min(sizes) < 2:
        return Ratio(ratio=ratio, interval=None)
    variances = [sd**2 / n for sd, n in zip(deviations, sizes, strict=True)]
    error = math.sqrt(sum(variances))
    df = math.inf
    if error:
        df = sum(variances) ** 2 / sum(v**2 / (n - 1) for v, n in zip(variances, sizes, strict=True))
    half = t_half_width(error, 1, df=df, confidence=confidence)
    low, high = math.exp(center - half), math.exp(center + half)
    interval = Interval(ratio=ratio, low=low, high=high, method=method, n=min(sizes), df=df, standard_error=error)
    return Ratio(ratio=ratio, interval=interval)
