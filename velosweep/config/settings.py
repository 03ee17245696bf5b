"""What a person asks for, checked and frozen: the values that the configuration becomes."""

from __future__ import annotations

from dataclasses import dataclass


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
class Sweep:
    """All jobs of one command and where their results go (`root`, absolute)."""

    id: str
    root: str
    jobs: tuple[Job, ...]
    command: tuple[str, ...] = ()
    single: bool = False
