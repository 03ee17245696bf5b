"""What comparing costs, of collating: `python -m tests.benchmarks.bench_analysis [ROWS] [JOBS] [PROMPTS]`.

Makes a table of samples as the lanes would have written it (ten n_draft share a baseline), compares all jobs one at a
time and prints seconds (also of CPU, for busy machines) and the peak of memory, the table's own included and apart.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from velosweep.statistics.summarise import iterate_jobs

N_DRAFTS = 10


def made_up_samples(rows: int, jobs: int, prompts: int, seed: int = 0) -> pa.Table:
    """About `rows` samples of `jobs` jobs in baselines of ten, over `prompts` prompts, interleaved."""
    rng = np.random.default_rng(seed)
    baselines = max(1, jobs // N_DRAFTS)
    arms = N_DRAFTS + 1
    iterations = max(2, rows // (baselines * arms * prompts))
    shape = (baselines, iterations, arms, prompts)
    baseline, iteration, arm, prompt = (index.ravel() for index in np.indices(shape, dtype=np.int32))
    n = len(baseline)
    order = np.tile(np.arange(n // baselines, dtype=np.int32), baselines)
    speed = 30 * np.exp(rng.normal(0, 0.01, n)) * (1 + 0.05 * prompt % 1) * np.where(arm, 1.3 + 0.02 * arm, 1)
    ms = 99_000 / speed
    accepted = rng.integers(50, 60, n).astype(np.int32)

    def text(codes: np.ndarray, values: Sequence[str | None]) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(values, pa.string()))

    job = np.where(arm, baseline * N_DRAFTS + arm - 1, jobs + baseline)
    names = [f"job{i:05}" for i in range(baselines * N_DRAFTS)]
    names += ["-"] * (jobs - len(names)) + [f"base{i}" for i in range(baselines)]
    drafted = pa.array(arm > 0)
    nothing = pa.nulls(n, pa.int32())

    def only_drafted(values: np.ndarray) -> pa.Array:
        return pa.compute.if_else(drafted, pa.array(values.astype(np.int32)), nothing)

    return pa.table(
        {
            "sweep_id": text(np.zeros(n), ["sweep"]),
            "job_id": text(job, names),
            "job_num": only_drafted(job),
            "main_model": text(baseline, [f"/models/main{i}-f16.gguf" for i in range(baselines)]),
            "draft_model": text(np.zeros(n), ["/models/draft-f16.gguf"]),
            "speculation": text((arm > 0).astype(int), ["none", "draft"]),
            "n_draft": arm,
            "n_predict": np.full(n, 100, np.int32),
            "prompt_set": text(np.zeros(n), ["suite"]),
            "prompt_id": text(prompt, [f"p{i}" for i in range(prompts)]),
            "mode": text((arm > 0).astype(int), ["Vanilla", "Speculative"]),
            "iteration": iteration,
            "order": order,
            "launch": np.zeros(n, np.int32),
            "warmup": pa.array(np.zeros(n, bool)),
            "status": text(np.zeros(n), ["ok"]),
            "tokens_per_second": speed,
            "time_to_first_token_ms": rng.normal(20, 0.2, n),
            "total_time_ms": ms + 20,
            "predicted_tokens": np.full(n, 100, np.int32),
            "predicted_ms": ms,
            "draft_tokens": only_drafted(arm * 30),
            "accepted_tokens": only_drafted(np.minimum(accepted, arm * 30)),
            "rounds": only_drafted(np.full(n, 30)),
            "started_at": pa.array(
                1_700_000_000_000_000 + order.astype(np.int64) * 3_000_000, pa.timestamp("us", "UTC")
            ),
            "device": text(np.zeros(n), ["NVIDIA H100"]),
            "host": text(np.zeros(n), ["bench"]),
            "engine": text(np.zeros(n), ["server"]),
            "llama_cpp_build": text(np.zeros(n), ["b1"]),
            "load_average": rng.random(n),
        }
    )


def peak_mb() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(rows: int = 1_000_000, jobs: int = 1_000, prompts: int = 1) -> None:
    """Print one line of the table."""
    table = made_up_samples(rows, jobs, prompts)
    before = peak_mb()
    start, cpu = time.perf_counter(), time.process_time()
    comparisons = sum(len(found) for found in iterate_jobs(table))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(
        f"{table.num_rows:>10,} rows {jobs:>6,} jobs {prompts:>4} prompts: {comparisons:>8,} comparisons in "
        f"{seconds:6.1f} s, of CPU {cpu:6.1f} s: {table.num_rows / cpu / 1e6:.2f} M rows/s, "
        f"{cpu / jobs * 1e3:.2f} ms a job, {cpu / comparisons * 1e3:.3f} a comparison; "
        f"peak {peak_mb():,.0f} MB (before: {before:,.0f}, table {table.nbytes / 1e6:,.0f})"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
