"""Which of several jobs is the best, and which can't be told from it.

Two jobs are tied where the 95 % interval of the ratio of their speedups holds 1, the two taken as independent. They
share the vanilla runs, so this calls a tie sooner than needed, never later.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

from velosweep.statistics.comparison import Comparison
from velosweep.values import Verdict


def best_estimate(job: Comparison) -> float | None:
    """The speedup to rank and to plot by: the geometric mean, else the specification's ratio of means."""
    return job.speedup_gm if job.speedup_gm is not None else job.speedup


def can_win(job: Comparison) -> bool:
    """Whether its verdict is usable and something was drafted: where nothing was, vanilla was measured twice."""
    return job.verdict is not Verdict.INVALID and job.drafted is not False


def fastest(jobs: Iterable[Comparison]) -> Comparison | None:
    """Among jobs that can win the one with the highest estimate; those surely faster come first."""
    ranked = [job for job in jobs if best_estimate(job) is not None and can_win(job)]
    sure = [job for job in ranked if job.verdict is Verdict.FASTER] or ranked
    return max(sure, key=lambda job: best_estimate(job) or 0.0, default=None)


def tied(job: Comparison, best: Comparison) -> bool:
    """Whether the data can't tell `job` from `best` (rule: see the module); within 1 % where one has no interval."""
    value, top = best_estimate(job), best_estimate(best)
    if value is None or top is None or not can_win(job):
        return False
    half, top_half = _log_half_width(job), _log_half_width(best)
    if half is None or top_half is None:
        return math.isclose(value, top, rel_tol=0.01)
    return abs(math.log(value / top)) <= math.hypot(half, top_half)


def _log_half_width(job: Comparison) -> float | None:
    if job.ci_low is None or job.ci_high is None:
        return None
    return math.log(job.ci_high / job.ci_low) / 2


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
