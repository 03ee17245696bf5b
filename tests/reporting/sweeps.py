"""Made-up sweeps for the tests and pictures of reporting: samples drawn from a seeded model, and their statistics.

The statistics here are deliberately simple (paired log ratios with a normal quantile); what velosweep
computes is tested in tests/statistics.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import lru_cache

import pyarrow as pa

from velosweep.records import Environment, JobRecord, ModelFile, SweepRecord
from velosweep.statistics.comparison import Acceptance, Comparison, Finding, ModeStatistics, Statistics
from velosweep.values import Device, Mode, Sample, Status, Verdict

START = datetime(2026, 10, 1, 12, 0, tzinfo=timezone.utc)
T = {1: 12.7, 2: 4.3, 3: 3.18, 4: 2.78, 5: 2.57, 9: 2.26}


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
    runs: tuple[Sample, ...] = ()


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
    made = make([THREE_PAIRS[0]], n_drafts=(2, 4, 8, 16), prompts=1, iterations=10, gpu=True, failing=16, noisy=True)
    findings = (
        Finding(code="outlier", severity="warning", subject="speculative",
                evidence={"runs": 2, "of": 10, "worst_run": 7, "value": 71.2, "median": 165.0}),
        Finding(code="drift", severity="warning", subject="vanilla",
                evidence={"drift": -0.041, "p": 0.003, "runs": 9}),
        Finding(code="throttled", severity="warning", subject="gpu", evidence={"reasons": "sw_power_cap"}),
        Finding(code="too_few_pairs", severity="info", subject="pairs", evidence={"pairs": 5}),
        Finding(code="from_the_future", severity="warning", subject="<script>alert(1)</script>", evidence={"x": 1.5}),
    )  # fmt: skip
    rows = [replace(row, findings=findings[index % 3 : index % 3 + 3]) for index, row in enumerate(made.comparisons)]
    jobs = tuple(
        replace(job, state="failed", error="llama-server ended with 1: failed to allocate buffer for kv cache")
        if job.n_draft == 16
        else replace(job, state="partial", error="1 of 10 runs failed")
        if job.n_draft == 8
        else job
        for job in made.record.jobs
    )
    return MadeUp(record=replace(made.record, jobs=jobs), comparisons=rows, samples=made.samples)


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
    """A sweep of pairs × n_drafts, every job interleaved with a shared vanilla arm. Same arguments, same sweep."""
    world = _World(
        seed=7,
        prompts=prompts,
        iterations=iterations,
        gpu=gpu,
        skip=skip,
        failing=failing,
        noisy=noisy,
        text=prompt_text,
    )
    jobs = [(pair, n_draft) for pair in pairs for n_draft in n_drafts]
    for pair in pairs:
        world.run(pair, [(jobs.index((pair, n_draft)), n_draft) for n_draft in n_drafts])
    rows: list[Comparison] = []
    for number, (pair, n_draft) in enumerate(jobs):
        if n_draft != failing:
            rows += world.compare(number, pair, n_draft)
    record = SweepRecord(
        sweep_id="20261001-120000-madeup",
        created_at=START,
        command=("velosweep",) if single else ("velosweep", "-m", "n_draft=" + ",".join(map(str, n_drafts))),
        single=single,
        jobs=tuple(world.job_record(number, pair, n_draft, synthetic) for number, (pair, n_draft) in enumerate(jobs)),
        environment=_environment(gpu, pairs),
    )
    return MadeUp(record=record, comparisons=rows, samples=samples_table(world.samples), runs=tuple(world.samples))


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


class _World:
    def __init__(
        self, *, seed: int, prompts: int, iterations: int, gpu: bool, skip: bool, failing: int | None, noisy: bool,
        text: str | None,
    ) -> None:  # fmt: skip
        self.random = random.Random(seed)
        self.prompts = prompts
        self.iterations = iterations
        self.gpu, self.skip, self.failing, self.noisy = gpu, skip, failing, noisy
        self.text = text or "Explain quantum computing in simple terms"
        self.samples: list[Sample] = []
        self.order = 0
        self.now = START

    def prompt_id(self, index: int) -> str:
        return f"{self.category(index)}-{index:02d}" if self.prompts > 1 else "quantum"

    def category(self, index: int) -> str | None:
        return CATEGORIES[index % len(CATEGORIES)] if self.prompts > 1 else None

    def alpha(self, pair: Pair, prompt: int) -> float:
        return min(max(pair.alpha + 0.09 * math.sin(prompt * 1.7) * (self.prompts > 1), 0.05), 0.95)

    def run(self, pair: Pair, jobs: list[tuple[int, int]]) -> None:
        arms: list[tuple[int | None, int]] = ([] if self.skip else [(None, 0)]) + [(n, d) for n, d in jobs]
        for iteration in range(-1, self.iterations):
            for number, n_draft in arms if iteration % 2 else arms[::-1]:
                for prompt in range(self.prompts if iteration >= 0 else 1):
                    self.samples.append(self.sample(pair, number, n_draft, prompt, iteration))

    def true_rate(self, pair: Pair, n_draft: int, prompt: int) -> float:
        base = pair.vanilla_rate * (1 + 0.08 * math.cos(prompt))
        if n_draft == 0:
            return base
        alpha = self.alpha(pair, prompt)
        tokens = (1 - alpha ** (n_draft + 1)) / (1 - alpha)
        return base * tokens / (n_draft * pair.cost + 1 + 0.03 * n_draft)

    def sample(self, pair: Pair, number: int | None, n_draft: int, prompt: int, iteration: int) -> Sample:
        noise = self.random.gauss(0, 0.012) - 0.0004 * self.order * self.noisy
        if self.noisy and self.random.random() < 0.04:
            noise -= 0.5
        if iteration < 0:
            noise -= 0.15
        rate = self.true_rate(pair, n_draft, prompt) * math.exp(noise)
        predicted_ms = 99 / rate * 1000
        failed = n_draft == self.failing or (self.noisy and n_draft == 8 and iteration == 4)
        self.order += 1
        self.now += timedelta(milliseconds=predicted_ms + 40)
        alpha = self.alpha(pair, prompt)
        rounds = max(round(100 / ((1 - alpha ** (n_draft + 1)) / (1 - alpha))), 1) if n_draft else None
        per_position = tuple(round(rounds * alpha ** (i + 1)) for i in range(n_draft)) if rounds else None
        return Sample(
            sweep_id="20261001-120000-madeup", job_id=f"job{number}" if number is not None else f"base-{pair.name}",
            job_num=number, model_pair=pair.name, main_model=pair.main, draft_model=pair.draft if n_draft else None,
            speculation="draft" if n_draft else "none", n_draft=n_draft, n_predict=100,
            prompt_set="suite" if self.prompts > 1 else "default",
            prompt_id=self.prompt_id(prompt) if iteration >= 0 else "warmup", prompt=self.text,
            prompt_category=self.category(prompt), mode=Mode.SPECULATIVE if n_draft else Mode.VANILLA,
            iteration=iteration + 1, order=self.order, launch=0, warmup=iteration < 0,
            status=Status.FAILED if failed else Status.OK,
            error="HTTP 500: the server answered with an error" if failed else None,
            tokens_per_second=None if failed else rate, time_to_first_token_ms=None if failed else 35 + 500 / rate,
            total_time_ms=None if failed else predicted_ms + 40, prompt_tokens=8, predicted_tokens=100, prompt_ms=38.0,
            predicted_ms=predicted_ms, draft_tokens=rounds * n_draft if rounds else None,
            accepted_tokens=sum(per_position) if per_position else None, accepted_per_position=per_position,
            output_sha256="0" * 64, first_divergence=None, started_at=self.now, lane=0,
            device="NVIDIA H100 80GB HBM3" if self.gpu else "CPU", host="bench-1",
            engine="server" if self.gpu else "embedded", llama_cpp_build="b7130 (9ea3f2c1)",
            gpu_temperature_c=40 + 25 * (1 - math.exp(-self.order / 60)) if self.gpu else None,
            gpu_clock_mhz=1980 - self.order % 7 * 15.0 if self.gpu else None, gpu_power_w=420.0 if self.gpu else None,
            energy_j=None, load_average=1.0 + 0.2 * math.sin(self.order / 9), rounds=rounds,
        )  # fmt: skip

    def good(self, pair: Pair, n_draft: int, prompt: int | None) -> list[Sample]:
        return [
            s for s in self.samples
            if s.model_pair == pair.name and s.n_draft == n_draft and not s.warmup and s.status is Status.OK
            and (prompt is None or s.prompt_id == self.prompt_id(prompt))
        ]  # fmt: skip

    def compare(self, number: int, pair: Pair, n_draft: int) -> list[Comparison]:
        prompts: list[int | None] = [None, *(range(self.prompts) if self.prompts > 1 else ())]
        return [self.comparison(number, pair, n_draft, prompt) for prompt in prompts]

    def comparison(self, number: int, pair: Pair, n_draft: int, prompt: int | None) -> Comparison:
        fast, slow = self.good(pair, n_draft, prompt), self.good(pair, 0, prompt)
        base = {(s.iteration, s.prompt_id): s for s in slow}
        logs = [
            math.log((s.tokens_per_second or 1) / (base[s.iteration, s.prompt_id].tokens_per_second or 1))
            for s in fast
            if (s.iteration, s.prompt_id) in base
        ]
        mean = statistics.fmean(logs) if logs else None
        spread = statistics.stdev(logs) if len(logs) > 1 else 0.0
        half = T.get(len(logs) - 1, 2.0) * spread / math.sqrt(len(logs)) if len(logs) > 1 else None
        low = math.exp(mean - half) if mean is not None and half is not None else None
        high = math.exp(mean + half) if mean is not None and half is not None else None
        alpha = statistics.fmean(self.alpha(pair, p) for p in ([prompt] if prompt is not None else range(self.prompts)))
        tokens = (1 - alpha ** (n_draft + 1)) / (1 - alpha)
        ratio = _mean(fast) / _mean(slow) if fast and slow else None
        first = fast[0]
        whole = prompt is None
        return Comparison(
            job_id=f"job{number}", job_num=number, model_pair=pair.name, main_model=pair.main, draft_model=pair.draft,
            speculation="draft", n_draft=n_draft, n_predict=100, prompt_set=first.prompt_set,
            prompt_id=None if whole else first.prompt_id, prompt=None if whole else first.prompt,
            prompt_category=None if whole else first.prompt_category, host=first.host, device=first.device,
            engine=first.engine, llama_cpp_build=first.llama_cpp_build, iterations=self.iterations, n_pairs=len(logs),
            vanilla=_mode(slow), speculative=_mode(fast), speedup=ratio,
            speedup_stddev=ratio * 0.02 if ratio else None, speedup_gm=math.exp(mean) if mean is not None else None,
            ci_low=low, ci_high=high, ci_method="paired log-ratio t" if low else None,
            acceptance=Acceptance(
                rate=(tokens - 1) / n_draft, low=(tokens - 1) / n_draft * 0.95,
                high=min((tokens - 1) / n_draft * 1.05, 1),
                interval_unit="prompts", alpha=alpha, tokens_per_round=tokens,
                per_position=tuple(alpha ** (i + 1) for i in range(n_draft)),
            ),
            cost_ratio=pair.cost, expected_speedup=tokens / (n_draft * pair.cost + 1), verdict=_verdict(low, high),
            findings=(), finished_at=self.now,
            population_low=low * 0.93 if low and whole and self.prompts > 1 else None,
            population_high=high * 1.07 if high and whole and self.prompts > 1 else None,
            worst_prompt=self.prompt_id(3) if whole and self.prompts > 1 else None,
        )  # fmt: skip

    def job_record(self, number: int, pair: Pair, n_draft: int, synthetic: bool) -> JobRecord:
        return JobRecord(
            id=f"job{number}", num=number, baseline_id=f"base-{pair.name}", directory=f"n_draft={n_draft}",
            overrides=(f"n_draft={n_draft}",), model_pair=pair.name, main_model=pair.main, draft_model=pair.draft,
            speculation="draft", n_draft=n_draft, n_predict=100, prompt_set="suite" if self.prompts > 1 else "default",
            prompt_ids=tuple(self.prompt_id(index) for index in range(self.prompts)), iterations=self.iterations,
            skip_vanilla=self.skip, synthetic=synthetic, state="failed" if n_draft == self.failing else "done",
        )  # fmt: skip


def _mean(samples: list[Sample]) -> float:
    return statistics.fmean(s.tokens_per_second or 0.0 for s in samples)


def _verdict(low: float | None, high: float | None) -> Verdict:
    if low is None or high is None:
        return Verdict.NO_RELIABLE_GAIN
    return Verdict.FASTER if low > 1 else Verdict.SLOWER if high < 1 else Verdict.NO_RELIABLE_GAIN


def _mode(samples: list[Sample]) -> ModeStatistics | None:
    if not samples:
        return None
    names = ("tokens_per_second", "time_to_first_token_ms", "total_time_ms")
    figures = {name: _statistics([getattr(s, name) for s in samples]) for name in names}
    return ModeStatistics(**figures)


def _statistics(values: list[float]) -> Statistics:
    spread = statistics.stdev(values) if len(values) > 1 else None
    return Statistics(
        mean=statistics.fmean(values), stddev=spread, min=min(values), max=max(values), samples=tuple(values)
    )


def samples_table(samples: Sequence[Sample]) -> pa.Table:
    """The samples with the contract's columns."""
    rows = [asdict(sample) for sample in samples]
    for row in rows:
        row["mode"], row["status"] = row["mode"].value, row["status"].value
        row["accepted_per_position"] = list(row["accepted_per_position"] or ()) or None
    return pa.Table.from_pylist(rows)


def samples_of(made: MadeUp) -> tuple[Sample, ...]:
    """The samples as values."""
    return made.runs
