"""Samples with a known truth, and Hypothesis strategies shared by several folders."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from velosweep.records import JobRecord
from velosweep.results.parquet_files import samples_schema
from velosweep.values import Mode, Sample, Status

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


def sample(**changes: Any) -> Sample:
    """A good vanilla run of job `base`; `changes` by field name. `seconds` sets the start, `tps` the speed.

    Times agree with each other: 100 predicted tokens at `tps`, 20 ms until the first.
    """
    tps = changes.pop("tps", 30.0)
    seconds = changes.pop("seconds", float(changes.get("order", 0)) * 3)
    predicted_ms = 99 / tps * 1000 if tps else None
    values: dict[str, Any] = {
        "sweep_id": "sweep",
        "job_id": "base",
        "job_num": None,
        "model_pair": "pair",
        "main_model": "/models/main-f16.gguf",
        "draft_model": None,
        "speculation": "none",
        "n_draft": 0,
        "n_predict": 100,
        "prompt_set": "default",
        "prompt_id": "p0",
        "prompt": "Explain quantum computing in simple terms",
        "prompt_category": None,
        "mode": Mode.VANILLA,
        "iteration": 0,
        "order": 0,
        "launch": 0,
        "warmup": False,
        "status": Status.OK,
        "error": None,
        "tokens_per_second": tps,
        "time_to_first_token_ms": 20.0,
        "total_time_ms": None if predicted_ms is None else predicted_ms + 20.0,
        "prompt_tokens": 8,
        "predicted_tokens": 100,
        "prompt_ms": 19.0,
        "predicted_ms": predicted_ms,
        "draft_tokens": None,
        "accepted_tokens": None,
        "accepted_per_position": None,
        "output_sha256": "aa",
        "first_divergence": None,
        "started_at": START + timedelta(seconds=seconds),
        "lane": 0,
        "device": "AMD EPYC Processor",
        "host": "bench",
        "engine": "embedded",
        "llama_cpp_build": "b1",
        "gpu_temperature_c": None,
        "gpu_clock_mhz": None,
        "gpu_power_w": None,
        "energy_j": None,
        "load_average": None,
        "temperature": 0.0,
    }
    return Sample(**(values | changes))


def speculative(n_draft: int = 8, *, acceptance: float = 0.5, **changes: Any) -> Sample:
    """A good speculative run of job `j<n_draft>`: 25 rounds, of whose drafts a share is accepted."""
    drafted = 25 * n_draft
    values: dict[str, Any] = {
        "job_id": f"j{n_draft}",
        "job_num": n_draft,
        "draft_model": "/models/draft-f16.gguf",
        "speculation": "draft",
        "n_draft": n_draft,
        "mode": Mode.SPECULATIVE,
        "draft_tokens": drafted,
        "accepted_tokens": round(drafted * acceptance),
        "rounds": 25,
        "drafting_rounds": 25,
    }
    return sample(**(values | changes))


def sweep(
    n_drafts: Sequence[int] = (8,),
    *,
    iterations: int = 5,
    prompts: Sequence[str] = ("p0",),
    speed: Callable[[int, str, int], float] = lambda n_draft, prompt, iteration: 30.0 * (1 + n_draft / 8),
    order: str = "abba",
) -> list[Sample]:
    """An interleaved sweep. `speed(n_draft, prompt, iteration)` is the tokens per second; n_draft 0 is vanilla."""
    rounds = [(iteration, arm) for iteration in range(iterations) for arm in _arms(n_drafts, iteration, order)]
    if order == "block":
        rounds.sort(key=lambda entry: (entry[1] > 0, entry[0]))
    runs = [(iteration, arm, prompt) for iteration, arm in rounds for prompt in prompts]
    samples = []
    for position, (iteration, arm, prompt) in enumerate(runs):
        own = {"iteration": iteration, "order": position, "prompt_id": prompt, "prompt": f"text of {prompt}"}
        tps = speed(arm, prompt, iteration)
        samples.append(speculative(arm, tps=tps, **own) if arm else sample(tps=tps, **own))
    return samples


def _arms(n_drafts: Sequence[int], iteration: int, order: str) -> list[int]:
    arms = [0, *n_drafts]
    return arms[::-1] if iteration % 2 and order == "abba" else arms


def samples_to_table(samples: Iterable[Sample]) -> pa.Table:
    """Samples as a table in the order given."""
    rows = list(samples)
    columns = [pa.array([getattr(row, field.name) for row in rows], type=field.type) for field in samples_schema()]
    return pa.Table.from_arrays(columns, schema=samples_schema())


def speeds_table(
    vanilla: Sequence[Sequence[float]],
    speculative: Sequence[Sequence[float]],
    *,
    design: str = "abba",
    launches: Sequence[int] | None = None,
) -> pa.Table:
    """Samples of one job `j8` in each of many sweeps, from its speeds; only the columns that analysis needs.

    `design`: `abba`, `block` (vanilla first), or `apart` (in blocks, and no pass has both modes).
    """
    rows: dict[str, list[Any]] = {name: [] for name in ("sweep_id", "job_id", "mode", "iteration", "order", "launch")}
    for number, series in enumerate(zip(vanilla, speculative, strict=True)):
        for mode, values in enumerate(series):
            n = len(values)
            i = np.arange(n)
            order = 2 * i + (mode + i) % 2 if design == "abba" else i + mode * len(series[0])
            rows["sweep_id"] += [f"s{number:06}"] * n
            rows["job_id"] += ["j8" if mode else "base"] * n
            rows["mode"] += [(Mode.SPECULATIVE if mode else Mode.VANILLA).value] * n
            rows["iteration"] += (i + (1000 * mode if design == "apart" else 0)).tolist()
            rows["order"] += order.tolist()
            rows["launch"] += list(launches or [0] * n)
    speed = [float(x) for pair in zip(vanilla, speculative, strict=True) for values in pair for x in values]
    rows |= {"tokens_per_second": speed, "time_to_first_token_ms": [20.0] * len(speed)}
    return pa.table(rows | {"total_time_ms": [1000.0] * len(speed)})


def rounds_table(speeds: Any, *, first: int = 0, drawn: bool = False) -> pa.Table:
    """Samples of many sweeps under `protocol.order=abba`, of the speeds sweeps x rounds x arms.

    Arm 0 is vanilla, arm k job `jk`; the sweeps are named from `first` on. `drawn`: with a seed a round.
    Only the columns that analysis needs.
    """
    speeds = np.asarray(speeds, dtype=float)
    arms, size = speeds.shape[2], speeds.size
    sweep, iteration, arm = (part.ravel() for part in np.indices(speeds.shape))
    place = np.where(iteration % 2 == 0, arm, arms - 1 - arm)
    return pa.table(
        {
            "sweep_id": [f"s{first + number:06}" for number in sweep.tolist()],
            "job_id": ["base" if number == 0 else f"j{number}" for number in arm.tolist()],
            "job_num": arm,
            "mode": [(Mode.SPECULATIVE if number else Mode.VANILLA).value for number in arm.tolist()],
            # Each sweep asks for its own length, so that its jobs compete among themselves.
            "n_predict": 10 + sweep,
            "n_draft": arm,
            "iteration": iteration,
            "order": iteration * arms + place,
            "seed": iteration + 42 if drawn else np.full(size, 42),
            "tokens_per_second": speeds.ravel(),
            "time_to_first_token_ms": [20.0] * size,
            "total_time_ms": [1000.0] * size,
        }
    )


def record(n_draft: int = 8, **changes: Any) -> JobRecord:
    """The sweep.json entry of the job of `speculative(n_draft)`."""
    values: dict[str, Any] = {
        "id": f"j{n_draft}",
        "num": n_draft,
        "baseline_id": "base",
        "directory": str(n_draft),
        "overrides": (f"n_draft={n_draft}",),
        "model_pair": "pair",
        "main_model": "/models/main-f16.gguf",
        "draft_model": "/models/draft-f16.gguf",
        "speculation": "draft",
        "n_draft": n_draft,
        "n_predict": 100,
        "prompt_set": "default",
        "prompt_ids": ("p0",),
        "iterations": 5,
    }
    return JobRecord(**(values | changes))


speeds = st.floats(min_value=0.5, max_value=5000, allow_nan=False)


@st.composite
def paired_speeds(draw: Any, *, min_size: int = 2, max_size: int = 20) -> tuple[list[float], list[float]]:
    """Two series of tokens per second of equal length."""
    n = draw(st.integers(min_size, max_size))
    return tuple(draw(st.lists(speeds, min_size=n, max_size=n)) for _ in range(2))  # type: ignore[return-value]


def wobble(iteration: int, size: float = 0.004) -> float:
    """A deterministic factor near 1 that differs from iteration to iteration."""
    return 1 + size * math.sin(2.4 * iteration + 0.7)
