"""The results of a sweep as columns: one source for the screen and for what people paste elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace

from velosweep.records import JobRecord, SweepRecord
from velosweep.reporting.safe import clip
from velosweep.reporting.screen import Column
from velosweep.reporting.wording import (
    VERDICT_SIGNS,
    VERDICT_WORDS,
    interval_words,
    number,
    percent,
    whole_jobs,
)
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.ranking import best_estimate
from velosweep.values import Verdict

# n_draft, vanilla tok/s, speculative tok/s, speedup and an interval take this many columns beside each other.
NARROW = 70


# How much of a failed job's reason stands beside the verdicts: on a screen it costs no other column its place, and the
# whole of it stands elsewhere.
_REASON_ON_SCREEN, REASON_LENGTH = 16, 60


def with_failed(jobs: Sequence[Comparison], record: SweepRecord) -> list[Comparison]:
    """The jobs, and a row for each that failed without a run, where others have results; in the order of the jobs.

    Such a row has its vanilla figures where a job of the same baseline has some.
    """
    if not jobs:
        return []
    there = {job.job_id: job for job in jobs}
    of_baseline = {entry.baseline_id: there[entry.id] for entry in record.jobs if entry.id in there}
    missing = (entry for entry in record.jobs if entry.state == "failed" and entry.id not in there)
    return whole_jobs([*jobs, *(_failed_row(entry, of_baseline.get(entry.baseline_id), jobs[0]) for entry in missing)])


def _failed_row(entry: JobRecord, sibling: Comparison | None, other: Comparison) -> Comparison:
    """`sibling` has the same baseline; `other` is any job, whose machine and engine were the failed one's too."""
    same = {field.name for field in fields(JobRecord)} & {field.name for field in fields(Comparison)}
    return replace(
        sibling or other,
        **{name: getattr(entry, name) for name in same},
        job_id=entry.id, job_num=entry.num, n_pairs=0, vanilla=sibling.vanilla if sibling else None, speculative=None,
        speedup=None, speedup_stddev=None, speedup_gm=None, ci_low=None, ci_high=None, ci_method=None, acceptance=None,
        cost_ratio=None, expected_speedup=None, verdict=Verdict.INVALID, findings=(), finished_at=None,
        population_low=None, population_high=None, suite_speedup=None, worst_prompt=None,
        energy_j_per_token_vanilla=sibling.energy_j_per_token_vanilla if sibling else None,
        energy_j_per_token_speculative=None,
    )  # fmt: skip


def reasons_of_failed(record: SweepRecord) -> dict[str, str]:
    """Why jobs failed, by job id."""
    return {job.id: job.error or "see its log" for job in record.jobs if job.state == "failed"}


def job_columns(
    jobs: Sequence[Comparison], *, width: int | None = None, failed: Mapping[str, str] | None = None
) -> list[Column]:
    """One row a job; columns of parameters that don't vary are left out (but n_draft).

    `width` of the screen: on a narrow one a title is shortened. What gives way last is what a speedup is made of.
    `failed`: reasons by job id; such a job is called failed, not invalid.
    """
    short = width is not None and width < NARROW
    reasons = failed or {}

    def column(title: str, word: Callable[[Comparison], str], *, sacrifice: int, right: bool = True) -> Column:
        return Column(title=title, cells=tuple(word(job) for job in jobs), sacrifice=sacrifice, right=right)

    def verdict(job: Comparison) -> str:
        reason = reasons.get(job.job_id)
        return (
            verdict_words(job)
            if reason is None
            else clip(reason, REASON_LENGTH if width is None else _REASON_ON_SCREEN)
        )

    names = ("model_pair", "speculation", "prompt_set", "device", "engine")
    varying = [
        column(name, lambda job, name=name: str(getattr(job, name)), sacrifice=0, right=False)  # type: ignore[misc]
        for name in names
        if len({getattr(job, name) for job in jobs}) > 1
    ]
    if len({job.n_predict for job in jobs}) > 1:
        varying.append(column("n_predict", lambda job: str(job.n_predict), sacrifice=0))
    return [
        *varying,
        column("n_draft", lambda job: str(job.n_draft), sacrifice=0),
        column("vanilla tok/s", lambda job: _rate(job, vanilla=True), sacrifice=1),
        column("spec. tok/s" if short else "speculative tok/s", lambda job: _rate(job, vanilla=False), sacrifice=2),
        column("TTFT ms", _ttft, sacrifice=7),
        column("speedup", lambda job: "failed" if job.job_id in reasons else _times(best_estimate(job)), sacrifice=0),
        column("95 % interval", interval_words, sacrifice=3),
        column("accepted", lambda job: percent(job.acceptance.rate) if job.acceptance else "", sacrifice=5),
        column("expected", lambda job: _times(job.expected_speedup), sacrifice=6),
        column("verdict", verdict, sacrifice=4, right=False),
    ]


def verdict_sign(job: Comparison) -> str:
    """A sign for the verdict that needs no colour."""
    return "–" if verdict_words(job) == "no baseline" else VERDICT_SIGNS[job.verdict]


def verdict_words(job: Comparison) -> str:
    """The verdict; `no baseline` where there is no ratio to judge."""
    if best_estimate(job) is None and job.verdict is not Verdict.INVALID:
        return "no baseline"
    return VERDICT_WORDS[job.verdict]


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}×"


def _rate(job: Comparison, *, vanilla: bool) -> str:
    stats = job.vanilla if vanilla else job.speculative
    return "" if stats is None else number(stats.tokens_per_second.mean, 1)


def _ttft(job: Comparison) -> str:
    return "" if job.speculative is None else number(job.speculative.time_to_first_token_ms.mean, 0)
