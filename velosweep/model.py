"""The frozen values that flow from configuration to report. Standard library only.

`Sweep` -> `Job` -> `Arm` -> `Measurement` -> `Generation` -> `Sample` -> `Comparison`.
Undefined is None throughout. Units are in the names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

SCHEMA_VERSION = 1
# What samples must have at least, whoever wrote them; all else may be missing where it doesn't apply.
NEEDED_COLUMNS = ("job_id", "mode", "iteration", "tokens_per_second", "time_to_first_token_ms", "total_time_ms")
COOLDOWN_LOOKS = 2  # after so many at a machine that stays slow the lane measures on


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


class Verdict(str, Enum):
    """What a job's interval says: `faster` if ci_low > 1, `slower` if ci_high < 1."""

    FASTER = "faster"
    SLOWER = "slower"
    NO_RELIABLE_GAIN = "no_reliable_gain"
    NOT_CONVERGED = "not_converged"
    INVALID = "invalid"


# ---------------------------------------------------------------- what is asked


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticShape:
    """A llama-architecture pair with random weights; the draft is the target's first `kept_layers` blocks.

    `eps` scales the output projections of the target's other blocks: 0 makes the draft always right,
    larger values lower the acceptance. `type`: f32, f16, bf16, q8_0 or q4_0.
    """

    layers: int
    kept_layers: int
    width: int
    feed_forward: int
    heads: int
    kv_heads: int
    vocabulary: int
    eps: float
    type: str = "f32"
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelPair:
    """A main (target) model and the draft model that proposes for it.

    Paths as the configuration has them (also `hf://owner/repo/file.gguf`) until the pipeline resolves them to
    absolute paths of GGUF files; a `synthetic` pair has empty paths until it is written to the cache.
    """

    name: str
    main_model: str
    draft_model: str | None = None
    synthetic: SyntheticShape | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """One prompt. `id` is unique in its set and safe as a file name."""

    id: str
    text: str
    category: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptSet:
    """Prompts measured together: an iteration is one pass over all of them, in order.

    `chat`: apply the main model's chat template through the server.
    """

    name: str
    prompts: tuple[Prompt, ...]
    chat: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Speculation:
    """How tokens are proposed.

    `kinds`: velosweep's names, `draft`, `draft-eagle3`, `draft-dflash`, `draft-dspark`, `draft-mtp`,
    `ngram-simple`, `ngram-map-k`, `ngram-map-k4v`, `ngram-mod`, `ngram-cache`; several are combined;
    empty means none (the job is vanilla only).
    `parameters`: sorted (name, value) pairs of kind-specific settings, e.g. ("ngram_mod.n_match", 24).
    `synthetic_acceptance`: mean accepted tokens a round that llama.cpp draws at random (text is then invalid).
    """

    kinds: tuple[str, ...] = ("draft",)
    p_min: float = 0.0
    n_min: int = 0
    parameters: tuple[tuple[str, int | float | str], ...] = ()
    synthetic_acceptance: float | None = None

    @property
    def label(self) -> str:
        """The `speculation` column: the kinds, and that acceptance was drawn at random where it was."""
        name = "+".join(self.kinds) or "none"
        if self.synthetic_acceptance is None:
            return name
        return f"{name} (synthetic acceptance {self.synthetic_acceptance:g})"

    @property
    def needs_draft_model(self) -> bool:
        """Whether a draft model file must be given (the ngram kinds and MTP heads need none)."""
        return any(kind.startswith("draft") and kind != "draft-mtp" for kind in self.kinds)

    @property
    def keeps_state(self) -> bool:
        """Whether the kind learns across requests, so that each iteration needs a fresh server."""
        return any(kind in {"ngram-mod", "ngram-cache"} for kind in self.kinds)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """Greedy by default, so that vanilla and speculative output can be compared token by token."""

    temperature: float = 0.0
    seed: int = 42


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSettings:
    """Which llama.cpp runs and how: everything here changes the result and is part of a job's identity.

    `kind`: `server`, `embedded`, `binaries` or `attached` (never `auto`: that is resolved on loading).
    `program`: absolute path of llama-server (`server`), or of the folder of programs (`binaries`).
    None means llama.cpp's meaning of "automatic" only where a field's comment says so; all else is pinned.
    """

    kind: str
    program: str | None = None
    context: int = 4096
    threads: int | None = None  # None: resolved to physical cores - 1 per lane before identity is taken
    threads_batch: int | None = None  # None: as threads
    batch: int = 2048
    ubatch: int = 512
    gpu_layers: int = 999
    draft_gpu_layers: int = 999
    flash_attention: str = "auto"
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    draft_cache_type_k: str = "f16"
    draft_cache_type_v: str = "f16"
    split_mode: str | None = None
    tensor_split: tuple[float, ...] = ()
    draft_device: str | None = None
    mmap: bool = True
    args: tuple[str, ...] = ()  # further llama-server arguments, verbatim
    vanilla_url: str | None = None  # attached
    speculative_url: str | None = None  # attached


