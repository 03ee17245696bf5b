"""Successive elimination: after each round, which candidates can still be the fastest.

A round measures each remaining candidate once. Every candidate is compared with the best so far within the rounds that
both were measured in, by the two-way model of all rounds (statistics.two_way, with the noise of all candidates pooled:
they are settings of one server, and a race decides after few rounds). Its risk is the chance (one-sided t) that it is
better than the best by more than the tolerance. From the second round on a candidate is dropped when its risk is at
most (1 - confidence) / (number of rivals). The search is decided when all risks, those of dropped
candidates too, add up to at most 1 - confidence (Bonferroni).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from velosweep.config.settings import TunerSettings
from velosweep.statistics.intervals import t_quantile
from velosweep.statistics.two_way import TwoWayModel

Estimate = tuple[float | None, float | None, float | None]
"""A figure in the objective's own unit, with its limits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """A candidate after a round: its mean log value, its `risk` (see the module), and whether it stays.

    `half_width`: of its difference from the best, one-sided at (1 - confidence) / (number of rivals).
    """

    candidate: str
    mean: float
    half_width: float
    risk: float
    kept: bool

    @property
    def estimate(self) -> Estimate:
        """The mean with its limits; no limits where the noise is not known yet."""
        mean, half = self.mean, self.half_width
        limits = (None, None) if math.isinf(half) else (math.exp(mean - half), math.exp(mean + half))
        return (math.exp(mean), *limits)


@dataclass(frozen=True, kw_only=True)
class Elimination:
    """What follows from `rounds`: for each round the log values of the remaining candidates that did not fail."""

    shortlist: tuple[str, ...]
    rounds: Sequence[Mapping[str, float]]
    settings: TunerSettings

    @cached_property
    def standings(self) -> list[list[Standing]]:
        """After each round, the standing of every candidate that was measured in it."""
        result: list[list[Standing]] = []
        remaining = self.shortlist
        for number in range(1, len(self.rounds) + 1):
            names = [name for name in remaining if name in self.rounds[number - 1]]  # were measured in every round
            means = {name: math.fsum(values[name] for values in self.rounds[:number]) / number for name in names}
            result.append(self._compared(means, number))
            remaining = tuple(standing.candidate for standing in result[-1] if standing.kept)
        return result

    def _compared(self, means: Mapping[str, float], number: int) -> list[Standing]:
        """Those with these means over the first `number` rounds, each compared with the best of them."""
        if not means:
            return []
        best = max(means, key=means.__getitem__)
        found = self._model(number).contrasts(self.shortlist.index(best), prior_df=math.inf)
        standings = []
        for name, mean in means.items():
            arm = self.shortlist.index(name)
            error, df = float(found.standard_error[0, arm]), float(found.df[0, arm])
            known = df > 0 and math.isfinite(error)
            half = t_quantile(1 - 2 * self._error, df) * error if known else math.inf
            risk = 0.0 if name == best else self._risk(mean - means[best], error, df) if known else 1.0
            standings.append(
                Standing(candidate=name, mean=mean, half_width=half, risk=risk, kept=name == best or risk > self._error)
            )
        spread = max(standing.half_width for standing in standings)  # the best is not compared with itself
        return [replace(s, half_width=spread) if s.candidate == best else s for s in standings]

    def _risk(self, difference: float, error: float, df: float) -> float:
        """The chance that a candidate with this difference from the best is better by more than the tolerance."""
        from scipy.special import stdtr  # a tenth of what starting velosweep takes

        beyond = difference - self._slack
        return float(stdtr(df, beyond / error)) if error else float(beyond > 0)

    def _model(self, rounds: int) -> TwoWayModel:
        values = [[measured.get(name, math.nan) for measured in self.rounds[:rounds]] for name in self.shortlist]
        return TwoWayModel.of(np.array([values], dtype=float))

    @property
    def _error(self) -> float:
        """The error allowed to each of the rivals."""
        return (1 - self.settings.confidence) / max(len(self.shortlist) - 1, 1)

    @property
    def kept(self) -> list[Standing]:
        """The standings of the candidates that remain; empty before the first round."""
        return [standing for standing in self.standings[-1] if standing.kept] if self.standings else []

    @property
    def remaining(self) -> tuple[str, ...]:
        return tuple(standing.candidate for standing in self.kept) if self.standings else self.shortlist

    @property
    def best(self) -> Standing | None:
        """The remaining candidate with the best mean; None where none was measured."""
        return max(self.kept, key=lambda standing: standing.mean, default=None)

    @property
    def decided(self) -> bool:
        """Whether it is sure enough that no other candidate is better than the best by more than the tolerance."""
        if len(self.remaining) <= 1:
            return True
        last = {standing.candidate: standing.risk for current in self.standings for standing in current}
        return bool(last) and math.fsum(last.values()) <= 1 - self.settings.confidence

    @property
    def max_shortfall(self) -> float | None:
        """No other candidate is faster than the best by more than this share, with the confidence asked for.

        None where the noise is not known. One that was dropped counts as it last stood beside the best of its round.
        """
        ahead = {
            s.candidate: s.mean + s.half_width - max(standing.mean for standing in current)
            for current in self.standings
            for s in current
            if self.best is not None and s.candidate != self.best.candidate
        }
        most = max(0.0, *ahead.values()) if ahead else math.inf
        return math.expm1(most) if math.isfinite(most) else None

    @property
    def ties(self) -> frozenset[str]:
        """Candidates that may be as fast as the best, as far as they were measured; the best is one."""
        last: dict[str, bool] = {}
        for current in self.standings:
            best = max((standing.mean for standing in current), default=0.0)
            last.update({s.candidate: s.mean + s.half_width >= best for s in current})
        return frozenset(name for name, near in last.items() if near)

    @property
    def dropped(self) -> dict[str, int]:
        """The round in which a candidate was dropped, or failed."""
        result: dict[str, int] = {}
        before = set(self.shortlist)
        for number, standings in enumerate(self.standings, 1):
            after = {standing.candidate for standing in standings if standing.kept}
            result.update(dict.fromkeys(before - after, number))
            before = after
        return result

    @property
    def _slack(self) -> float:
        """The tolerance on the log scale."""
        return -math.log1p(-self.settings.tolerance)
