"""Successive elimination: after each round, which candidates can still be the fastest.

A round measures each remaining candidate once. Model: log value = candidate + round + noise, with the residual variance
s^2 of all rounds so far. The difference of two candidates' means over r rounds has the half-width t * sqrt(2 s^2 / r),
with t one-sided at (1 - confidence) / (number of rivals). From the third round on, a candidate is dropped when its
mean + half-width is below the best mean. The search is decided when no other candidate's mean + half-width exceeds the
best mean by more than the tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

from velosweep.config.settings import TunerSettings
from velosweep.statistics.intervals import t_half_width

_FIRST_ELIMINATION = 3

Estimate = tuple[float | None, float | None, float | None]
"""A figure in the objective's own unit, with its limits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """A candidate after a round: its mean log value, the half-width of a difference of means, whether it stays."""

    candidate: str
    mean: float
    half_width: float
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
        error = (1 - self.settings.confidence) / max(len(self.shortlist) - 1, 1)
        for number in range(1, len(self.rounds) + 1):
            rounds = self.rounds[:number]
            names = [name for name in remaining if name in rounds[-1]]  # these were measured in every round
            means = {name: math.fsum(values[name] for values in rounds) / number for name in names}
            variance, df = residual_variance(rounds)  # of all candidates: those dropped still show the noise
            half = math.inf
            if df:
                half = float(t_half_width(math.sqrt(2 * variance / number), 1, df=df, confidence=1 - 2 * error))
            best = max(means.values(), default=0.0)
            early = number < _FIRST_ELIMINATION
            result.append(
                [
                    Standing(candidate=name, mean=mean, half_width=half, kept=early or mean + half >= best)
                    for name, mean in means.items()
                ]
            )
            remaining = tuple(standing.candidate for standing in result[-1] if standing.kept)
        return result

    @property
    def kept(self) -> list[Standing]:
        """The standings of the candidates that remain; empty before the first round."""
        return [standing for standing in self.standings[-1] if standing.kept] if self.standings else []

    @property
    def remaining(self) -> tuple[str, ...]:
        """The candidates that remain."""
        return tuple(standing.candidate for standing in self.kept) if self.standings else self.shortlist

    @property
    def best(self) -> Standing | None:
        """The remaining candidate with the best mean; None where none was measured."""
        return max(self.kept, key=lambda standing: standing.mean, default=None)

    @property
    def decided(self) -> bool:
        """Whether no other remaining candidate can be better than the best by more than the tolerance."""
        if len(self.remaining) <= 1:
            return True
        best = self.best
        if best is None or len(self.standings) < _FIRST_ELIMINATION:
            return False
        return all(s.mean - best.mean + s.half_width <= self._slack for s in self.kept if s is not best)

    @property
    def ties(self) -> frozenset[str]:
        """Candidates that were never shown to be worse than the best by more than the tolerance; the best is one."""
        last: dict[str, bool] = {}
        for current in self.standings:
            best = max((standing.mean for standing in current), default=0.0)
            last.update({s.candidate: s.mean + s.half_width + self._slack >= best for s in current})
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

    def full_grid_measurements(self, candidates: int) -> int:
        """Measurements of a grid that would certify the best of so many candidates at the noise seen here."""
        variance, df = residual_variance(self.rounds)
        if df == 0 or candidates < 2:
            return 2 * candidates
        quantile = NormalDist().inv_cdf(1 - (1 - self.settings.confidence) / (candidates - 1))
        return candidates * max(2, math.ceil(2 * (quantile * math.sqrt(variance) / self._slack) ** 2))


def residual_variance(rounds: Sequence[Mapping[str, float]]) -> tuple[float, int]:
    """Residual variance of value = candidate + round by least squares, also where later rounds have fewer candidates.

    Returns (variance, degrees of freedom); (0, 0) where there are none.
    """
    import numpy as np

    names = sorted({name for values in rounds for name in values})
    cells = [
        (names.index(name), len(names) + number, value)
        for number, values in enumerate(rounds)
        for name, value in values.items()
    ]
    if not cells:
        return 0.0, 0
    design = np.zeros((len(cells), len(names) + len(rounds)))
    for row, (candidate, number, _) in enumerate(cells):
        design[row, candidate] = design[row, number] = 1
    values = np.array([value for _, _, value in cells])
    values -= values.mean()
    effects, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    df = len(cells) - int(rank)
    if df <= 0:
        return 0.0, 0
    residuals = values - design @ effects
    return float(residuals @ residuals) / df, df
