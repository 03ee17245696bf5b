"""Values that every layer knows: modes, outcomes, devices, lanes, and a run as a row of samples.parquet."""

from __future__ import annotations  # parquet_files.columns_of reads annotations as they are written

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

SCHEMA_VERSION = 1

Scalar = str | int | float | bool | None

Bytes = int  # a column of its own type: two gibibytes are more than an int32 holds

# What samples must have at least, whoever wrote them; all else may be missing where it doesn't apply.
NEEDED_COLUMNS = ("job_id", "mode", "iteration", "tokens_per_second", "time_to_first_token_ms", "total_time_ms")

# At most so many extra vanilla runs check whether a machine that slowed down has recovered; then the lane goes on.
MAX_RECOVERY_PROBES = 2

# Of fewer tokens llama.cpp drafts none: one comes of the prompt, one of the check.
SHORTEST_DRAFTED = 3

# Stands in the error of a prompt that never fits, before the context that it needs.
NEEDS_CONTEXT = "need a context of"

# The entry of `throttle_reasons` of a run in which the control group's quota stopped our processes.
QUOTA_THROTTLED = "CPU quota"


class Mode(str, Enum):
    """The specification's two modes, spelt as its JSON spells them."""

    VANILLA = "Vanilla"
    SPECULATIVE = "Speculative"


class Status(str, Enum):
    """How a run ended. Only `ok` runs are averaged."""

    OK = "ok"
    FAILED = "failed"
    TIMEOUT = "timeout"
    INVALID = "invalid"


def decode_speed(predicted_tokens: int, predicted_ms: float) -> float | None:
    """Tokens per second: the first token is the prompt's, so n tokens took n - 1 steps. None where none was decoded."""
    return (predicted_tokens - 1) / predicted_ms * 1000 if predicted_tokens > 1 and predicted_ms > 0 else None


class Verdict(str, Enum):
    """What a job's interval says: `faster` if ci_low > 1, `slower` if ci_high < 1."""

    FASTER = "faster"
    SLOWER = "slower"
    NO_RELIABLE_GAIN = "no_reliable_gain"
    NOT_CONVERGED = "not_converged"
    INVALID = "invalid"

    @property
    def words(self) -> str:
        """For people: `no reliable gain`."""
        return self.value.replace("_", " ")


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """What a lane runs on. `kind`: cpu, cuda, rocm, vulkan, metal, sycl. `uuid` where the vendor has one."""

    kind: str
    name: str
    index: int | None = None
    uuid: str | None = None
    memory_bytes: int | None = None
    program_name: str | None = None  # what `--device` calls it, e.g. CUDA0


@dataclass(frozen=True, kw_only=True, slots=True)
class Lane:
    """One serial queue: a GPU, a fixed group of GPUs, or the CPU (no devices of kind other than cpu)."""

    number: int
    devices: tuple[Device, ...]
    cores: tuple[int, ...] = ()  # logical processors its servers are confined to; empty: all of the process's

    @property
    def label(self) -> str:
        """Device names joined for people and for the `device` column."""
        return " + ".join(device.name for device in self.devices)

    @property
    def on_cpu(self) -> bool:
        """Whether it has no GPU."""
        return all(device.kind == "cpu" for device in self.devices)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One physical run: a row of samples.parquet. Field names and order are the columns of the contract."""

    sweep_id: str
    job_id: str
    job_num: int | None
    model_pair: str
    main_model: str
    draft_model: str | None
    speculation: str
    n_draft: int
    n_predict: int
    prompt_set: str
    prompt_id: str
    prompt: str
    prompt_category: str | None
    mode: Mode
    iteration: int
    order: int
    launch: int
    warmup: bool
    status: Status
    error: str | None
    tokens_per_second: float | None
    time_to_first_token_ms: float | None
    total_time_ms: float | None
    prompt_tokens: int | None
    predicted_tokens: int | None
    prompt_ms: float | None
    predicted_ms: float | None
    draft_tokens: int | None
    accepted_tokens: int | None
    accepted_per_position: tuple[int, ...] | None
    output_sha256: str | None
    first_divergence: int | None
    started_at: datetime
    lane: int
    device: str
    host: str
    engine: str
    llama_cpp_build: str
    gpu_temperature_c: float | None
    gpu_clock_mhz: float | None
    gpu_power_w: float | None
    energy_j: float | None
    load_average: float | None
    # beyond the contract's list ("more columns may follow")
    block: int = 0
    attempt: int = 0
    rounds: int | None = None
    p_min: float | None = None
    temperature: float | None = None
    throttle_reasons: str | None = None
    gpu_processes: int | None = None
    cpu_busy: float | None = None
    drafting_rounds: int | None = None
    concurrency: int = 1
    depth: int = 0
    stream_tokens_per_second: tuple[float, ...] | None = None
    stream_first_token_ms: tuple[float, ...] | None = None
    between_tokens_p50_ms: float | None = None
    between_tokens_p95_ms: float | None = None
    between_tokens_p99_ms: float | None = None
    draft_ms: float | None = None
    verify_ms: float | None = None
    memory_bytes: Bytes | None = None
    batch_tokens: tuple[int, ...] | None = None
    batch_ms: tuple[float, ...] | None = None
    layers_on_gpu: int | None = None
    layers: int | None = None
    depth_ms: float | None = None
    seed: int | None = None
    stop_reason: str | None = None
    turn: int | None = None
    answer: str | None = None

    @property
    def is_counted(self) -> bool:
        """Whether it is averaged: a good run, and no warm-up."""
        return self.status is Status.OK and not self.warmup
