"""Which of several jobs is chosen, and how sure it then is."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from velosweep.statistics.comparison import Comparison
from velosweep.values import Verdict


def best_estimate(job: Comparison) -> float | None:
    """The speedup to rank and to plot by: the geometric mean, else the specification's ratio of means."""
    return job.speedup_gm if job.speedup_gm is not None else job.speedup


def can_win(job: Comparison) -> bool:
    """Whether its verdict is usable and something was drafted: where nothing was, vanilla was measured twice."""
    return job.verdict is not Verdict.INVALID and job.drafted is not False


def fastest(jobs: Iterable[Comparison]) -> Comparison | None:
    """Among jobs that can win the one with the highest estimate; those surely faster come first.

    It has the lower limit and the verdict that hold for the best of several (see best_of_several).
    """
    ranked = [_as_chosen(job) for job in jobs if best_estimate(job) is not None and can_win(job)]
    sure = [job for job in ranked if job.verdict is Verdict.FASTER] or ranked
    return max(sure, key=lambda job: best_estimate(job) or 0.0, default=None)


def _as_chosen(job: Comparison) -> Comparison:
    if job.chosen_low is None:
        return job
    unsure = job.verdict is Verdict.FASTER and job.chosen_low <= 1
    return replace(job, ci_low=job.chosen_low, verdict=Verdict.NO_RELIABLE_GAIN if unsure else job.verdict)


def turn_speedups(rows: Iterable[Comparison]) -> dict[int, float]:
    """Geometric mean speedup by turn, over the rows of a job's prompts that are turns of conversations."""
    logs: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        value = best_estimate(row)
        if row.turn is not None and value and row.drafted is not False:
            logs[row.turn].append(math.log(value))
    return {turn: math.exp(sum(values) / len(values)) for turn, values in sorted(logs.items())}


def category_speedups(rows: Iterable[Comparison]) -> dict[str, dict[str, float]]:
    """Geometric mean speedup by category and job id, over the rows of the prompts of each category."""
    logs: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        value = best_estimate(row)
        if row.prompt_id is not None and row.prompt_category and value and row.drafted is not False:
            logs[row.prompt_category][row.job_id].append(math.log(value))
    return {
        category: {job_id: math.exp(sum(values) / len(values)) for job_id, values in of_job.items()}
        for category, of_job in logs.items()
    }
