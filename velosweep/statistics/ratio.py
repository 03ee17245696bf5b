"""The ratio of two arms, its interval by the design that was measured, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from velosweep.config.settings import Adaptive
from velosweep.statistics.comparison import Finding
from velosweep.statistics.intervals import (
    OVER_PROMPTS,
    PAIRED_LAUNCHES,
    PAIRED_ONE_LAUNCH,
    PAIRED_SEQUENTIAL,
    Interval,
    t_interval,
    t_quantile,
    welch_interval,
)
from velosweep.statistics.measures import ArmSeries
from velosweep.values import Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratio:
    """speculative / vanilla as the mean of logs (None: undefined), its interval, and the paired logs behind it."""

    mean_log: float | None
    interval: Interval | None
    log_ratios: Any = None

    @property
    def ratio(self) -> float | None:
        """The geometric mean ratio."""
        return None if self.mean_log is None else math.exp(self.mean_log)

    def or_population(self, population: Ratio) -> Ratio:
        """With a single pass, or none that is whole, prompts are all the repetition there is."""
        if self.interval is not None or population.interval is None:
            return self
        mean = self.mean_log if self.mean_log is not None else population.mean_log
        return Ratio(mean_log=mean, interval=population.interval, log_ratios=self.log_ratios)


def over_passes(vanilla: ArmSeries, speculative: ArmSeries, d: Any, *, adaptive: bool = False) -> list[Ratio]:
    """The mean of the passes' log ratios `d` (passes x comparisons), by launch means where there are several launches.

    Runs that were not interleaved (all of one mode before the other) are no pairs: they get Welch's interval.
    """
    n, comparisons = d.shape
    if not n:
        return [Ratio(mean_log=None, interval=None, log_ratios=d[:, p]) for p in range(comparisons)]
    confidence = Adaptive().confidence if adaptive else 0.95
    launches = sorted(set(vanilla.launch.tolist()))
    if len(launches) > 1:
        import numpy as np

        of_launches = (np.asfortranarray(d[vanilla.launch == launch]) for launch in launches)
        means = np.array([values.mean(axis=0) for values in of_launches])
        return _ratios(np.asfortranarray(means), d, confidence=confidence, method=PAIRED_LAUNCHES)
    method = PAIRED_SEQUENTIAL if adaptive else PAIRED_ONE_LAUNCH
    ratios = _ratios(d, d, confidence=confidence, method=method)
    blocks = in_blocks(vanilla.time, speculative.time)
    return [unpaired(vanilla, speculative, p) if blocks[p] else ratio for p, ratio in enumerate(ratios)]


def _ratios(values: Any, d: Any, *, confidence: float, method: str) -> list[Ratio]:
    """t intervals of the columns of `values`, each with its column of `d` behind it."""
    import numpy as np

    n = len(values)
    center = values.mean(axis=0)
    means = center.tolist()
    if n < 2:
        return [Ratio(mean_log=mean, interval=None, log_ratios=d[:, p]) for p, mean in enumerate(means)]
    deviation = values - center
    sd = np.sqrt((deviation * deviation).sum(axis=0) / (n - 1))
    half = t_quantile(confidence, n - 1) / math.sqrt(n) * sd
    limits = (np.exp(x).tolist() for x in (center, center - half, center + half))
    return [
        Ratio(
            mean_log=mean,
            interval=Interval(ratio=ratio, low=low, high=high, method=method, n=n, df=n - 1, sd_log=spread),
            log_ratios=d[:, p],
        )
        for p, (mean, ratio, low, high, spread) in enumerate(zip(means, *limits, sd.tolist(), strict=True))
    ]


def in_blocks(vanilla_time: Any, speculative_time: Any) -> list[bool]:
    """Whether one mode was measured wholly before the other (at least two runs each), for each comparison."""
    if len(vanilla_time) < 2 or len(speculative_time) < 2:
        return [False] * vanilla_time.shape[1]
    first = vanilla_time.max(axis=0) < speculative_time.min(axis=0)
    last = speculative_time.max(axis=0) < vanilla_time.min(axis=0)
    return list((first | last).tolist())


def unpaired(vanilla: ArmSeries, speculative: ArmSeries, p: int) -> Ratio:
    """Ratio of geometric means of comparison `p` with Welch's interval; None where an arm is empty."""
    import numpy as np

    if not len(vanilla) or not len(speculative):
        return Ratio(mean_log=None, interval=None)
    v, s = vanilla.tokens_per_second[:, p], speculative.tokens_per_second[:, p]
    mean = float(np.log(s).mean() - np.log(v).mean())
    return Ratio(mean_log=mean, interval=welch_interval(v.tolist(), s.tolist()))


def over_prompts(ratios: Sequence[float | None]) -> Ratio:
    """The geometric mean over prompts with t over prompts: what to expect of prompts like these."""
    known = [math.log(value) for value in ratios if value is not None]
    if not known:
        return Ratio(mean_log=None, interval=None)
    return Ratio(mean_log=math.fsum(known) / len(known), interval=t_interval(known, method=OVER_PROMPTS))


def verdict_of(
    interval: Interval | None, findings: Sequence[Finding], *, target: float | None, measured: bool
) -> Verdict:
    """`invalid` with an error finding or nothing measured; else by the interval.

    An adaptive job that missed its target is `not_converged` only while its interval holds 1: a wide interval above 1
    is an answer, and the finding tells its width.
    """
    if not measured or any(finding.severity == "error" for finding in findings):
        return Verdict.INVALID
    if interval is not None and interval.low > 1:
        return Verdict.FASTER
    if interval is not None and interval.high < 1:
        return Verdict.SLOWER
    if target is not None and (interval is None or interval.half_width > target):
        return Verdict.NOT_CONVERGED
    return Verdict.NO_RELIABLE_GAIN
