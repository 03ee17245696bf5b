"""Which of several settings may be the best, by intervals that also hold for the one that is chosen.

Hsu's multiple comparisons with the best (1981; Hsu 1996, "Multiple Comparisons", chapter 4): of each setting the ratio
to the best of the others gets an interval, and all of these hold together with 95 %. Settings whose interval reaches
beyond 1 may be the best; the true best is among them with 95 %. Settings of one table are compared within rounds (see
two_way), others through their intervals, as independent.

Choosing the highest of K figures favours one that came out too high. The lower limit `chosen_low` allows for it: by
Dunnett's quantile over all K at 97.5 % it holds for whichever is chosen. Its figure is less likely to be too low than
any other's, so that its upper limit stays.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from velosweep.planning.job_settings import asks, settings_of
from velosweep.statistics.comparison import Comparison, RoundRatios
from velosweep.statistics.ranking import can_win
from velosweep.statistics.two_way import TwoWayModel, dunnett_quantile
from velosweep.statistics.within_rounds import table_of
from velosweep.values import Scalar

CONFIDENCE = 0.95
# Of many settings each is compared with the highest ones: the others could only narrow an interval a little.
MOST_RIVALS = 64


Question = frozenset[tuple[str, Scalar]]
"""The settings that say what is asked: main model, prompts, tokens, sampling, load; with their values."""


def question_of(job: Comparison) -> Question:
    """Jobs with the same one compete: which setting is the best for this model under this load."""
    return frozenset((key, value) for key, value in settings_of(job).items() if asks(key))


def with_best_marked(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """The comparisons, with `may_be_best` and its intervals of each whole job that has an interval."""
    rows = list(comparisons)
    competing: dict[object, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        if row.prompt_id is None and row.standard_error is not None and can_win(row):
            competing[question_of(row)].append(index)
    for indices in competing.values():
        for index, marked in zip(indices, _marked([rows[index] for index in indices]), strict=True):
            rows[index] = marked
    return rows


def _marked(jobs: Sequence[Comparison]) -> list[Comparison]:
    estimate = np.array([math.log(job.speedup_gm or math.nan) for job in jobs])
    top = np.argsort(-estimate, kind="stable")[:MOST_RIVALS].tolist()
    pairs = _Pairs(jobs, estimate)
    upper, lower = np.full(len(jobs), np.inf), np.full((len(top), len(jobs)), np.inf)
    for place, rival in enumerate(top):
        difference, half = pairs.with_rival(rival)
        others = np.arange(len(jobs)) != rival
        upper[others] = np.minimum(upper, difference + half)[others]
        lower[place, others] = (difference - half)[others]
    may_be_best = upper > 0
    among = may_be_best[top]
    nearest = lower[among].min(axis=0, initial=np.inf)  # infinite for the only one that may be best
    low = np.where(np.isinf(nearest), 0.0, np.minimum(nearest, 0.0))
    chosen = [_chosen_low(job, len(jobs)) for job in jobs]
    if len(jobs) == 1:
        return [replace(jobs[0], may_be_best=True, chosen_low=chosen[0])]
    return [
        replace(
            job,
            may_be_best=bool(may_be_best[i]),
            to_best_low=math.exp(low[i]),
            to_best_high=math.exp(max(float(upper[i]), 0.0)),
            chosen_low=chosen[i],
        )
        for i, job in enumerate(jobs)
    ]


def _chosen_low(job: Comparison, of: int) -> float | None:
    if job.speedup_gm is None or job.standard_error is None or job.df is None or job.ci_low is None:
        return None
    quantile = dunnett_quantile(of, job.df, 0.5 + 0.5 * CONFIDENCE)
    return min(job.ci_low, math.exp(max(math.log(job.speedup_gm) - quantile * job.standard_error, -700.0)))


class _Pairs:
    """Differences of jobs on the log scale, with half-widths that hold for all rivals of one job together."""

    def __init__(self, jobs: Sequence[Comparison], estimate: Any) -> None:
        self.estimate = estimate
        self.variance = np.array([(job.standard_error or 0.0) ** 2 for job in jobs])
        self.df = np.array([job.df or math.inf for job in jobs])
        tables: dict[object, list[tuple[int, RoundRatios]]] = defaultdict(list)
        for index, job in enumerate(jobs):
            if job.by_round is not None:
                tables[job.by_round.table, job.by_round.launches].append((index, job.by_round))
        self.tables = [
            ([index for index, _ in members], TwoWayModel.of(table_of([own for _, own in members])[None]))
            for members in tables.values()
        ]

    def with_rival(self, rival: int) -> tuple[Any, Any]:
        """Every job less the rival, and its half-width."""
        difference = self.estimate - self.estimate[rival]
        own, other = self.variance, self.variance[rival]
        with np.errstate(invalid="ignore", divide="ignore"):
            df = (own + other) ** 2 / (own**2 / self.df + other**2 / self.df[rival])
        df = np.where(np.isfinite(df), df, math.inf)
        error = np.sqrt(own + other)
        for members, model in self.tables:
            if rival not in members:
                continue
            found = model.contrasts(1 + members.index(rival))
            known = np.isfinite(found.standard_error[0, 1:])
            where = np.array(members)[known]
            difference[where], error[where] = found.difference[0, 1:][known], found.standard_error[0, 1:][known]
            df[where] = found.df[0, 1:][known]
        rivals = len(difference) - 1
        quantiles = {value: dunnett_quantile(rivals, value, CONFIDENCE) for value in set(df.tolist())}
        return difference, np.array([quantiles[value] for value in df.tolist()]) * error