@dataclass(frozen=True, kw_only=True, slots=True)
class Adaptive:
    """Sequential stopping: look every `look_every` pairs from `min_pairs` on, stop at ±`target` relative."""

    min_pairs: int = 6
    look_every: int = 2
    max_pairs: int = 60
    target: float = 0.01
    confidence: float = 0.97


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """How often and in which order. `order`: `abba`, `random` (seeded) or `block` (vanilla first; drift-prone)."""

    name: str = "standard"
    iterations: int = 5
    launches: int = 1
    order: str = "abba"
    seed: int = 0
    warmup_tokens: int = 4
    adaptive: Adaptive | None = None
    retries: int = 1
    load_timeout_s: float = 600.0
    run_timeout_s: float = 600.0  # bound; the working timeout is derived from what the arm has shown
    cooldown: bool = False
    cooldown_drift: float = 0.02  # relative drift of the vanilla arm from its first round that asks for a rest
    cooldown_max_s: float = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One point of the grid. `id` is a hash of what determines its result, never its position.

    `baseline_id` is the same for all jobs that can share one vanilla series (same main model, engine,
    prompts, n_predict, sampling and protocol). `directory` is relative to the sweep's root ("" for a single job).
    """

    id: str
    num: int
    baseline_id: str
    model_pair: ModelPair
    n_draft: int
    n_predict: int
    prompts: PromptSet
    speculation: Speculation
    sampling: Sampling
    engine: EngineSettings
    protocol: Protocol
    skip_vanilla: bool = False
    target_speedup: float = 1.5
    output: str | None = None
    overrides: tuple[str, ...] = ()
    directory: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TunerSettings:
    """How `hydra/sweeper=tune` searches: within `tolerance` of the best at `confidence`.

    `objective`: `tokens_per_second`, `total_time_ms` or `energy_j` (per token). `budget_s`: answer by then,
    certified or not.
    """

    tolerance: float = 0.01
    confidence: float = 0.95
    objective: str = "tokens_per_second"
    per_category: bool = False
    budget_s: float | None = None
    max_rounds: int = 40
    confirm_pairs: int = 6
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSettings:
    """How to run, none of which changes a result: lanes, waiting, screen, extra files.

    `gpus`: indices or UUIDs; None takes all that llama.cpp can use. `on_busy`: `wait` or `fail`.
    `verbosity`: -1 quiet, 0 normal, 1 verbose. `tuner`: search the grid instead of measuring all of it.
    `elsewhere`: other machines measure, so that this one's cores say nothing.
    """

    gpus: tuple[int | str, ...] | None = None
    gpus_per_lane: int = 1
    cpu_lanes: int = 1
    on_busy: str = "wait"
    dry_run: bool = False
    report_plots: bool = False
    report_paths: bool = False
    verbosity: int = 0
    force: bool = False
    tuner: TunerSettings | None = None
    elsewhere: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a sweep ended. `summaries[i]` is job i's summary.json as a mapping, None where it failed; `errors[i]` why."""

    exit_status: int
    summaries: tuple[Mapping[str, object] | None, ...]
    errors: tuple[str | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """All jobs of one command and where their results go (`root`, absolute)."""

    id: str
    root: str
    jobs: tuple[Job, ...]
    command: tuple[str, ...] = ()
    single: bool = False


# ---------------------------------------------------------------- what is planned


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One loaded server configuration; jobs share it. Vanilla arms have n_draft 0 and no speculation."""

    id: str
    mode: Mode
    main_model: str
    draft_model: str | None
    n_draft: int
    speculation: Speculation | None
    engine: EngineSettings

    @property
    def label(self) -> str:
        """Short name for the screen: `vanilla` or `n_draft 8`."""
        return "vanilla" if self.mode is Mode.VANILLA else f"n_draft {self.n_draft}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Arms that are resident together: the shared vanilla arm (None under skip_vanilla) and each job's own.

    All jobs have the same baseline_id. `number` tells blocks of one baseline apart; every block has its
    own vanilla runs, so that no comparison crosses blocks. `speculative[i]` is the arm of `jobs[i]`
    (None for a vanilla-only job).
    """

    number: int
    jobs: tuple[Job, ...]
    vanilla: Arm | None
    speculative: tuple[Arm | None, ...]

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The distinct arms, vanilla first."""
        own = {arm.id: arm for arm in self.speculative if arm is not None}
        return ((self.vanilla,) if self.vanilla else ()) + tuple(own.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """One run to take: which arm, which prompt, which iteration (pairs vanilla with speculative).

    `job` is the job whose sample it is; for a shared vanilla run any job of the block (its prompts,
    n_predict and sampling are the same).
    """

    arm: Arm
    job: Job
    prompt: Prompt
    iteration: int
    launch: int
    block: int
    warmup: bool = False

    @property
    def key(self) -> tuple[str, int, int, int, str]:
        """Identity of the measurement within a sweep: owner id, block, launch, iteration, prompt id."""
        owner = self.job.baseline_id if self.arm.mode is Mode.VANILLA else self.job.id
        return (owner, self.block, self.launch, self.iteration, self.prompt.id)


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


# ---------------------------------------------------------------- what is measured


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What one run asks of a session."""

    prompt: Prompt
    n_predict: int
    sampling: Sampling
    chat: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """What llama.cpp and the client's clock said of one run.

    `time_to_first_token_ms` and `total_time_ms` are the client's, from sending the request until the
    first and the last token; the other times are llama.cpp's own. `draft_tokens` is None where nothing
    was drafted (a vanilla run) or the engine cannot tell. `accepted_per_position[i]`: how often
    draft position i was accepted; None where the build does not say.
    """

    tokens: tuple[int, ...]
    text: str
    prompt_tokens: int
    predicted_tokens: int
    prompt_ms: float
    predicted_ms: float
    time_to_first_token_ms: float
    total_time_ms: float
    draft_tokens: int | None = None
    accepted_tokens: int | None = None
    accepted_per_position: tuple[int, ...] | None = None
    rounds: int | None = None
    truncated: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """The machine around one run; None where it can't be read."""

    gpu_temperature_c: float | None = None
    gpu_clock_mhz: float | None = None
    gpu_power_w: float | None = None
    energy_j: float | None = None
    load_average: float | None = None
    throttle_reasons: str | None = None
    gpu_processes: int | None = None  # other processes on the GPU
    cpu_busy: float | None = None  # share of all cores used by others during the run, 0..1


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


# ---------------------------------------------------------------- what it means


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something a reader must know before believing a number.

    `code`: stable name, e.g. `outlier`, `drift`; `severity`: `error` (result can't be used), `warning`, `info`;
    `subject`: what it is about (`vanilla`, `speculative`, `pairs`, a prompt id); `evidence`: figures by name.
    """

    code: str
    severity: str
    subject: str
    evidence: Mapping[str, float | int | str] = field(default_factory=dict)

    def __str__(self) -> str:
        figures = ", ".join(
            f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in self.evidence.items()
        )
        return f"{self.code}({self.subject}{': ' + figures if figures else ''})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistics:
    """The specification's figures of one metric. `stddev` (n-1) is None for one sample."""

    mean: float
    stddev: float | None
    min: float
    max: float
    samples: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModeStatistics:
    """The three metrics of one mode."""

    tokens_per_second: Statistics
    time_to_first_token_ms: Statistics
    total_time_ms: Statistics


@dataclass(frozen=True, kw_only=True, slots=True)
class Acceptance:
    """How the drafts fared. Rates in 0..1; `alpha` per-token acceptance, `tokens_per_round` tau."""

    rate: float
    low: float | None
    high: float | None
    interval_unit: str
    alpha: float | None
    tokens_per_round: float | None
    per_position: tuple[float, ...] | None = None
    tokens_per_round_low: float | None = None
    tokens_per_round_high: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Statistics of one job and prompt (`prompt_id`), or of a job over its set (`prompt_id` None).

    The first fields are the job's parameters, as in its samples. `speedup`, `speedup_stddev` are the
    specification's; `speedup_gm` with [ci_low, ci_high] is the geometric-mean ratio and its 95 % interval by
    `ci_method`. `population_low/high`: the interval for "prompts like these" (None for one prompt).
    """

    job_id: str
    job_num: int | None
    model_pair: str
    main_model: str
    draft_model: str | None
    speculation: str
    n_draft: int
    n_predict: int
    prompt_set: str
    prompt_id: str | None
    prompt: str | None
    prompt_category: str | None
    host: str
    device: str
    engine: str
    llama_cpp_build: str
    iterations: int
    n_pairs: int
    vanilla: ModeStatistics | None
    speculative: ModeStatistics | None
    speedup: float | None
    speedup_stddev: float | None
    speedup_gm: float | None
    ci_low: float | None
    ci_high: float | None
    ci_method: str | None
    acceptance: Acceptance | None
    cost_ratio: float | None
    expected_speedup: float | None
    verdict: Verdict
    findings: tuple[Finding, ...]
    finished_at: datetime | None
    population_low: float | None = None
    population_high: float | None = None
    suite_speedup: float | None = None
    worst_prompt: str | None = None
    energy_j_per_token_vanilla: float | None = None
    energy_j_per_token_speculative: float | None = None


# ---------------------------------------------------------------- what sweep.json keeps


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRecord:
    """A job as sweep.json keeps it. `state`: pending, done, partial (some runs failed) or failed."""

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
    target_speedup: float = 1.5
    skip_vanilla: bool = False
    synthetic: bool = False
    output: str | None = None
    state: str = "pending"
    error: str | None = None
    server_arguments: tuple[str, ...] = ()  # llama-server's for this job's setting, fit to be used by others


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
    fresh pairs alone, None where there was no time left for them. `ties`: names. `notes`: sentences.
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
    accepted: tuple[str, ...] = ()  # differences from `environment` under which it was resumed by --force


# ---------------------------------------------------------------- what a search for the best decides


@dataclass(frozen=True, kw_only=True, slots=True)
class TunerDecision:
    """One line of tuner.parquet: what was known of a candidate after a round, and whether it stayed.

    `job_id` None is the candidate that doesn't speculate. `estimate`, `low`, `high` are in the objective's unit,
    larger being better; `reason`: predicted, raced or failed. `category`: of the prompts, None for all.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class TunerCandidate:
    """A candidate as the search ended: `dropped_in` the round it was dropped in, None where it stayed or was not raced.

    `predicted`, `measured`: tokens per second (or the objective), None where not known. `job` None: vanilla.
    """

    job: Job | None
    predicted: float | None
    measured: float | None
    dropped_in: int | None
    tied: bool
    winner: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class TunerAnswer:
    """How a search ended. `speedup` [`low`, `high`]: the winner over vanilla, from fresh pairs alone."""

    category: str | None
    main_model: str
    candidates: tuple[TunerCandidate, ...]
    certified: bool
    reason: str
    tolerance: float
    confidence: float
    speedup: float | None
    low: float | None
    high: float | None
    measurements: int
    confirm_measurements: int
    full_grid_measurements: int
    measuring_s: float
    loading_s: float

    @property
    def winner(self) -> TunerCandidate:
        """The candidate to run."""
        return next(candidate for candidate in self.candidates if candidate.winner)


# ---------------------------------------------------------------- what happens while it runs


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmLoading:
    """A server is being started."""

    lane: int
    arm: Arm


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmReady:
    """A server answers. `memory_bytes` is what it was seen to hold."""

    lane: int
    arm: Arm
    load_s: float
    memory_bytes: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmFailed:
    """A server did not come up, or was given up after failures; its jobs are recorded as failed."""

    lane: int
    arm: Arm
    jobs: tuple[Job, ...]
    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStarted:
    """A lane sends a request."""

    lane: int
    measurement: Measurement


@dataclass(frozen=True, kw_only=True, slots=True)
class RunEnded:
    """A sample was taken and is on disk."""

    lane: int
    measurement: Measurement
    sample: Sample


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockEnded:
    """All runs of a block are taken, or given up."""

    lane: int
    block: Block


Event = ArmLoading | ArmReady | ArmFailed | RunStarted | RunEnded | BlockEnded
Observer = Callable[[Event], None]
