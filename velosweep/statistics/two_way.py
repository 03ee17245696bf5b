"""Arms that were measured in the same rounds: by how much they differ, and how sure that is.

Model: log value = arm + round + noise. Whatever all arms of a round share (drift, a busy neighbour) cancels. In R
rounds the difference of two arms shows its own variance with f = R - 1 degrees of freedom. What the other arms leave
unexplained, orthogonal to it, shows the noise of this machine with g more. The own variance is moderated (Smyth 2004,
"Linear models and empirical Bayes methods"): (f own + d0 rest) / (f + d0), with Student's t of f + d0 degrees of
freedom, so that few rounds are judged by all arms and many by the two alone.

d0 is PRIOR_DF, never more than g. It is not estimated: at 3 rounds each arm's variance has 2 degrees of freedom, and no
estimate of how unlike the arms are (marginal likelihood over d0 from .5 to 64 was tried) kept the coverage of the
noisiest of arms whose spreads are 1 : 3 above 93 %. At 2 it is (tests/benchmarks/bench_rounds.py).
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

PRIOR_DF = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Contrasts:
    """Differences of arms from a reference: arrays, tables x arms.

    `rounds` that an arm shares with the reference; `standard_error` of the difference, NaN where fewer than two are
    shared, with `df` degrees of freedom.
    """

    difference: Any
    standard_error: Any
    df: Any
    rounds: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class TwoWayModel:
    """Log values, tables x arms x rounds, NaN where an arm was not measured; what the model leaves of each table."""

    values: Any
    squares: Any
    df: Any

    @classmethod
    def of(cls, values: Any) -> "TwoWayModel":
        """The model of some tables of one size."""
        squares, df = _residuals(values)
        return cls(values=values, squares=squares, df=df)

    def contrasts(self, reference: int, *, prior_df: float = PRIOR_DF) -> Contrasts:
        """All arms less the reference (whose own entry is 0, without error)."""
        d = self.values - self.values[:, reference : reference + 1]
        shared = ~np.isnan(d)
        rounds = shared.sum(axis=2)
        if not shared.all():
            d = np.where(shared, d, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            difference = d.sum(axis=2) / rounds
            own = (np.where(shared, d - difference[..., None], 0.0) ** 2).sum(axis=2) / 2
            f = (rounds - 1).astype(float)
            g = np.maximum(self.df[:, None] - f, 0.0)
            prior = np.minimum(prior_df, g)
            rest = np.where(g > 0, prior * (self.squares[:, None] - own) / g, 0.0)
            variance = (own + rest) / (f + prior)
            error = np.where(f > 0, np.sqrt(2 * variance / rounds), np.nan)
        return Contrasts(difference=difference, standard_error=error, df=f + prior, rounds=rounds)


def _residuals(values: Any) -> tuple[Any, Any]:
    """Residual sum of squares and degrees of freedom of each table."""
    tables, arms, rounds = values.shape
    left = values - values.mean(axis=2, keepdims=True)
    left = left - left.mean(axis=1, keepdims=True)
    squares, df = (left * left).sum(axis=(1, 2)), np.full(tables, float((arms - 1) * (rounds - 1)))
    for table in np.flatnonzero(np.isnan(squares)).tolist():
        squares[table], df[table] = _incomplete_residuals(values[table])
    return squares, df


def _incomplete_residuals(values: Any) -> tuple[float, float]:
    """As `_residuals` of one table with gaps, by least squares: the arms are eliminated, rounds solved for."""
    present = ~np.isnan(values)
    cells = present.astype(float)
    of_arm = np.maximum(cells.sum(axis=1), 1.0)
    y = np.where(present, values, 0.0)
    y = np.where(present, y - (y.sum(axis=1) / of_arm)[:, None], 0.0)
    normal = np.diag(cells.sum(axis=0)) - cells.T @ (cells / of_arm[:, None])
    effects, _, rank, _ = np.linalg.lstsq(normal, y.sum(axis=0), rcond=1e-10)
    shared = (cells @ effects / of_arm)[:, None]
    left = np.where(present, y - effects + shared, 0.0)
    return float((left * left).sum()), float(present.sum() - present.any(axis=1).sum() - rank)


_STEPS = 65  # of 1 / df from 0 to 1; between two the logarithm of the quantile is a line to 5e-5


def dunnett_quantiles(rivals: int, df: Any, confidence: float) -> Any:
    """`dunnett_quantile` of each df of at least 1; of many different ones interpolated, as each takes milliseconds."""
    different, places = np.unique(df, return_inverse=True)
    if len(different) < _STEPS:
        return np.array([dunnett_quantile(rivals, value, confidence) for value in different.tolist()])[places]
    steps = np.linspace(0, 1, _STEPS)
    known = [dunnett_quantile(rivals, 1 / step if step else math.inf, confidence) for step in steps.tolist()]
    return np.exp(np.interp(1 / df, steps, np.log(known)))


@lru_cache(maxsize=4096)
def dunnett_quantile(rivals: int, df: float, confidence: float) -> float:
    """One-sided quantile of the largest of so many t statistics with a common reference (Dunnett 1955, rho = 1/2).

    P(max T_i <= q) = E[Phi(z + sqrt(2) q s)^rivals] over a standard normal z and s^2 ~ chi^2_df / df.
    """
    from scipy.special import gammaincinv, ndtr, stdtrit

    if rivals < 2:
        return float(stdtrit(df, confidence))
    z, of_z = np.polynomial.hermite_e.hermegauss(48)
    of_z = of_z / of_z.sum()
    u, of_u = np.polynomial.legendre.leggauss(64)
    spread = np.sqrt(gammaincinv(df / 2, (u + 1) / 2) * 2 / df) if math.isfinite(df) else np.ones(1)
    of_u = of_u / 2 if math.isfinite(df) else np.ones(1)

    # It lies between Student's quantile and Bonferroni's.
    low, high = (float(stdtrit(df, level)) for level in (confidence, 1 - (1 - confidence) / rivals))
    for _ in range(40):  # scipy.optimize would take longer to import than all of this
        q = (low + high) / 2
        chance = ndtr(z + math.sqrt(2) * q * spread[:, None]) ** rivals
        low, high = (q, high) if float(of_u @ chance @ of_z) < confidence else (low, q)
    return high
