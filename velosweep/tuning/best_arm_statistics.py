"""Who still can win: means of log values over common rounds, and the half-width of their differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from velosweep.statistics.intervals import t_quantile


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """One candidate after a round. `half_width` is of its difference to another's mean; `sd` the residual's."""

    candidate: str
    mean: float
    half_width: float
    kept: bool
    sd: float | None


def standings(
    rounds: Sequence[Mapping[str, float]], alive: Sequence[str], *, rivals: int, confidence: float, cut: bool
) -> list[Standing]:
    """Judge `alive`, all of whom were measured in every one of `rounds` (the others' values still tell the noise).

    `rivals`: how many comparisons the confidence is shared among. Without `cut` all are kept.
    """
    means = {name: math.fsum(r[name] for r in rounds) / len(rounds) for name in alive if all(name in r for r in rounds)}
    variance, df = residual_variance(rounds)
    half = math.inf
    if df > 0:
        # One-sided at (1 - confidence) / rivals: the two-sided quantile of twice that error.
        quantile = t_quantile(1 - 2 * (1 - confidence) / max(rivals, 1), df)
        half = quantile * math.sqrt(2 * variance / len(rounds))
    best = max(means.values(), default=0.0)
    sd = math.sqrt(variance) if df > 0 else None
    return [
        Standing(candidate=name, mean=mean, half_width=half, kept=not cut or mean + half >= best, sd=sd)
        for name, mean in means.items()
    ]


def residual_variance(rounds: Sequence[Mapping[str, float]]) -> tuple[float, int]:
    """Residual variance of value = candidate + round by least squares, also where later rounds have fewer candidates.

    Returns (variance, degrees of freedom); (0, 0) where there are none.
    """
    import numpy as np

    names = sorted({name for r in rounds for name in r})
    rows = [(names.index(name), i, value) for i, r in enumerate(rounds) if len(r) > 1 for name, value in r.items()]
    columns = len(names) + len(rounds)
    if not rows:
        return 0.0, 0
    design = np.zeros((len(rows), columns))
    values = np.empty(len(rows))
    for row, (name, number, value) in enumerate(rows):
        design[row, name] = design[row, len(names) + number] = 1
        values[row] = value
    solution, _, rank, _ = np.linalg.lstsq(design, values - values.mean(), rcond=None)
    df = len(rows) - int(rank)
    if df <= 0:
        return 0.0, 0
    residuals = values - values.mean() - design @ solution
    return float(residuals @ residuals) / df, df


def full_grid(candidates: int, sd: float | None, *, tolerance: float, confidence: float) -> int:
    """Measurements of a certified full grid: every candidate as often as the noise `sd` of one run asks for."""
    if sd is None or candidates < 2:
        return 2 * candidates
    quantile = NormalDist().inv_cdf(1 - (1 - confidence) / (candidates - 1))
    return candidates * max(2, math.ceil(2 * (quantile * sd / -math.log1p(-tolerance)) ** 2))
