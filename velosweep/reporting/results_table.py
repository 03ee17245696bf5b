"""The results of a sweep as columns: one source for the screen and for what people paste elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from velosweep.model import Comparison, Verdict
from velosweep.reporting.screen import Column
from velosweep.reporting.wording import VERDICT_SIGNS, VERDICT_WORDS, best_estimate, interval_words, number, percent

# n_draft, vanilla tok/s, speculative tok/s, speedup and an interval take this many columns beside each other.
NARROW = 70


def job_columns(jobs: Sequence[Comparison], *, width: int | None = None) -> list[Column]:
    """One row a job; columns of parameters that don't vary are left out (but n_draft).

    `width` of the screen: on a narrow one a title is shortened. What gives way last is what a speedup is made of.
    """
    short = width is not None and width < NARROW

    def column(title: str, word: Callable[[Comparison], str], *, sacrifice: int, right: bool = True) -> Column:
        return Column(title=title, cells=tuple(word(job) for job in jobs), sacrifice=sacrifice, right=right)

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
        column("speedup", lambda job: _times(best_estimate(job)), sacrifice=0),
        column("95 % interval", interval_words, sacrifice=3),
        column("accepted", lambda job: percent(job.acceptance.rate) if job.acceptance else "", sacrifice=5),
        column("expected", lambda job: _times(job.expected_speedup), sacrifice=6),
        column("verdict", verdict_words, sacrifice=4, right=False),
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
