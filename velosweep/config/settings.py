"""What a person asks for, checked and frozen: the values that the configuration becomes.

A field with `key` is a setting that people may write (see `velosweep.config.keys`); `velosweep.config.schema` joins
them into the tree of all keys.
"""

# ruff: noqa: RUF009 (`key` returns a dataclass field)
from dataclasses import dataclass
from typing import Any

from velosweep.config.keys import flattened, key, on_off_auto, time_key
from velosweep.config.speculation_kinds import SpeculationKind, kind_names, kind_of

WEIGHT_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0")
CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
SPLIT_MODES = ("none", "layer", "row", "tensor")
OBJECTIVES = ("tokens_per_second", "total_time_ms", "energy_j")
ENGINES = ("auto", "embedded", "server", "binaries", "attached")


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticShape:
    """A llama-architecture pair with random weights; the draft is the target's first `kept_layers` blocks.

    `eps` scales the output projections of the target's other blocks.
    """

    layers: int = key(20, "transformer blocks of the main model", least=1)
    kept_layers: int = key(1, "of these, blocks the draft model has", least=1)
    width: int = key(384, "embedding width", least=1)
    feed_forward: int = key(1024, "feed-forward width", least=1)
    heads: int = key(6, "attention heads", least=1)
    kv_heads: int = key(2, "key/value heads", least=1)
    vocabulary: int = key(320, "tokens", least=1)
    eps: float = key(0.03, "weight of blocks the draft lacks: 0 accepts all, more accepts less", least=0.0)
    type: str = key("f32", "weights: f32, f16, bf16, q8_0, q4_0", choices=WEIGHT_TYPES)
    seed: int = key(0, "seed of the random weights", least=0)


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
    """One prompt. `id` is unique in its set and safe as a file name. `system`: the message before it in a chat.

    Turns of a conversation are prompts: `turn` from 1, what the user says `before` and, until loaded, `later`.
    """

    id: str
    text: str
    category: str | None = None
    system: str | None = None
    before: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    turn: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptSet:
    """Prompts measured together: an iteration runs all of them once, in order."""

    name: str
    prompts: tuple[Prompt, ...]
    chat: bool | None = False  # apply the main model's chat template; None: if it has one, not known yet
    system: str | None = None  # the message before each prompt that has none of its own
    template_kwargs: tuple[tuple[str, int | float | str], ...] = ()  # sorted (name, value) pairs that it reads


