"""Valid settings that are probably mistakes: jobs run all the same, and people are warned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from velosweep.config.settings import Job
from velosweep.machine.cores import oversubscription
from velosweep.models.gguf_model import GgufInfo
from velosweep.values import Lane


@dataclass(frozen=True, kw_only=True, slots=True)
class PreflightWarning:
    """A setting that is probably a mistake. `subject`: what it is about, in a word; `remedy`: what to do."""

    subject: str
    text: str
    remedy: str


def preflight_warnings(
    jobs: Sequence[Job], headers: Mapping[str, GgufInfo], lanes: Sequence[Lane]
) -> tuple[PreflightWarning, ...]:
    """Everything to warn of before measuring. `headers`: of the model files, by path. No `lanes`: not measured here."""
    return (*_large_drafts(jobs, headers), *_long_drafts(jobs), *_oversubscription(jobs, lanes))


def _large_drafts(jobs: Sequence[Job], headers: Mapping[str, GgufInfo]) -> Iterator[PreflightWarning]:
    drafting = [job.model_pair for job in jobs if "draft" in job.speculation.kinds]
    for main, draft in dict.fromkeys((pair.main_model, pair.draft_model or "") for pair in drafting):
        if main in headers and draft in headers and headers[draft].size_bytes >= headers[main].size_bytes:
            yield PreflightWarning(
                subject="pair",
                text=f"The draft model {Path(draft).name} is no smaller than the main model {Path(main).name}: "
                "it can't speed it up. Were the two exchanged?",
                remedy="choose a draft model a fifth as large or less",
            )


def _long_drafts(jobs: Sequence[Job]) -> Iterator[PreflightWarning]:
    """Drafts longer than a run: llama.cpp drafts at most what the run still may generate, less one."""
    lengths = dict.fromkeys((job.n_draft, job.n_predict) for job in jobs if job.n_draft >= job.n_predict)
    for n_draft, n_predict in lengths:
        yield PreflightWarning(
            subject="n_draft",
            text=f"n_draft {n_draft} is longer than a run of n_predict {n_predict}: a server drafts no more than "
            f"the run has left, so it measures what n_draft {max(n_predict - 2, 1)} would",
            remedy=f"raise n_predict above {n_draft}, or take shorter drafts",
        )


def _oversubscription(jobs: Sequence[Job], lanes: Sequence[Lane]) -> Iterator[PreflightWarning]:
    """Threads that outnumber the cores; lanes on GPUs hardly use theirs at the same time."""
    if not lanes:
        return
    sharing = len(lanes) if all(lane.on_cpu for lane in lanes) else 1
    for threads in dict.fromkeys(job.engine.threads for job in jobs if job.engine.kind != "attached"):
        text = oversubscription(threads, lanes=sharing) if threads else None
        if text:
            yield PreflightWarning(
                subject="threads",
                text=text,
                remedy="leave engine.threads out: then the physical cores but one are used",
            )
