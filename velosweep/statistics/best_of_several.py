"""Which of several settings may be the best, by intervals that also hold for the one that is chosen.

Hsu's multiple comparisons with the best (1981; Hsu 1996, "Multiple Comparisons", chapter 4): of each setting the ratio
to the best of the others gets an interval, and all of these hold together with 95 %. Settings whose interval reaches
beyond 1 may be the best; the true best is among them with 95 %. Settings of one baseline are compared within the rounds
that they share (see two_way), or through their speed-ups where they share none; those of different baselines (other
engine settings) by their tokens per second, since a large speedup of something slow is not the best.

Choosing the highest of K figures favours one that came out too high. The lower limit `chosen_low` allows for it: by
Dunnett's quantile over all K at 97.5 % it holds for whichever is chosen. Its figure is less likely to be too low than
any other's, so that its upper limit stays.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from velosweep.planning.job_settings import asks, settings_of
from velosweep.statistics.comparison import Comparison, RoundRatios
from velosweep.statistics.intervals import bounded_exp
from velosweep.statistics.ranking import can_win
from velosweep.statistics.two_way import TwoWayModel, dunnett_quantile, dunnett_quantiles
from velosweep.statistics.within_rounds import table_of
from velosweep.values import Scalar

CONFIDENCE = 0.95
# Of many settings each is compared with the highest ones: the others could only narrow an interval a little.
MOST_RIVALS = 64

Task = frozenset[tuple[str, Scalar]]
"""The settings that say what is asked: main model, prompts, tokens, sampling, load; with their values."""


def task_of(job: Comparison) -> Task:
    """Jobs with the same one compete: which setting is the best for this model under this load."""
    return frozenset((key, value) for key, value in settings_of(job).items() if asks(key))


def by_task(jobs: Iterable[Comparison]) -> dict[Task, list[Comparison]]:
    """The jobs that compete with each other, in the order given."""
    found: dict[Task, list[Comparison]] = {}
    for job in jobs:
        found.setdefault(task_of(job), []).append(job)
    return found


def with_best_marked(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """The comparisons, with `may_be_best` and its intervals of each whole job that has an interval."""
    rows = list(comparisons)
    jobs = [row for row in rows if row.prompt_id is None and row.standard_error is not None and can_win(row)]
    marked = {
        id(job): result
        for competing in by_task(jobs).values()
        for job, result in zip(competing, _marked(competing), strict=True)
    }
    return [marked.get(id(row), row) for row in rows]


def _marked(jobs: Sequence[Comparison]) -> list[Comparison]:
    if len(jobs) == 1:
        return [replace(job, may_be_best=True, chosen_low=_chosen_low(job, len(jobs))) for job in jobs]
    pairs = _Pairs(jobs)
    top = np.argsort(-pairs.speeds.center, kind="stable")[:MOST_RIVALS].tolist()
    upper, lower = np.full(len(jobs), np.inf), np.full((len(top), len(jobs)), np.inf)
    for place, rival in enumerate(top):
        difference, half = pairs.with_rival(rival)
        others = np.arange(len(jobs)) != rival
        upper[others] = np.minimum(upper, difference + half)[others]
        lower[place, others] = (difference - half)[others]
    may_be_best = upper >= 0  # 0 where nothing varies and two are equally fast
    among = may_be_best[top]
    low = np.minimum(lower[among].min(axis=0, initial=np.inf), 0.0)  # infinite for the only one that may be best
    return [
        replace(
            job,
            may_be_best=bool(may_be_best[i]),
            to_best_low=_ratio(low[i]),
            to_best_high=_ratio(max(upper[i], 0.0)),
            chosen_low=_chosen_low(job, len(jobs)),
        )
        for i, job in enumerate(jobs)
    ]


def _ratio(log: float) -> float | None:
    """None where nothing bounds it: a single run has no spread."""
    return bounded_exp(log) if math.isfinite(log) else None


def _chosen_low(job: Comparison, of: int) -> float | None:
    if job.speedup_gm is None or job.standard_error is None or job.df is None or job.ci_low is None:
        return None
    quantile = dunnett_quantile(of, job.df, 0.5 + 0.5 * CONFIDENCE)
    return min(job.ci_low, bounded_exp(math.log(job.speedup_gm) - quantile * job.standard_error))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Estimates:
    """Log figures of all jobs with their variances (infinite where not known) and degrees of freedom."""

    center: Any
    variance: Any
    df: Any

    def less(self, rival: int) -> tuple[Any, Any, Any]:
        """All jobs less the rival, as independent: differences, standard errors, degrees of freedom (Satterthwaite)."""
        variance = self.variance + self.variance[rival]
        with np.errstate(invalid="ignore", divide="ignore"):
            df = variance**2 / (self.variance**2 / self.df + self.variance[rival] ** 2 / self.df[rival])
        return self.center - self.center[rival], np.sqrt(variance), np.where(np.isfinite(df), df, math.inf)


class _Pairs:
    """Differences of jobs on the log scale, with half-widths that hold for all rivals of one job together."""

    def __init__(self, jobs: Sequence[Comparison]) -> None:
        self.speeds = _speeds(jobs)
        self.speedups = _Estimates(
            center=np.array([math.log(job.speedup_gm or math.nan) for job in jobs]),
            variance=np.array([job.standard_error for job in jobs], dtype=float) ** 2,
            df=np.array([job.df for job in jobs], dtype=float),
        )
        self.tables = [job.by_round and job.by_round.table for job in jobs]
        together: dict[object, list[tuple[int, RoundRatios]]] = defaultdict(list)
        for index, job in enumerate(jobs):
            if job.by_round is not None:
                together[job.by_round.table, job.by_round.launches].append((index, job.by_round))
        self.models = [
            ([index for index, _ in members], TwoWayModel.of(table_of([own for _, own in members])[None]))
            for members in together.values()
        ]

    def with_rival(self, rival: int) -> tuple[Any, Any]:
        """Every job less the rival, and its half-width."""
        table = self.tables[rival]
        same = np.array([table is not None and other == table for other in self.tables])
        of_speeds, of_speedups = self.speeds.less(rival), self.speedups.less(rival)
        difference, error, df = (np.where(same, *both) for both in zip(of_speedups, of_speeds, strict=True))
        for members, model in self.models:
            if rival not in members:
                continue
            found = model.contrasts(1 + members.index(rival))
            shared = np.isfinite(found.standard_error[0, 1:])
            where = np.array(members)[shared]
            for target, values in ((difference, found.difference), (error, found.standard_error), (df, found.df)):
                target[where] = values[0, 1:][shared]
        return difference, dunnett_quantiles(len(difference) - 1, df, CONFIDENCE) * error


def _speeds(jobs: Sequence[Comparison]) -> _Estimates:
    """Each job's own tokens per second."""
    speeds = [job.speculative.tokens_per_second for job in jobs if job.speculative]  # as all have that can win
    spread = [math.inf if one.stddev is None else one.stddev / one.mean for one in speeds]
    passes = np.array([job.n_pairs or job.iterations for job in jobs])
    return _Estimates(
        center=np.array([math.log(one.mean) for one in speeds]),
        variance=np.array(spread) ** 2 / passes,
        df=passes - 1.0,
    )
