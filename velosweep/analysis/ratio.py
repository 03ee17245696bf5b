"""The ratio of two arms, its interval by the design that was measured, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from velosweep.analysis.measures import ArmSeries
from velosweep.analysis.speedup import (
    OVER_PROMPTS,
    PAIRED_LAUNCHES,
    PAIRED_ONE_LAUNCH,
    PAIRED_SEQUENTIAL,
    Interval,
    t_interval,
    welch_interval,
)
from velosweep.model import Adaptive, Finding, Verdict


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


def over_passes(vanilla: ArmSeries, speculative: ArmSeries, d: Any, *, adaptive: bool = False) -> Ratio:
    """The mean of the passes' log ratios `d`, by launch means where there are several launches.

    Runs that were not interleaved (all of one mode before the other) are no pairs: they get Welch's interval.
    """
    if not len(d):
        return Ratio(mean_log=None, interval=None, log_ratios=d)
    launches = sorted(set(vanilla.launch.tolist()))
    if len(launches) == 1 and in_blocks(vanilla.time, speculative.time):
        return unpaired(vanilla, speculative)
    confidence = Adaptive().confidence if adaptive else 0.95
    if len(launches) == 1:
        method = PAIRED_SEQUENTIAL if adaptive else PAIRED_ONE_LAUNCH
        interval = t_interval(d.tolist(), confidence=confidence, method=method)
        return Ratio(mean_log=float(d.mean()), interval=interval, log_ratios=d)
    means = [float(d[vanilla.launch == launch].mean()) for launch in launches]
    interval = t_interval(means, confidence=confidence, method=PAIRED_LAUNCHES)
    return Ratio(mean_log=math.fsum(means) / len(means), interval=interval, log_ratios=d)


def in_blocks(vanilla_time: Any, speculative_time: Any) -> bool:
    """Whether one mode was measured wholly before the other (at least two runs each)."""
    if len(vanilla_time) < 2 or len(speculative_time) < 2:
        return False
    return bool(vanilla_time.max() < speculative_time.min() or speculative_time.max() < vanilla_time.min())


def unpaired(vanilla: ArmSeries, speculative: ArmSeries) -> Ratio:
    """Ratio of geometric means with Welch's interval; None where an arm is empty."""
    import numpy as np

    if not len(vanilla) or not len(speculative):
        return Ratio(mean_log=None, interval=None)
    v, s = vanilla.tokens_per_second, speculative.tokens_per_second
    mean = float(np.log(s).mean() - np.log(v).mean())
    return Ratio(mean_log=mean, interval=welch_interval(v.tolist(), s.tolist()))


def over_prompts(mean_logs: Sequence[float | None]) -> Ratio:
    """The geometric mean over prompts with t over prompts: what to expect of prompts like these."""
    known = [value for value in mean_logs if value is not None]
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
