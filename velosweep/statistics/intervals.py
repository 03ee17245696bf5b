"""From two series of tokens per second to a ratio with an interval that is true.

The specification's figures (`speedup`, `speedup_stddev`) are kept as they are; beside them the geometric mean of
the paired ratios and its t interval on logarithms. Formulas: design notes, statistics; every worked case of
`tests/statistics/statistics_cases.json` holds to 1e-9.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import Any

from velosweep.errors import VelosweepError
from velosweep.statistics.comparison import Statistics

PAIRED_ONE_LAUNCH = "paired log-ratio t, conditional on this launch"
PAIRED_LAUNCHES = "paired log-ratio t over launch means"
PAIRED_SEQUENTIAL = "paired log-ratio t, 97 % for sequential stopping, conditional on this launch"
WELCH = "Welch t on logs, assumes no drift between blocks"
OVER_PROMPTS = "t over the prompts' mean log ratios"

WALSH_MOST = 64


class SampleError(VelosweepError, ValueError):
    """A sample that is no measurement: NaN, infinite or negative. Never dropped in silence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A ratio speculative / vanilla (geometric mean) with its limits; `sd_log` and `df` say how it was made."""

    ratio: float
    low: float
    high: float
    method: str
    n: int
    df: float
    sd_log: float

    @property
    def half_width(self) -> float:
        """Relative half-width, sinh of the half-width on the log scale: the x of "±x"."""
        return math.sinh(0.5 * math.log(self.high / self.low))


@lru_cache(maxsize=4096)
def t_quantile(confidence: float, df: float) -> float:
    """Two-sided Student quantile: P(|T_df| <= q) = confidence."""
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.5 + 0.5 * confidence))


def require_valid(samples: Sequence[float], *, name: str) -> None:
    """Raise SampleError naming series and index unless every value is finite and not negative."""
    for index, value in enumerate(samples):
        if not math.isfinite(value) or value < 0:
            raise SampleError(
                f"{name}[{index}] is {value}, which is no measurement",
                remedy="mark the run as failed or invalid instead of giving it a value",
            )


def mean_stddev(samples: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean, and standard deviation with n - 1 by two passes (one pass cancels for large means).

    None for what is undefined: the mean of nothing, the deviation of one.
    """
    if not samples:
        return None, None
    mean = fmean(samples)
    if len(samples) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((x - mean) ** 2 for x in samples) / (len(samples) - 1))


def describe(samples: Sequence[float], *, name: str = "samples") -> Statistics | None:
    """The specification's figures of one series; None for an empty one. Raises SampleError."""
    require_valid(samples, name=name)
    mean, stddev = mean_stddev(samples)
    if mean is None:
        return None
    return Statistics(mean=mean, stddev=stddev, min=min(samples), max=max(samples), samples=tuple(samples))


def speedup(vanilla: Statistics | None, speculative: Statistics | None) -> float | None:
    """mean(speculative) / mean(vanilla); None where either is missing or vanilla's mean is 0."""
    if vanilla is None or speculative is None or vanilla.mean == 0:
        return None
    return speculative.mean / vanilla.mean


def speedup_stddev(vanilla: Statistics | None, speculative: Statistics | None) -> float | None:
    """The specification's propagated error: the spread of a ratio of two single runs; it does not shrink with n."""
    ratio = speedup(vanilla, speculative)
    if ratio is None or vanilla is None or speculative is None or speculative.mean == 0:
        return None
    if vanilla.stddev is None or speculative.stddev is None:
        return None
    return ratio * math.hypot(speculative.stddev / speculative.mean, vanilla.stddev / vanilla.mean)


def log_ratios(vanilla: Sequence[float], speculative: Sequence[float]) -> list[float] | None:
    """ln(speculative_i / vanilla_i) of paired series; None unless of equal length and all positive.

    Raises SampleError for NaN, infinite or negative values.
    """
    require_valid(vanilla, name="vanilla")
    require_valid(speculative, name="speculative")
    if len(vanilla) != len(speculative) or not all(vanilla) or not all(speculative):
        return None
    return [math.log(s / v) for v, s in zip(vanilla, speculative, strict=True)]


def t_interval(d: Sequence[float], *, confidence: float = 0.95, method: str = PAIRED_ONE_LAUNCH) -> Interval | None:
    """exp of the t interval for the mean of log ratios `d`; None for fewer than two."""
    mean, sd = mean_stddev(d)
    if mean is None or sd is None:
        return None
    n = len(d)
    half = t_quantile(confidence, n - 1) * sd / math.sqrt(n)
    return Interval(
        ratio=math.exp(mean),
        low=math.exp(mean - half),
        high=math.exp(mean + half),
        method=method,
        n=n,
        df=n - 1,
        sd_log=sd,
    )


