"""What sweep.json and tuner.parquet keep: what was asked, where it ran, how each job ended."""

from __future__ import annotations  # parquet_files.columns_of reads annotations as they are written

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from velosweep.config.settings import TunerSettings
from velosweep.values import SCHEMA_VERSION, Device, Scalar


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRecord:
    """A job as sweep.json keeps it. `state`: pending, done, partial (some runs failed) or failed.

    `settings`: what else was set, by dotted key, as far as it differs from the default. `twins` as in `Job`.
    """

    id: str
    num: int
    baseline_id: str
    directory: str
    overrides: tuple[str, ...]
    model_pair: str
    main_model: str
    draft_model: str | None
    speculation: str
    n_draft: int
    n_predict: int
    prompt_set: str
    prompt_ids: tuple[str, ...]
    iterations: int
    launches: int = 1
    protocol: str = "standard"
    order: str = "abba"
    adaptive_target: float | None = None
    adaptive_confidence: float | None = None
    target_speedup: float = 1.5
    skip_vanilla: bool = False
    synthetic: bool = False
    output: str | None = None
    state: str = "pending"
    error: str | None = None
    server_arguments: tuple[str, ...] = ()  # llama-server's for this job's setting, fit to be used by others
    server_program: str = "llama-server"  # the one that was measured, by its path where PATH has another or none
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    concurrency: int = 1
    depth: int = 0
    vanilla_arguments: tuple[str, ...] = ()  # the same without speculation
    added: tuple[int, ...] = ()  # iterations that `velosweep more` added, each time
    twins: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFile:
    """A model as it was when measured. `fingerprint`: hash of header, size and sampled weights."""

    path: str
    size_bytes: int
    fingerprint: str
    description: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """What the figures depend on beside the configuration; compared on resume, rerun and compare."""

    velosweep: str
    python: str
    host: str
    system: str
    cpu: str
    physical_cores: int
    logical_cores: int
    memory_bytes: int
    devices: tuple[Device, ...]
    engine: str
    program: str | None
    program_sha256: str | None
    llama_cpp_build: str
    engine_reason: str | None = None
    models: tuple[ModelFile, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchCandidate:
    """What became of one candidate of a search. `job_id` None: no speculation; figures in the objective's unit."""

    name: str
    job_id: str | None
    predicted: float | None
    measured: float | None
    outcome: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchRecord:
    """How a search for the fastest setting ended, for sweep.json and for people.

    `job_id`: the winner, None for no speculation. `speedup` [`low`, `high`]: the winner over vanilla from `pairs`
    fresh pairs alone, None where there are no good ones. `ties`: names. `notes`: sentences.
    """

    category: str | None
    job_id: str | None
    certified: bool
    sure: str
    speedup: float | None
    low: float | None
    high: float | None
    pairs: int
    headline: str
    ties: tuple[str, ...]
    notes: tuple[str, ...]
    candidates: tuple[SearchCandidate, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepRecord:
    """sweep.json: what was asked, where it ran, how each job ended."""

    sweep_id: str
    created_at: datetime
    command: tuple[str, ...]
    single: bool
    jobs: tuple[JobRecord, ...]
    environment: Environment
    schema_version: int = SCHEMA_VERSION
    tuner: TunerSettings | None = None
    show_paths: bool = False  # reports name home directories, too
    plots: bool = False  # the main plot also as PNG and SVG
    advised: tuple[str, ...] = ()  # ids of the jobs that a search found to be the best
    searches: tuple[SearchRecord, ...] = ()  # one a baseline, and one a category where that was asked for
    working_directory: str | None = None  # where the command was given: what its relative paths are relative to
    shared_out: bool = False  # over machines, by SLURM or Dask: only these can measure it further
    accepted: tuple[str, ...] = ()  # differences from `environment` under which it was resumed by --force

    @property
    def baselines(self) -> dict[str, str]:
        """The id of each job's baseline, by the job's."""
        return {job.id: job.baseline_id for job in self.jobs}

    def job(self, job_id: str) -> JobRecord | None:
        """The job with this id; None where there is none."""
        return next((job for job in self.jobs if job.id == job_id), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class TunerDecision:
    """One line of tuner.parquet: what was known of a candidate after a round, and whether it stayed.

    `job_id` None is the candidate that doesn't speculate. `estimate`, `low`, `high` are in the objective's unit,
    larger being better; `reason`: predicted, raced, failed or drafted nothing. `category`: of the prompts (None: all).
    """

    category: str | None
    phase: str
    round: int
    job_id: str | None
    job_num: int | None
    n_draft: int
    estimate: float | None
    low: float | None
    high: float | None
    kept: bool
    reason: str
