"""Ratios of speeds and their t intervals on logarithms.

The only implementation of a half-width: the grid, the search, `compare`, the stopping rule and the live display all
use it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

ONE_LAUNCH = ", conditional on this launch"
PAIRED_ONE_LAUNCH = f"paired log-ratio t{ONE_LAUNCH}"
PAIRED_LAUNCHES = "paired log-ratio t over launch means"
MODERATED_ONE_LAUNCH = f"moderated log-ratio t within rounds{ONE_LAUNCH}"
MODERATED_LAUNCHES = "moderated log-ratio t within rounds of launch means"
WELCH = "Welch t on logs, assumes no drift between blocks"
OVER_PROMPTS = "t over the prompts' mean log ratios"

_MOST_LOG = 700.0


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

    def at(self, confidence: float) -> "Interval":
        """The same ratio with the limits of another confidence."""
        return log_ratio_interval(
            math.log(self.ratio), self.standard_error, df=self.df, n=self.n, confidence=confidence, method=self.method
        )

    @property
    def half_width(self) -> float:
        return half_width(self.low, self.high)


def half_width(low: float, high: float) -> float:
    """Relative half-width of a ratio's interval, sinh of the half-width on the log scale: the x of "±x"."""
    return math.sinh(0.5 * math.log(high / low))


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


def bounded_exp(log: float) -> float:
    """exp, or its value at the nearest limit: either is beyond any ratio of speeds, and further on exp overflows."""
    return math.exp(min(max(log, -_MOST_LOG), _MOST_LOG))


def mean_stddev(x: Any) -> tuple[Any, Any]:
    """Mean and standard deviation (n - 1, by two passes: one pass cancels for large means) of each row.

    Rows have at least one value; with one the deviation is NaN.
    """
    import numpy as np

    mean = x.mean(axis=1)
    deviation = x - mean[:, None]
    with np.errstate(invalid="ignore"):  # one value: 0 / 0
        return mean, np.sqrt((deviation * deviation).sum(axis=1) / (x.shape[1] - 1))


def sequential(confidence: float) -> str:
    """The method of an interval that also decides when to stop, at this confidence, and is reported as 95 %."""
    return f"paired log-ratio t, {100 * confidence:g} % for sequential stopping{ONE_LAUNCH}"


def log_ratio_interval(
    center: float, error: float, *, df: float, n: int, confidence: float = 0.95, method: str
) -> Interval:
    """The t interval of exp(center), where `center` has this standard error with `df` degrees of freedom."""
    half = t_quantile(confidence, df) * error
    return Interval(
        ratio=math.exp(center),
        low=bounded_exp(center - half),
        high=bounded_exp(center + half),
        method=method,
        n=n,
        df=df,
        standard_error=error,
    )


def t_ratio(logs: Sequence[float], *, confidence: float = 0.95, method: str = PAIRED_ONE_LAUNCH) -> Ratio:
    """exp of the mean of log ratios, with its t interval where there are at least two."""
    import numpy as np

    n = len(logs)
    if not n:
        return NO_RATIO
    (mean,), (sd,) = (moment.tolist() for moment in mean_stddev(np.array([logs], dtype=float)))
    if n < 2:
        return Ratio(ratio=math.exp(mean), interval=None)
    interval = log_ratio_interval(mean, sd / math.sqrt(n), df=n - 1, n=n, confidence=confidence, method=method)
    return Ratio(ratio=interval.ratio, interval=interval)


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
    (mean_before, mean_after), deviations = (np.concatenate(both).tolist() for both in zip(*moments, strict=True))
    center = float(after[0] - before[0]) + mean_after - mean_before
    if min(sizes) < 2:
        return Ratio(ratio=math.exp(center), interval=None)
    variances = [sd**2 / n for sd, n in zip(deviations, sizes, strict=True)]
    error = math.sqrt(sum(variances))
    df = pooled_df(variances, [n - 1 for n in sizes])
    interval = log_ratio_interval(center, error, df=df, n=min(sizes), confidence=confidence, method=method)
    return Ratio(ratio=interval.ratio, interval=interval)


def pooled_df(variances: Sequence[float], df: Sequence[float]) -> float:
    """Welch's and Satterthwaite's degrees of freedom of a sum of estimated variances; infinite where all are 0."""
    below = sum(variance**2 / own for variance, own in zip(variances, df, strict=True))
    return sum(variances) ** 2 / below if below else math.inf