def paired_interval(
    vanilla: Sequence[float], speculative: Sequence[float], *, confidence: float = 0.95
) -> Interval | None:
    """Paired log-ratio t interval: the default for interleaved runs. None where it is undefined."""
    d = log_ratios(vanilla, speculative)
    return None if d is None else t_interval(d, confidence=confidence)


def launch_interval(
    vanilla: Sequence[float], speculative: Sequence[float], launches: Sequence[int], *, confidence: float = 0.95
) -> Interval | None:
    """Interval over launch means, which holds the variance between launches that iterations don't see.

    `launches[i]` is the launch of pair i. With a single launch it is the paired interval, whose method says
    "conditional on this launch".
    """
    d = log_ratios(vanilla, speculative)
    if d is None:
        return None
    by_launch: dict[int, list[float]] = {}
    for launch, value in zip(launches, d, strict=True):
        by_launch.setdefault(launch, []).append(value)
    if len(by_launch) < 2:
        return t_interval(d, confidence=confidence)
    means = [fmean(by_launch[launch]) for launch in sorted(by_launch)]
    return t_interval(means, confidence=confidence, method=PAIRED_LAUNCHES)


def welch_interval(
    vanilla: Sequence[float], speculative: Sequence[float], *, confidence: float = 0.95
) -> Interval | None:
    """Welch's t on logarithms for runs that are not paired; "assumes no drift between blocks".

    None where either series has fewer than two values or a zero; a point where neither series varies.
    """
    require_valid(vanilla, name="vanilla")
    require_valid(speculative, name="speculative")
    if len(vanilla) < 2 or len(speculative) < 2 or not all(vanilla) or not all(speculative):
        return None
    # Logs relative to the first sample keep digits where the spread is tiny beside the mean.
    mean_v, sd_v = mean_stddev([math.log(x / vanilla[0]) for x in vanilla])
    mean_s, sd_s = mean_stddev([math.log(x / speculative[0]) for x in speculative])
    if mean_v is None or mean_s is None or sd_v is None or sd_s is None:
        return None
    center = mean_s - mean_v + math.log(speculative[0] / vanilla[0])
    a, b = sd_s**2 / len(speculative), sd_v**2 / len(vanilla)
    df = (a + b) ** 2 / (a**2 / (len(speculative) - 1) + b**2 / (len(vanilla) - 1)) if a + b > 0 else math.inf
    half = t_quantile(confidence, df) * math.sqrt(a + b) if a + b > 0 else 0.0
    return Interval(
        ratio=math.exp(center),
        low=math.exp(center - half),
        high=math.exp(center + half),
        method=WELCH,
        n=min(len(vanilla), len(speculative)),
        df=df,
        sd_log=math.sqrt(a + b),
    )


def geometric_mean_interval(ratios: Sequence[float], *, confidence: float = 0.95) -> Interval | None:
    """Geometric mean of per-prompt ratios with t over prompts: the interval for "prompts like these"."""
    require_valid(ratios, name="ratios")
    if not all(ratios):
        return None
    return t_interval([math.log(x) for x in ratios], confidence=confidence, method=OVER_PROMPTS)


def hodges_lehmann(d: Sequence[float]) -> float | None:
    """Median of the Walsh averages (d_i + d_j) / 2, i <= j: a location that one wild pair doesn't move.

    Beyond WALSH_MOST values the series is summarised by so many of its quantiles, so that the cost stays bounded.
    """
    import numpy as np

    if not len(d):
        return None
    x = quantiles(np.sort(np.asarray(d, dtype=float)))
    rows, columns = np.triu_indices(len(x))
    return float(np.median(0.5 * (x[rows] + x[columns])))


def quantiles(x: Any) -> Any:
    """At most WALSH_MOST evenly spaced quantiles of arrays that are sorted along their first axis."""
    import numpy as np

    if len(x) <= WALSH_MOST:
        return x
    place = (np.arange(WALSH_MOST) + 0.5) / WALSH_MOST * (len(x) - 1)
    below = place.astype(int)
    share = (place - below).reshape(-1, *[1] * (x.ndim - 1))
    return x[below] * (1 - share) + x[below + 1] * share
