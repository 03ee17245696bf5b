"""Which of several jobs is chosen, and how sure it then is."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from velosweep.records import SearchRecord, SweepRecord
from velosweep.statistics.comparison import Comparison, ModeStatistics
from velosweep.statistics.findings import confirmed_findings
from velosweep.values import Verdict

K = TypeVar("K")


def best_estimate(job: Comparison) -> float | None:
    """The speedup to rank and to plot by: the geometric mean, else the specification's ratio of means.

    None where nothing was drafted: vanilla was measured twice.
    """
    if job.drafted is False:
        return None
    return job.speedup_gm if job.speedup_gm is not None else job.speedup


def can_win(job: Comparison) -> bool:
    """Whether it has a speedup, and its verdict is usable."""
    return best_estimate(job) is not None and job.verdict is not Verdict.INVALID


def fastest(jobs: Iterable[Comparison]) -> Comparison | None:
    """Among jobs that can win the one with the highest estimate; those surely faster come first.

    It has the lower limit and the verdict that hold for the best of several (see best_of_several).
    """
    ranked = list(filter(can_win, jobs))
    sure = [job for job in ranked if _verdict_if_chosen(job) is Verdict.FASTER] or ranked
    best = max(sure, key=lambda job: best_estimate(job) or 0.0, default=None)
    if best is None or best.chosen_low is None:
        return best
    return replace(best, ci_low=best.chosen_low, verdict=_verdict_if_chosen(best))


def _verdict_if_chosen(job: Comparison) -> Verdict:
    unsure = job.verdict is Verdict.FASTER and job.chosen_low is not None and job.chosen_low <= 1
    return Verdict.NO_RELIABLE_GAIN if unsure else job.verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Leader:
    """The best job of one baseline: of jobs that share a vanilla series. `search`: the one that found it, if any."""

    job: Comparison
    baseline_id: str
    search: SearchRecord | None

    @property
    def speculates(self) -> bool:
        """Whether speculation is surely faster than this baseline."""
        return self.job.verdict is Verdict.FASTER and (self.search is None or self.search.job_id is not None)

    @property
    def mode(self) -> ModeStatistics | None:
        """The faster way to run it, by what is sure."""
        return self.job.speculative if self.speculates else self.job.vanilla

    @property
    def speed(self) -> float:
        """Its tokens a second, with or without speculation; 0 where it is not known."""
        return self.mode.tokens_per_second.mean if self.mode is not None else 0.0


def leaders(jobs: Iterable[Comparison], record: SweepRecord) -> list[Leader]:
    """One for each baseline, the fastest first: a large speedup of something slow is no answer."""
    baseline_of = record.baselines
    searched = {row.job_id: one for one in record.searches if one.category is None for row in one.candidates}
    alike: dict[str, list[Comparison]] = defaultdict(list)
    for job in jobs:
        alike[baseline_of.get(job.job_id, "")].append(job)
    found = []
    for baseline_id, group in alike.items():
        search = next((searched[job.job_id] for job in group if job.job_id in searched), None)
        if (best := fastest(group) if search is None else _confirmed(search, group)) is not None:
            found.append(Leader(job=best, baseline_id=baseline_id, search=search))
    return sorted(found, key=lambda leader: -leader.speed)


def leading(jobs: Iterable[Comparison], record: SweepRecord) -> Leader | None:
    """The leader that an answer speaks of: the fastest, or where no speculation surely pays the one that may be it."""
    found = leaders(jobs, record)
    if any(leader.speculates or leader.search for leader in found):
        return found[0]

    def most(leader: Leader) -> float:
        return max(leader.job.vanilla_speed or 0.0, leader.job.speculative_speed or 0.0)

    return max(found, key=most, default=None)


def _confirmed(search: SearchRecord, jobs: Iterable[Comparison]) -> Comparison | None:
    """The winner with the speedup of its confirming pairs alone: the pairs that selected it overstate it."""
    group = list(jobs)
    best = next((job for job in group if job.job_id == search.job_id), None) or fastest(group)
    if best is None or search.job_id is None or search.speedup is None or best.verdict is Verdict.INVALID:
        return best
    verdict = Verdict.NO_RELIABLE_GAIN
    if search.low is not None and search.high is not None:
        verdict = Verdict.FASTER if search.low > 1 else Verdict.SLOWER if search.high < 1 else verdict
    ratio, low, high, pairs = search.speedup, search.low, search.high, search.pairs
    findings = confirmed_findings(best.findings, ratio=ratio, low=low, high=high, pairs=pairs)
    own = replace(best, speedup_gm=ratio, ci_low=low, ci_high=high, n_pairs=pairs, verdict=verdict)
    return replace(own, findings=findings, chosen_low=None)  # fresh pairs need no limit for the best of several


def turn_speedups(rows: Iterable[Comparison]) -> dict[int, float]:
    """Geometric mean speedup by turn, over the rows of a job's prompts that are turns of conversations."""
    return dict(sorted(_mean_speedups((row.turn, row) for row in rows if row.turn is not None).items()))


def category_speedups(rows: Iterable[Comparison]) -> dict[str, dict[str, float]]:
    """Geometric mean speedup by category and job id, over the rows of the prompts of each category."""
    prompts = (row for row in rows if row.prompt_id is not None and row.prompt_category)
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for (category, job_id), ratio in _mean_speedups(
        ((row.prompt_category or "", row.job_id), row) for row in prompts
    ).items():
        found[category][job_id] = ratio
    return found


def _mean_speedups(rows: Iterable[tuple[K, Comparison]]) -> dict[K, float]:
    """Of rows with the same key, those that have a speedup."""
    logs: dict[K, list[float]] = defaultdict(list)
    for key, row in rows:
        if value := best_estimate(row):
            logs[key].append(math.log(value))
    return {key: math.exp(sum(values) / len(values)) for key, values in logs.items()}