@dataclass(frozen=True, kw_only=True, slots=True)
class Speculation:
    """How tokens are proposed. `kinds`: names as `speculation_kinds.kind_of` has them.

    `parameters`: sorted (name, value) pairs. With `synthetic_acceptance`, drawn at random, the text is invalid.
    """

    kinds: tuple[str, ...] = key(("draft",), "ways to propose tokens, combined; [] is vanilla only", convert=kind_names)
    p_min: float = key(0.0, "stop drafting below this probability", least=0.0, most=1.0)
    n_min: int = key(0, "drop drafts shorter than this", least=0)
    parameters: tuple[tuple[str, int | float | str], ...] = key(
        (), "settings of one kind, e.g. {ngram_mod.n_match: 24}", hint=dict[str, Any], convert=flattened
    )
    synthetic_acceptance: float | None = key(
        None, "let llama.cpp accept this many tokens of each draft at random (calibration)", least=0.0
    )

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
        return any(kind.needs_draft_model for kind in self.all_kinds)

    @property
    def takes_draft_model(self) -> bool:
        """Whether a draft model file that is named is used."""
        return any(kind.takes_draft_model for kind in self.all_kinds)

    @property
    def keeps_state(self) -> bool:
        """Whether the kind learns across requests, so that each iteration needs a fresh server."""
        return any(kind.keeps_state for kind in self.all_kinds)

    @property
    def all_kinds(self) -> tuple[SpeculationKind, ...]:
        """What is known of each kind."""
        return tuple(map(kind_of, self.kinds))


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How tokens are chosen."""

    temperature: float = key(0.0, "0 is greedy, so that outputs can be compared", least=0.0)
    seed: int = key(42, "seed of sampling; above temperature 0 iteration i takes seed + i in every mode")
    top_k: int = key(40, "sample from this many likeliest tokens; 0: all", least=0)
    top_p: float = key(1.0, "sample from the likeliest tokens with this total probability", least=0.0, most=1.0)
    min_p: float = key(0.0, "sample from tokens with this share of the top probability", least=0.0, most=1.0)
    repeat_penalty: float = key(1.0, "penalty on repeating the last 64 tokens; 1: none", least=0.01)


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSettings:
    """Which llama.cpp runs and how: everything here changes the result and is part of a job's identity.

    `kind`: `auto` until the pipeline resolves it.
    `program`: absolute path of llama-server (`server`), or of the folder of programs (`binaries`); from the key
    llama_cpp.path. None means llama.cpp's meaning of "automatic" only where the text says so; all else is pinned.
    `threads`: None is resolved to physical cores - 1 of the lane before identity is taken.
    """

    kind: str = key("auto", "auto, embedded, server, binaries or attached", choices=ENGINES)
    program: str | None = None
    context: int = key(4096, "context, in tokens", least=1)
    threads: int | None = key(None, "threads for decoding; null: physical cores - 1", least=1)
    threads_batch: int | None = key(None, "threads for prompts; null: as threads", least=1)
    batch: int = key(2048, "logical batch, in tokens", least=1)
    ubatch: int = key(512, "physical batch, in tokens", least=1)
    gpu_layers: int = key(999, "layers of the main model on the GPU", least=0)
    draft_gpu_layers: int = key(999, "layers of the draft model on the GPU", least=0)
    flash_attention: str = key("auto", "on, off or auto", convert=on_off_auto)
    cache_type_k: str = key("f16", "type of the key cache", choices=CACHE_TYPES)
    cache_type_v: str = key("f16", "type of the value cache", choices=CACHE_TYPES)
    draft_cache_type_k: str = key("f16", "type of the draft's key cache", choices=CACHE_TYPES)
    draft_cache_type_v: str = key("f16", "type of the draft's value cache", choices=CACHE_TYPES)
    split_mode: str | None = key(None, "how GPUs share a model: none, layer, row or tensor", choices=SPLIT_MODES)
    tensor_split: tuple[float, ...] = key((), "share of each GPU, e.g. [3,1]")
    n_cpu_moe: int | None = key(None, "keep the experts of the first N layers on the CPU", least=0)
    override_tensor: str | None = key(None, "tensor buffers by pattern, as in llama-server: exps=CPU")
    draft_n_cpu_moe: int | None = key(None, "n_cpu_moe of the draft model", least=0)
    draft_override_tensor: str | None = key(None, "override_tensor of the draft model")
    draft_device: str | None = key(None, "device of the draft model, as llama-server names it")
    mmap: bool = key(True, "map the model file instead of reading it")
    args: tuple[str, ...] = key((), "further llama-server arguments, verbatim")
    vanilla_url: str | None = key(None, "kind=attached: address of a server without speculation")
    speculative_url: str | None = key(None, "kind=attached: address of a server with speculation")


@dataclass(frozen=True, kw_only=True, slots=True)
class Adaptive:
    """Sequential stopping: look every `look_every` pairs from `min_pairs` on, stop at ±`target` relative."""

    min_pairs: int = key(6, "first look after this many pairs", least=2)
    look_every: int = key(2, "pairs between looks", least=1)
    max_pairs: int = key(60, "give up after this many pairs", least=2)
    target: float = key(0.01, "stop at ± this relative half width", least=1e-6, most=1.0)
    confidence: float = key(0.97, "confidence of the interval at each look", least=0.5, most=0.9999)
    until_sure: bool = key(False, "also stop once the interval excludes 1")
    budget_s: float | None = time_key("budget", "most time for settings measured together: 90s, 10min")


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """How often and in which order.

    `order`: `abba`, `random` (seeded) or `block` (vanilla first; prone to drift). `run_timeout_s` is a bound: the
    working timeout follows from what the server has shown.
    """

    name: str = key("standard", "what results call the protocol")
    iterations: int = key(5, "pairs of vanilla and speculative runs", least=1)
    launches: int = key(1, "starts of each server; iterations are split among them", least=1)
    order: str = key("abba", "abba, random or block", choices=("abba", "random", "block"))
    seed: int = key(0, "seed of order=random")
    warmup_tokens: int = key(4, "tokens of the warm-up run after each start; 0: none", least=0)
    adaptive: Adaptive | None = key(None, "stop when sure; null: fixed iterations")
    retries: int = key(1, "times a failed run is repeated", least=0)
    load_timeout_s: float = key(600.0, "longest wait for a server to be ready", least=0.1)
    run_timeout_s: float = key(600.0, "longest wait for one run", least=0.1)
    cooldown: bool = key(False, "rest when vanilla gets slower")
    cooldown_drift: float = key(0.02, "relative slow-down that asks for a rest", least=0.0)
    cooldown_max_s: float = key(60.0, "longest rest", least=0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One point of the grid.

    `baseline_id` is the same for all jobs that can share one vanilla series (same main model, engine, prompts,
    n_predict, concurrency, depth, stop, sampling and protocol).
    """

    id: str  # a hash of what determines its result, never its position
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
    concurrency: int = 1
    depth: int = 0
    stop: str = "length"
    skip_vanilla: bool = False
    target_speedup: float = 1.5
    output: str | None = None
    overrides: tuple[str, ...] = ()
    directory: str = ""  # relative to the sweep's root; "" for a single job
    added: tuple[int, ...] = ()  # iterations that `velosweep more` added, each time: more of the same
    twins: tuple[int, ...] = ()  # numbers of other points of the grid that come to the same run, measured with it


@dataclass(frozen=True, kw_only=True, slots=True)
class TunerSettings:
    """How `hydra/sweeper=tune` searches."""

    tolerance: float = key(0.01, "find a setting within this share of the best", least=1e-4, most=0.5)
    confidence: float = key(0.95, "and be this sure", least=0.5, most=0.9999)
    objective: str = key("tokens_per_second", f"{', '.join(OBJECTIVES)} (per token)", choices=OBJECTIVES)
    per_category: bool = key(False, "one search for each category of prompts")
    budget_s: float | None = time_key("budget", "most time of measuring, loading aside: 90s, 10min, 2h")
    max_rounds: int = key(40, "give up certifying after this many rounds", least=3)
    confirm_pairs: int = key(6, "fresh pairs of the winner against vanilla", least=2)
    seed: int = key(0, "seed of the order of measurement")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSettings:
    """How to run, none of which changes a result: lanes, waiting, screen, extra files."""

    gpus: tuple[int | str, ...] | None = None  # indices or UUIDs; None takes all that llama.cpp can use
    gpus_per_lane: int = 1
    cpu_lanes: int = 1
    on_busy: str = "wait"
    dry_run: bool = False
    report_plots: bool = False
    report_paths: bool = False
    verbosity: int = 0  # -1 quiet, 1 verbose
    tells_results: bool = True  # else the command that has it measured does
    force: bool = False
    tuner: TunerSettings | None = None  # search the grid instead of measuring all of it
    measures_remotely: bool = False  # other machines measure, so that this one's cores say nothing
