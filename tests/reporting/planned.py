"""Sweeps before they run, planned as velosweep plans them: jobs, servers, groups and measurements."""

from __future__ import annotations

from collections.abc import Sequence

from tests.planning.jobs import job
from velosweep.config.settings import Adaptive, Job, ModelPair, Prompt, PromptSet, Protocol
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.planning.identity import identify, speculative_server, vanilla_server
from velosweep.planning.measurements import Measurement
from velosweep.planning.server_groups import ServerGroup, plan_groups
from velosweep.values import Mode

MAIN, DRAFT = "/models/llama-3.1-8b-q4_k_m.gguf", "/models/llama-3.2-1b-q4_k_m.gguf"


def jobs(
    n_drafts: Sequence[int] = (8,), *, iterations: int = 5, prompts: int = 1, adaptive: bool = False
) -> tuple[Job, ...]:
    """The specification's example over n_draft; a single job for one value."""
    texts = [Prompt(id=f"p{index}", text="Explain quantum computing in simple terms") for index in range(prompts)]
    alike = [
        job(
            num=num,
            n_draft=n_draft,
            model_pair=ModelPair(name="llama8b_1b", main_model=MAIN, draft_model=DRAFT),
            prompts=PromptSet(name="default", prompts=tuple(texts)),
            protocol=Protocol(iterations=iterations, adaptive=Adaptive() if adaptive else None),
        )
        for num, n_draft in enumerate(n_drafts)
    ]
    return identify(alike, {})


def server(of: Job, mode: Mode) -> ServerConfig:
    """The server of a job in a mode."""
    found = speculative_server(of) if mode is Mode.SPECULATIVE else vanilla_server(of)
    assert found is not None
    return found


def group(of: Sequence[Job]) -> ServerGroup:
    """All jobs of a sweep loaded together."""
    (whole,) = plan_groups(of)
    return whole


def measurement(of: Job, mode: Mode, iteration: int, *, prompt: int = 0, warmup: bool = False) -> Measurement:
    """One run of a job in a mode."""
    return Measurement(
        server=server(of, mode),
        job=of,
        prompt=of.prompts.prompts[prompt],
        iteration=iteration,
        launch=0,
        group=0,
        warmup=warmup,
    )
