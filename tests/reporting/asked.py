"""Made-up sweeps before they run: jobs, arms and blocks."""

from __future__ import annotations

from collections.abc import Sequence

from velosweep.config.settings import (
    Adaptive,
    EngineSettings,
    Job,
    ModelPair,
    Prompt,
    PromptSet,
    Protocol,
    Sampling,
    Speculation,
    Sweep,
)
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.planning.server_groups import Measurement, ServerGroup
from velosweep.values import Mode

MAIN, DRAFT = "/models/llama-3.1-8b-q4_k_m.gguf", "/models/llama-3.2-1b-q4_k_m.gguf"


def job(num: int, n_draft: int, *, iterations: int = 5, prompts: int = 1, adaptive: bool = False) -> Job:
    """One job of the specification's example."""
    texts = [Prompt(id=f"p{index}", text="Explain quantum computing in simple terms") for index in range(prompts)]
    return Job(
        id=f"job{num}",
        num=num,
        baseline_id="base",
        model_pair=ModelPair(name="llama8b_1b", main_model=MAIN, draft_model=DRAFT),
        n_draft=n_draft,
        n_predict=100,
        prompts=PromptSet(name="default", prompts=tuple(texts)),
        speculation=Speculation(),
        sampling=Sampling(),
        engine=EngineSettings(kind="server"),
        protocol=Protocol(iterations=iterations, adaptive=Adaptive() if adaptive else None),
    )


def sweep(n_drafts: Sequence[int] = (8,), *, iterations: int = 5, prompts: int = 1, adaptive: bool = False) -> Sweep:
    """A sweep over n_draft; a single job for one value."""
    jobs = tuple(
        job(num, n_draft, iterations=iterations, prompts=prompts, adaptive=adaptive)
        for num, n_draft in enumerate(n_drafts)
    )
    return Sweep(id="sweep", root="/tmp/sweep", jobs=jobs, single=len(jobs) == 1)


def arm(of: Job, mode: Mode) -> ServerConfig:
    """The arm of a job in a mode."""
    fast = mode is Mode.SPECULATIVE
    return ServerConfig(
        id=of.id if fast else of.baseline_id,
        mode=mode,
        main_model=MAIN,
        draft_model=DRAFT if fast else None,
        n_draft=of.n_draft if fast else 0,
        speculation=of.speculation if fast else None,
        engine=of.engine,
    )


def block(of: Sweep) -> ServerGroup:
    """All jobs of a sweep loaded together."""
    return ServerGroup(
        number=0,
        jobs=of.jobs,
        vanilla=arm(of.jobs[0], Mode.VANILLA),
        speculative=tuple(arm(job, Mode.SPECULATIVE) for job in of.jobs),
    )


def measurement(of: Job, mode: Mode, iteration: int, *, prompt: int = 0, warmup: bool = False) -> Measurement:
    """One run of a job in a mode."""
    return Measurement(
        server=arm(of, mode),
        job=of,
        prompt=of.prompts.prompts[prompt],
        iteration=iteration,
        launch=0,
        group=0,
        warmup=warmup,
    )
