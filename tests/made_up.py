"""Samples in any number, made column by column: jobs in groups that share a vanilla series, interleaved in rounds."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from tests.results.made import job_record, record
from velosweep.records import JobRecord, SweepRecord
from velosweep.results.parquet_files import COLUMNS, samples_schema

if TYPE_CHECKING:
    import pyarrow as pa

_START_US = int(datetime(2026, 1, 1, tzinfo=timezone.utc).timestamp() * 1e6)
_PROMPT = "Explain quantum computing in simple terms, then write a short program that shows it. " * 4


def made_up_record(jobs: int, *, group: int, prompts: int, iterations: int) -> SweepRecord:
    """`jobs` jobs, `group` of them to a baseline."""
    one = job_record(0)
    return record(0, jobs=tuple(_job(one, number, group, prompts, iterations) for number in range(jobs)))


def _job(one: JobRecord, number: int, group: int, prompts: int, iterations: int) -> JobRecord:
    return replace(
        one,
        id=f"job-{number:08x}",
        num=number,
        directory=str(number),
        baseline_id=f"base-{number // group:08x}",
        n_draft=number % group + 1,
        model_pair=f"pair{number // group}",
        main_model=f"/models/main-{number // group}.gguf",
        prompt_ids=tuple(f"prompt-{i}" for i in range(prompts)),
        iterations=iterations,
    )


def made_up_group(first: int, *, group: int, prompts: int, iterations: int, seed: int = 0) -> pa.Table:
    """All runs of one baseline and its `group` jobs (numbers from `first`), in the order a lane takes them."""
    import numpy as np
    import pyarrow as pa

    rng = np.random.default_rng(seed + first)
    arms = group + 1
    rows = iterations * prompts * arms
    place = np.arange(rows)
    arm = place % arms
    prompt = place // arms % prompts
    vanilla = arm == 0
    speed = np.where(vanilla, 28.0, 40.0 + 3 * np.minimum(arm, 8)) * np.exp(rng.normal(0, 0.01, rows))
    number = first // group
    starts = (number * rows + place) * 1_000_000 + _START_US
    drafted = np.where(vanilla, 0, 8 * arm)
    values: dict[str, Any] = {
        "sweep_id": _repeated("sweep", rows),
        "job_id": _chosen([f"base-{number:08x}", *(f"job-{first + i:08x}" for i in range(group))], arm),
        "job_num": pa.array(np.where(vanilla, 0, first + arm - 1).astype("int32"), mask=vanilla),
        "model_pair": _repeated(f"pair{number}", rows),
        "main_model": _repeated(f"/models/main-{number}.gguf", rows),
        "draft_model": _repeated("/models/draft.gguf", rows),
        "speculation": _repeated("draft", rows),
        "n_draft": np.where(vanilla, 0, arm).astype("int32"),
        "n_predict": np.full(rows, 100, "int32"),
        "prompt_set": _repeated("default", rows),
        "prompt_id": _chosen([f"prompt-{i}" for i in range(prompts)], prompt),
        "prompt": _chosen([f"{i}: {_PROMPT}" for i in range(prompts)], prompt),
        "mode": _chosen(["Vanilla", "Speculative"], np.where(vanilla, 0, 1)),
        "iteration": (place // (arms * prompts) + 1).astype("int32"),
        "order": place.astype("int32"),
        "launch": np.zeros(rows, "int32"),
        "warmup": np.zeros(rows, bool),
        "status": _repeated("ok", rows),
        "tokens_per_second": speed,
        "time_to_first_token_ms": rng.normal(234, 2, rows),
        "total_time_ms": 100_000 / speed,
        "prompt_tokens": np.full(rows, 80, "int32"),
        "predicted_tokens": np.full(rows, 100, "int32"),
        "prompt_ms": rng.normal(230, 2, rows),
        "predicted_ms": 99_000 / speed,
        "draft_tokens": pa.array(drafted.astype("int32"), mask=vanilla),
        "accepted_tokens": pa.array((drafted * 0.7).astype("int32"), mask=vanilla),
        "output_sha256": _chosen([f"{i:064x}" for i in range(prompts)], prompt),
        "started_at": pa.array(starts, pa.timestamp("us", tz="UTC")),
        "lane": np.zeros(rows, "int32"),
        "device": _repeated("CPU", rows),
        "host": _repeated("here", rows),
        "engine": _repeated("server", rows),
        "llama_cpp_build": _repeated("b9000", rows),
        "load_average": rng.random(rows),
        "block": np.zeros(rows, "int32"),
        "attempt": np.zeros(rows, "int32"),
        "rounds": pa.array(np.full(rows, 20, "int32"), mask=vanilla),
        "temperature": np.zeros(rows),
    }
    missing = {field.name: pa.nulls(rows, field.type) for field in samples_schema() if field.name not in values}
    return pa.table({name: values.get(name, missing.get(name)) for name in COLUMNS}).cast(samples_schema())


def _repeated(text: str, rows: int) -> Any:
    import pyarrow as pa

    return pa.repeat(text, rows)


def _chosen(texts: list[str], places: Any) -> Any:
    import pyarrow as pa

    return pa.array(texts).take(pa.array(places))
