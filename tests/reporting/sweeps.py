"""Sweeps for the tests of reporting: samples drawn from a seeded model of speculation, and what the analysis, which is
velosweep's own, says of them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from tests.results import made
from tests.strategies import samples_to_table
from velosweep.records import Environment, JobRecord, ModelFile, SweepRecord
from velosweep.reporting.wording import whole_jobs
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.summarise import compare_jobs
from velosweep.values import Device, Mode, Sample, Status

START = datetime(2026, 10, 1, 12, 0, tzinfo=timezone.utc)


@dataclass(frozen=True, kw_only=True)
class Pair:
    name: str
    main: str
    draft: str | None
    alpha: float
    cost: float
    vanilla_rate: float


SYNTHETIC = Pair(name="synthetic", main="/home/somebody/.cache/velosweep/target-16x1024.gguf",
                 draft="/home/somebody/.cache/velosweep/draft-1x1024.gguf", alpha=0.75, cost=0.09,
                 vanilla_rate=41.0)  # fmt: skip
THREE_PAIRS = (
    Pair(name="llama8b_1b", main="/models/llama-3.1-8b-instruct-q4_k_m.gguf",
         draft="/models/llama-3.2-1b-instruct-q4_k_m.gguf", alpha=0.78, cost=0.14, vanilla_rate=88.0),
    Pair(name="llama8b_3b", main="/models/llama-3.1-8b-instruct-q4_k_m.gguf",
         draft="/models/llama-3.2-3b-instruct-q4_k_m.gguf", alpha=0.84, cost=0.42, vanilla_rate=88.0),
    Pair(name="codellama13b_1b", main="/models/codellama-13b-q4_k_m.gguf",
         draft="/models/codellama-1b-q4_k_m.gguf", alpha=0.6, cost=0.11, vanilla_rate=52.0),
)  # fmt: skip
CATEGORIES = ("code", "prose", "reasoning", "translation")


@dataclass(frozen=True, kw_only=True, eq=False)
class MadeUp:
    record: SweepRecord
    comparisons: list[Comparison]
    samples: pa.Table
    runs: tuple[Sample, ...]
    root: Path = Path("sweep")

    @property
    def jobs(self) -> list[Comparison]:
        """The comparisons over whole prompt sets."""
        return whole_jobs(self.comparisons)


@lru_cache(maxsize=1)
def default_sweep() -> MadeUp:
    return make([SYNTHETIC], n_drafts=(4, 8, 12), prompts=1, iterations=5, synthetic=True)


@lru_cache(maxsize=1)
def large_sweep() -> MadeUp:
    return make(THREE_PAIRS, n_drafts=tuple(range(1, 13)), prompts=20, iterations=5, gpu=True)


@lru_cache(maxsize=1)
def ten_thousand_samples() -> MadeUp:
    return make(THREE_PAIRS, n_drafts=tuple(range(1, 13)), prompts=20, iterations=14, gpu=True)


@lru_cache(maxsize=1)
def single_job() -> MadeUp:
    return make([SYNTHETIC], n_drafts=(8,), prompts=1, iterations=5, synthetic=True, single=True)


@lru_cache(maxsize=1)
def skip_vanilla() -> MadeUp:
    return make([SYNTHETIC], n_drafts=(4, 8, 12), prompts=1, iterations=3, synthetic=True, skip=True)


@lru_cache(maxsize=1)
def modest() -> MadeUp:
    pair = replace_pair(SYNTHETIC, alpha=0.3, cost=0.3)
    return make([pair], n_drafts=(4, 8), prompts=1, iterations=5)


def replace_pair(pair: Pair, **changes: float) -> Pair:
    return replace(pair, **changes)


@lru_cache(maxsize=1)
def with_failures() -> MadeUp:
    """Noisy runs that slow down, of which one job's all fail and one of another's."""
    sweep = make([THREE_PAIRS[0]], n_drafts=(2, 4, 8, 16), prompts=1, iterations=10, gpu=True, failing=16, noisy=True)
    states = {
        16: ("failed", "llama-server ended with 1: failed to allocate buffer for kv cache"),
        8: ("partial", "1 of 10 runs failed"),
    }
    jobs = tuple(
        replace(job, state=states[job.n_draft][0], error=states[job.n_draft][1]) if job.n_draft in states else job
        for job in sweep.record.jobs
    )
    return replace(sweep, record=replace(sweep.record, jobs=jobs))


@lru_cache(maxsize=1)
def hostile() -> MadeUp:
    """Names and prompts that try to act where they are shown."""
    bad = '</script><img src=x onerror="alert(1)">\x1b]0;owned\x07=cmd|calc'
    return make([replace(SYNTHETIC, name=bad)], n_drafts=(4, 8), prompts=2, iterations=3, prompt_text=bad)


def make(
    pairs: Sequence[Pair],
    *,
    n_drafts: Sequence[int],
    prompts: int,
    iterations: int,
    gpu: bool = False,
    synthetic: bool = False,
    single: bool = False,
    skip: bool = False,
    failing: int | None = None,
    noisy: bool = False,
    prompt_text: str | None = None,
) -> MadeUp:
    """A sweep of pairs × n_drafts, every job interleaved with a shared vanilla server. Same arguments, same sweep."""
    world = _World(
        prompts=prompts, iterations=iterations, gpu=gpu, skip=skip, failing=failing, noisy=noisy,
        text=prompt_text or "Explain quantum computing in simple terms",
    )  # fmt: skip
    jobs = [(pair, n_draft) for pair in pairs for n_draft in n_drafts]
    runs = tuple(run for pair in pairs for run in world.runs(pair, {jobs.index((pair, n)): n for n in n_drafts}))
    record = SweepRecord(
        sweep_id="20261001-120000-madeup",
        created_at=START,
        command=("velosweep",) if single else ("velosweep", "-m", "n_draft=" + ",".join(map(str, n_drafts))),
        single=single,
        jobs=tuple(world.job_record(number, pair, n_draft, synthetic) for number, (pair, n_draft) in enumerate(jobs)),
        environment=_environment(gpu, pairs),
    )
    samples = samples_to_table(runs)
    comparisons = compare_jobs(samples, jobs={job.id: job for job in record.jobs})
    return MadeUp(record=record, comparisons=comparisons, samples=samples, runs=runs)


def _environment(gpu: bool, pairs: Sequence[Pair]) -> Environment:
    device = Device(kind="cuda", name="NVIDIA H100 80GB HBM3", index=0) if gpu else Device(kind="cpu", name="CPU")
    models = {path for pair in pairs for path in (pair.main, pair.draft) if path}
    return Environment(
        velosweep="0.1.0", python="3.12.4", host="bench-1", system="Linux 6.8 x86_64", cpu="AMD EPYC 9354",
        physical_cores=2, logical_cores=4, memory_bytes=24 << 30, devices=(device,),
        engine="server" if gpu else "embedded",
        program="/home/somebody/llama.cpp/build/bin/llama-server" if gpu else None,
        program_sha256="ab" * 32 if gpu else None, llama_cpp_build="b7130 (9ea3f2c1)",
        engine_reason="llama-server was found on PATH" if gpu else "no llama-server was found",
        models=tuple(ModelFile(path=path, size_bytes=len(path) * 10**8, fingerprint="cd" * 32)
                     for path in sorted(models)),
    )  # fmt: skip


@dataclass(kw_only=True)
class _World:
    """What determines the runs; its clock and its random numbers go on from run to run."""

    prompts: int
    iterations: int
    gpu: bool
    skip: bool
    failing: int | None
    noisy: bool
    text: str
    order: int = 0
    now: datetime = START

    def __post_init__(self) -> None:
        self.random = random.Random(7)

    def prompt_id(self, index: int) -> str:
        return f"{self.category(index)}-{index:02d}" if self.prompts > 1 else "quantum"

    def category(self, index: int) -> str | None:
        return CATEGORIES[index % len(CATEGORIES)] if self.prompts > 1 else None

    def alpha(self, pair: Pair, prompt: int) -> float:
        return min(max(pair.alpha + 0.09 * math.sin(prompt * 1.7) * (self.prompts > 1), 0.05), 0.95)

    def tokens_per_round(self, pair: Pair, n_draft: int, prompt: int) -> float:
        alpha = self.alpha(pair, prompt)
        return (1 - alpha ** (n_draft + 1)) / (1 - alpha)

    def runs(self, pair: Pair, jobs: dict[int, int]) -> Iterator[Sample]:
        """A warm-up of each server, then rounds in alternating order. `jobs`: n_draft by number."""
        servers: list[tuple[int | None, int]] = [*([] if self.skip else [(None, 0)]), *jobs.items()]
        for iteration in range(self.iterations + 1):
            for number, n_draft in servers[:: 1 if iteration % 2 == 0 else -1]:
                for prompt in range(self.prompts if iteration else 1):
                    yield self.run(pair, number, n_draft, prompt, iteration)

    def true_rate(self, pair: Pair, n_draft: int, prompt: int) -> float:
        vanilla = pair.vanilla_rate * (1 + 0.08 * math.cos(prompt))
        return vanilla * self.tokens_per_round(pair, n_draft, prompt) / (n_draft * (pair.cost + 0.03) + 1)

    def draft_share(self, pair: Pair, n_draft: int) -> float:
        """Of decoding; each further token costs verification 0.03 of a step."""
        return n_draft * pair.cost / (n_draft * (pair.cost + 0.03) + 1)

    def run(self, pair: Pair, number: int | None, n_draft: int, prompt: int, iteration: int) -> Sample:
        """One run; iteration 0 is a warm-up."""
        warmup = iteration == 0
        noise = self.random.gauss(0, 0.012) - 0.0004 * self.order * self.noisy - 0.15 * warmup
        if self.noisy and self.random.random() < 0.04:
            noise -= 0.5
        rate = self.true_rate(pair, n_draft, prompt) * math.exp(noise)
        predicted_ms = 99 / rate * 1000
        failed = n_draft == self.failing or (self.noisy and n_draft == 8 and iteration == 5)
        self.order += 1
        self.now += timedelta(milliseconds=predicted_ms + 40)
        rounds = max(round(100 / self.tokens_per_round(pair, n_draft, prompt)), 1) if n_draft else None
        accepted = [round(rounds * self.alpha(pair, prompt) ** (i + 1)) for i in range(n_draft)] if rounds else []
        return made.sample(
            sweep_id="20261001-120000-madeup", job_id=f"job{number}" if number is not None else f"base-{pair.name}",
            job_num=number, model_pair=pair.name, main_model=pair.main, draft_model=pair.draft if n_draft else None,
            speculation="draft" if n_draft else "none", n_draft=n_draft,
            prompt_set="suite" if self.prompts > 1 else "default",
            prompt_id="warmup" if warmup else self.prompt_id(prompt), prompt=self.text,
            prompt_category=self.category(prompt), mode=Mode.SPECULATIVE if n_draft else Mode.VANILLA,
            iteration=iteration, order=self.order, warmup=warmup,
            status=Status.FAILED if failed else Status.OK,
            error="HTTP 500: the server answered with an error" if failed else None,
            tokens_per_second=None if failed else rate, time_to_first_token_ms=None if failed else 35 + 500 / rate,
            total_time_ms=None if failed else predicted_ms + 40, prompt_ms=38.0, predicted_ms=predicted_ms,
            draft_tokens=rounds * n_draft if rounds else None, accepted_tokens=sum(accepted) if rounds else None,
            draft_ms=predicted_ms * self.draft_share(pair, n_draft) if n_draft else None,
            accepted_per_position=tuple(accepted) or None, rounds=rounds, started_at=self.now,
            device="NVIDIA H100 80GB HBM3" if self.gpu else "CPU", host="bench-1",
            engine="server" if self.gpu else "embedded", llama_cpp_build="b7130 (9ea3f2c1)",
            gpu_temperature_c=40 + 25 * (1 - math.exp(-self.order / 60)) if self.gpu else None,
            gpu_clock_mhz=1980 - self.order % 7 * 15.0 if self.gpu else None, gpu_power_w=420.0 if self.gpu else None,
            load_average=1.0 + 0.2 * math.sin(self.order / 9),
        )  # fmt: skip

    def job_record(self, number: int, pair: Pair, n_draft: int, synthetic: bool) -> JobRecord:
        return made.job_record(
            number, baseline_id=f"base-{pair.name}", directory=f"n_draft={n_draft}", overrides=(f"n_draft={n_draft}",),
            model_pair=pair.name, main_model=pair.main, draft_model=pair.draft, n_draft=n_draft,
            prompt_set="suite" if self.prompts > 1 else "default",
            prompt_ids=tuple(self.prompt_id(index) for index in range(self.prompts)), iterations=self.iterations,
            skip_vanilla=self.skip, synthetic=synthetic, state="failed" if n_draft == self.failing else "done",
        )  # fmt: skip
