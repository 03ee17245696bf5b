"""Samples, records and comparisons to store, with every column filled or null on purpose."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from tests import strategies
from velosweep.records import Environment, JobRecord, SweepRecord
from velosweep.results.journal import Journal
from velosweep.results.paths import SweepPaths
from velosweep.statistics.comparison import Comparison, Finding, ModeStatistics, Statistics
from velosweep.values import Mode, Sample, Verdict

START = datetime(2026, 1, 27, 12, 34, 56, 123456, tzinfo=timezone.utc)
BASELINE = strategies.sample().job_id


def sample(number: int = 0, **changes: Any) -> Sample:
    """One good vanilla sample; `number` sets its place in time."""
    values: dict[str, Any] = {
        "model_pair": "synthetic",
        "main_model": "/models/main.gguf",
        "draft_model": "/models/draft.gguf",
        "speculation": "draft",
        "prompt_id": "quantum",
        "iteration": number + 1,
        "order": number,
        "tokens_per_second": 28.0 + number / 3,
        "time_to_first_token_ms": 234.56,
        "total_time_ms": 3521.0,
        "prompt_tokens": 9,
        "prompt_ms": 230.1,
        "predicted_ms": 3290.9,
        "output_sha256": "ab" * 32,
        "started_at": START + timedelta(seconds=number),
        "device": "CPU",
        "host": "here",
        "llama_cpp_build": "b9000",
        "load_average": 0.5,
        "temperature": None,
    }
    return strategies.sample(**{**values, **changes})


def speculative(number: int, job: int, **changes: Any) -> Sample:
    """One good speculative sample of job `job`."""
    own: dict[str, Any] = {
        "job_id": f"job{job}",
        "job_num": job,
        "n_draft": 4 * (job + 1),
        "mode": Mode.SPECULATIVE,
        "tokens_per_second": 60.0 + number / 7,
        "draft_tokens": 80,
        "accepted_tokens": 60,
        "accepted_per_position": (30, 20, 10),
        "first_divergence": 17,
    }
    return sample(number, **{**own, **changes})


def rounds(jobs: int = 3, iterations: int = 4) -> list[Sample]:
    """Interleaved rounds in the order a lane takes them: vanilla, then each job."""
    taken: list[Sample] = []
    for iteration in range(1, iterations + 1):
        taken.append(sample(len(taken), iteration=iteration))
        taken += [speculative(len(taken) + job, job, iteration=iteration) for job in range(jobs)]
    return taken


def environment() -> Environment:
    return Environment(
        velosweep="0.1.0",
        python="3.11.7",
        host="here",
        system="Linux",
        cpu="CPU",
        physical_cores=2,
        logical_cores=2,
        memory_bytes=1 << 33,
        devices=(),
        engine="embedded",
        program=None,
        program_sha256=None,
        llama_cpp_build="b9000",
    )


def job_record(number: int, **changes: Any) -> JobRecord:
    values: dict[str, Any] = {
        "id": f"job{number}",
        "num": number,
        "baseline_id": BASELINE,
        "directory": str(number),
        "overrides": (f"n_draft={4 * (number + 1)}",),
        "model_pair": "synthetic",
        "main_model": "/models/main.gguf",
        "draft_model": "/models/draft.gguf",
        "speculation": "draft",
        "n_draft": 4 * (number + 1),
        "n_predict": 100,
        "prompt_set": "default",
        "prompt_ids": ("quantum",),
        "iterations": 4,
    }
    return JobRecord(**{**values, **changes})


def record(count: int = 3, **changes: Any) -> SweepRecord:
    values: dict[str, Any] = {
        "sweep_id": "sweep",
        "created_at": START,
        "command": ("-m", "n_draft=4,8,12"),
        "single": False,
        "jobs": tuple(job_record(number) for number in range(count)),
        "environment": environment(),
    }
    return SweepRecord(**{**values, **changes})


def journal_of(root: Path, samples: list[Sample]) -> SweepPaths:
    """A sweep's folder with only its journal."""
    paths = SweepPaths(root)
    with Journal(paths.journal, lock=paths.lock) as journal:
        for one in samples:
            journal.append(one)
    return paths


def statistics(*samples: float, mean: float, stddev: float | None) -> Statistics:
    return Statistics(mean=mean, stddev=stddev, min=min(samples), max=max(samples), samples=samples)


def mode_statistics(speed: Statistics) -> ModeStatistics:
    return ModeStatistics(
        tokens_per_second=speed,
        time_to_first_token_ms=statistics(234.5, 234.6, mean=234.55, stddev=0.07),
        total_time_ms=statistics(3521.0, 3533.0, mean=3527.0, stddev=8.5),
    )


def comparison(**changes: Any) -> Comparison:
    """The specification's own example."""
    values: dict[str, Any] = {
        "job_id": "job1",
        "job_num": 1,
        "model_pair": "llama8b_1b",
        "main_model": "/models/llama-3.1-8b.gguf",
        "draft_model": "/models/llama-3.2-1b.gguf",
        "speculation": "draft",
        "n_draft": 8,
        "n_predict": 100,
        "prompt_set": "default",
        "prompt_id": None,
        "prompt": "Explain quantum computing in simple terms",
        "prompt_category": None,
        "host": "here",
        "device": "CPU",
        "engine": "server",
        "llama_cpp_build": "b9000",
        "iterations": 5,
        "n_pairs": 5,
        "vanilla": mode_statistics(statistics(28.45, 28.32, 28.51, 28.39, 28.47, mean=28.428, stddev=0.073)),
        "speculative": mode_statistics(statistics(67.23, 66.89, 67.45, 67.01, 67.32, mean=67.18, stddev=0.226)),
        "speedup": 2.36,
        "speedup_stddev": 0.01,
        "speedup_gm": 2.36,
        "ci_low": 2.35,
        "ci_high": 2.37,
        "ci_method": "paired log-ratio t",
        "acceptance": None,
        "cost_ratio": None,
        "expected_speedup": None,
        "verdict": Verdict.FASTER,
        "findings": (Finding(code="outlier", severity="warning", subject="vanilla", evidence={"z": 12.5}),),
        "finished_at": datetime(2025, 1, 27, 12, 34, 56, 999, tzinfo=timezone.utc),
    }
    return Comparison(**{**values, **changes})
