"""Sweeps of several settings under simulated noise, and what is reported of them: for tests and bench_rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.strategies import rounds_table
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.intervals import t_ratio
from velosweep.statistics.ranking import fastest
from velosweep.statistics.summarise import compare_jobs

SIZE = 0.01


def noise(kind: str, shape: tuple[int, int, int], rng: np.random.Generator) -> Any:
    """Log disturbance of sweeps x rounds x arms, as it comes in time under ABBA.

    `kind`: iid, skew (one run in ten is slowed), drift (-5 % over the sweep), ar1 (.5).
    """
    sweeps, rounds, arms = shape
    x = rng.normal(0, SIZE, (sweeps, rounds * arms))
    if kind == "skew":
        x -= np.where(rng.random(x.shape) < 0.1, rng.exponential(3 * SIZE, x.shape), 0)
    elif kind == "drift":
        x += np.linspace(0, -0.05, rounds * arms)
    elif kind == "ar1":
        for i in range(1, rounds * arms):
            x[:, i] = 0.5 * x[:, i - 1] + math.sqrt(0.75) * x[:, i]
    elif kind != "iid":
        raise ValueError(kind)
    x = x.reshape(shape)
    x[:, 1::2] = x[:, 1::2, ::-1]
    return x


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is reported of simulated sweeps: arrays, sweeps x settings, and of each sweep the chosen setting."""

    held: Any
    width: Any
    own_width: Any  # by each setting's own pairs alone, as it was before
    may_be_best: Any
    to_best_held: Any
    chosen: Any
    chosen_held: Any


def texts(shape: tuple[int, int, int], rng: np.random.Generator, *, shared: float, own: float) -> Any:
    """As `noise`, with a text drawn each round: it changes all speculative arms by `shared`, each by `own` (logs)."""
    sweeps, rounds, arms = shape
    x = rng.normal(0, SIZE, shape)
    x[:, :, 1:] += rng.normal(0, shared, (sweeps, rounds, 1)) + rng.normal(0, own, (sweeps, rounds, arms - 1))
    return x


def seen(disturbance: Any, truth: Sequence[float], *, drawn: bool = False) -> Seen:
    """Report sweeps whose settings have these true ratios to vanilla, which is arm 0 of `disturbance`."""
    logs = np.log([1.0, *truth])
    sweeps, _, arms = disturbance.shape
    table = rounds_table(30 * np.exp(logs + disturbance), drawn=drawn)
    jobs = [row for row in compare_jobs(table) if row.prompt_id is None]
    by_sweep: dict[int, list[Comparison]] = {}
    for job in jobs:
        by_sweep.setdefault(job.n_predict, []).append(job)
    reported = [sorted(by_sweep[10 + number], key=lambda job: job.n_draft) for number in range(sweeps)]
    best_other = np.array([max(t for j, t in enumerate(truth) if j != i) for i in range(arms - 1)])
    to_best = np.array(truth) / best_other
    choices = [fastest(row) for row in reported]
    chosen = np.array([choice.n_draft - 1 for choice in choices if choice])
    limits = np.array([(choice.ci_low, choice.ci_high) for choice in choices if choice], dtype=float)
    found = np.array(
        [[(j.ci_low, j.ci_high, j.to_best_low, j.to_best_high, j.may_be_best) for j in row] for row in reported],
        dtype=float,
    )
    low, high, best_low, best_high, may_be_best = np.moveaxis(found, 2, 0)
    d = np.array([[job.by_round.logs for job in row if job.by_round] for row in reported])
    own = [[t_ratio(pairs).interval for pairs in row] for row in d.tolist()]
    return Seen(
        held=(low <= truth) & (truth <= high),
        width=np.log(high / low) / 2,
        own_width=np.array([[math.log(one.high / one.low) / 2 if one else math.nan for one in row] for row in own]),
        may_be_best=may_be_best.astype(bool),
        to_best_held=(best_low <= to_best) & (to_best <= best_high),
        chosen=chosen,
        chosen_held=(limits[:, 0] <= np.array(truth)[chosen]) & (np.array(truth)[chosen] <= limits[:, 1]),
    )
