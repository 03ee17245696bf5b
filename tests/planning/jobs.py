"""Jobs for tests of planning and running."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from velosweep.config.settings import EngineSettings, Job, ModelPair, Prompt, PromptSet, Protocol, Sampling, Speculation
from velosweep.planning.identity import identify

PROMPTS = PromptSet(name="default", prompts=(Prompt(id="quantum", text="Explain quantum computing"),))


def job(**changes: Any) -> Job:
    """A job without identity; keyword arguments replace fields."""
    plain = Job(
        id="",
        num=0,
        baseline_id="",
        model_pair=ModelPair(name="pair", main_model="main.gguf", draft_model="draft.gguf"),
        n_draft=4,
        n_predict=100,
        prompts=PROMPTS,
        speculation=Speculation(),
        sampling=Sampling(),
        engine=EngineSettings(kind="server", program="llama-server", threads=1),
        protocol=Protocol(),
    )
    return replace(plain, **changes)


def jobs_over_n_draft(
    *n_drafts: int, iterations: int = 5, order: str = "abba", seed: int = 0, **changes: Any
) -> tuple[Job, ...]:
    """Identified jobs that differ in n_draft alone."""
    protocol = Protocol(iterations=iterations, order=order, seed=seed)
    plain = [
        job(num=num, n_draft=n_draft, directory=str(num), protocol=protocol, **changes)
        for num, n_draft in enumerate(n_drafts)
    ]
    return identify(plain, {})


def of_builds(jobs: Sequence[Job], *programs: str) -> tuple[Job, ...]:
    """These jobs for each of several builds of llama.cpp."""
    every = [replace(job, engine=replace(job.engine, program=program)) for program in programs for job in jobs]
    return identify([replace(job, num=num, directory=str(num)) for num, job in enumerate(every)], {})
