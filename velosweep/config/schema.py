"""Structured configs: every key a person may write, its type, its default and what it means.

Hydra validates YAML and the command line against these classes; `velosweep --help` prints types, defaults and texts.
Values are frozen into `velosweep.config.settings` by `velosweep.config.load`; nothing else reads these classes.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

# ruff: noqa: RUF009 (`_key` and `_group` return dataclass fields)


def _key(default: Any, text: str) -> Any:
    """A key with its one-line explanation; lists and mappings get a fresh copy each."""
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: default.copy(), metadata={"help": text})
    return field(default=default, metadata={"help": text})


def _group(factory: Any, text: str) -> Any:
    """A section of keys with its explanation."""
    return field(default_factory=factory, metadata={"help": text})


@dataclass
class LlamaCppConf:
    """Where llama.cpp is."""

    path: str | None = _key(None, "folder of a llama.cpp (its build/bin is found), or llama-server itself")


@dataclass
class SyntheticShapeConf:
    """Shape of a synthetic pair: random weights, the draft being the target's first blocks."""

    layers: int = _key(20, "transformer blocks of the main model")
    kept_layers: int = _key(1, "of these, blocks the draft model has")
    width: int = _key(384, "embedding width")
    feed_forward: int = _key(1024, "feed-forward width")
    heads: int = _key(6, "attention heads")
    kv_heads: int = _key(2, "key/value heads")
    vocabulary: int = _key(320, "tokens")
    eps: float = _key(0.03, "share of the blocks the draft lacks: 0 is always accepted, more is accepted less")
    type: str = _key("f32", "weights: f32, f16, bf16, q8_0, q4_0")
    seed: int = _key(0, "seed of the random weights")


@dataclass
class ModelPairConf:
    """A main model and the draft model that proposes for it."""

    name: str = _key("custom", "what results call the pair")
    main_model: str | None = _key(None, "main model, a GGUF file or hf://owner/repo/file.gguf")
    draft_model: str | None = _key(None, "draft model, likewise")
    synthetic: SyntheticShapeConf | None = field(
        default=None, metadata={"help": "shape of a pair to be written, instead of files"}
    )


@dataclass
class PromptsConf:
    """Prompts that are measured together."""

    name: str = _key("custom", "what results call the set")
    items: list[Any] = _key([], "prompts: strings, or {id, text, category}")
    file: str | None = _key(None, "file with one prompt a line (.txt) or one object a line (.jsonl)")
    limit: int | None = _key(None, "take this many, drawn with prompts.seed, evenly over categories")
    seed: int = _key(0, "seed of that draw")
    categories: list[str] | None = field(default=None, metadata={"help": "only prompts of these categories"})
    chat: bool = _key(False, "apply the main model's chat template")


@dataclass
class SpeculationConf:
    """How tokens are proposed."""

    kinds: list[str] = _key(["draft"], "ways to propose tokens; several are combined, none is vanilla only")
    p_min: float = _key(0.0, "stop drafting below this probability")
    n_min: int = _key(0, "drop drafts shorter than this")
    parameters: dict[str, Any] = _key({}, "settings of one kind, e.g. {ngram_mod.n_match: 24}")
    synthetic_acceptance: float | None = _key(
        None, "let llama.cpp accept this many tokens a round at random (calibration)"
    )


@dataclass
class EngineConf:
    """Which llama.cpp runs and how; all of it is part of a result's identity."""

    kind: str = _key("auto", "auto, embedded, server, binaries or attached")
    context: int = _key(4096, "context, in tokens")
    threads: int | None = _key(None, "threads for decoding; null: physical cores - 1")
    threads_batch: int | None = _key(None, "threads for prompts; null: as threads")
    batch: int = _key(2048, "logical batch, in tokens")
    ubatch: int = _key(512, "physical batch, in tokens")
    gpu_layers: int = _key(999, "layers of the main model on the GPU")
    draft_gpu_layers: int = _key(999, "layers of the draft model on the GPU")
    flash_attention: str = _key("auto", "on, off or auto")
    cache_type_k: str = _key("f16", "type of the key cache")
    cache_type_v: str = _key("f16", "type of the value cache")
    draft_cache_type_k: str = _key("f16", "type of the draft's key cache")
    draft_cache_type_v: str = _key("f16", "type of the draft's value cache")
    split_mode: str | None = _key(None, "how GPUs share a model: none, layer or row")
    tensor_split: list[float] = _key([], "share of each GPU, e.g. [3,1]")
    draft_device: str | None = _key(None, "device of the draft model, as llama-server names it")
    mmap: bool = _key(True, "map the model file instead of reading it")
    args: list[str] = _key([], "further llama-server arguments, verbatim")
    vanilla_url: str | None = _key(None, "kind=attached: address of a server without speculation")
    speculative_url: str | None = _key(None, "kind=attached: address of a server with speculation")


@dataclass
class AdaptiveConf:
    """Measure until the interval is narrow enough."""

    min_pairs: int = _key(6, "first look after this many pairs")
    look_every: int = _key(2, "pairs between looks")
    max_pairs: int = _key(60, "give up after this many pairs")
    target: float = _key(0.01, "stop at ± this relative half width")
    confidence: float = _key(0.97, "confidence of the interval that is looked at")


@dataclass
class ProtocolConf:
    """How often and in which order is measured."""

    name: str = _key("standard", "what results call the protocol")
    iterations: int = _key(5, "pairs of vanilla and speculative runs")
    launches: int = _key(1, "times each server is started anew; iterations are shared out over them")
    order: str = _key("abba", "abba, random or block")
    seed: int = _key(0, "seed of order=random")
    warmup_tokens: int = _key(4, "tokens of the warm-up run after each start; 0: none")
    adaptive: AdaptiveConf | None = field(default=None, metadata={"help": "stop when sure; null: fixed iterations"})
    retries: int = _key(1, "times a failed run is repeated")
    load_timeout_s: float = _key(600.0, "longest wait for a server to be ready")
    run_timeout_s: float = _key(600.0, "longest wait for one run")
    cooldown: bool = _key(False, "rest when the GPU gets slower")
    cooldown_drift: float = _key(0.02, "relative slow-down that asks for a rest")
    cooldown_max_s: float = _key(60.0, "longest rest")


@dataclass
class SamplingConf:
    """How tokens are chosen."""

    temperature: float = _key(0.0, "0 is greedy, so that outputs can be compared")
    seed: int = _key(42, "seed of sampling")


@dataclass
class ReportConf:
    """Extra files of a report."""

    plots: bool = _key(False, "also write the charts as SVG and PNG")
    paths: bool = _key(False, "show full paths and host names in reports")


@dataclass
class DisplayConf:
    """How much is said on the screen."""

    quiet: bool = _key(False, "results only")
    verbose: bool = _key(False, "also what servers are started with")


@dataclass
class TunerConf:
    """How hydra/sweeper=tune searches the grid."""

    tolerance: float = _key(0.01, "find a setting within this share of the best")
    confidence: float = _key(0.95, "and be this sure")
    objective: str = _key("tokens_per_second", "tokens_per_second, total_time_ms or energy_j (per token)")
    per_category: bool = _key(False, "one search for each category of prompts")
    budget: str | None = _key(None, "answer by then, certified or not: 90s, 10min, 2h")
    max_rounds: int = _key(40, "give up certifying after this many rounds")
    confirm_pairs: int = _key(6, "fresh pairs of the winner against vanilla")
    seed: int = _key(0, "seed of the order of measurement")


@dataclass
class SweepConf:
    """One job: everything that `velosweep key=value` may set."""

    llama_cpp: LlamaCppConf = _group(LlamaCppConf, "the llama.cpp to measure")
    model_pair: ModelPairConf = _group(ModelPairConf, "main and draft model")
    n_draft: int = _key(8, "tokens drafted a round, at most")
    n_predict: int = _key(100, "tokens to generate a run")
    prompt: str | None = _key(None, "one prompt, instead of the set of prompts=")
    prompts: PromptsConf = _group(PromptsConf, "prompts measured together")
    iterations: int = _key("${protocol.iterations}", "runs of each mode; default of the protocol")
    output: str | None = _key(None, "also write the summary to this file")
    skip_vanilla: bool = _key(False, "measure speculative decoding only (no speedup then)")
    target_speedup: float = _key(1.5, "speedup that counts as reached")
    speculation: SpeculationConf = _group(SpeculationConf, "how tokens are proposed")
    engine: EngineConf = _group(EngineConf, "which llama.cpp runs and how")
    protocol: ProtocolConf = _group(ProtocolConf, "how often and in which order")
    sampling: SamplingConf = _group(SamplingConf, "how tokens are chosen")
    gpus: Any = _key(None, "GPUs to use, e.g. [0,1] or UUIDs; null: all that llama.cpp can use")
    gpus_per_lane: int = _key(1, "GPUs that hold one model together")
    cpu_lanes: int = _key(1, "lanes on the CPU where there is no GPU")
    on_busy: str = _key("wait", "device in use by another sweep: wait or fail")
    dry_run: bool = _key(False, "print the plan and run nothing")
    force: bool = _key(False, "accept what changed underneath when resuming")
    tuner: TunerConf = _group(TunerConf, "how hydra/sweeper=tune searches the grid")
    report: ReportConf = _group(ReportConf, "extra files of a report")
    display: DisplayConf = _group(DisplayConf, "how much is said on the screen")


RUN_KEYS = ("gpus", "gpus_per_lane", "cpu_lanes", "on_busy", "dry_run", "force", "report", "display", "tuner")
"""Top-level keys that say how to run and change no result: they hold for a whole sweep."""


@dataclass(frozen=True)
class KeyInfo:
    """A dotted key as `--help` shows it. `type` and `default` are as YAML has them; a section's are empty."""

    name: str
    type: str
    default: str
    text: str


def describe_keys(conf: type = SweepConf, prefix: str = "") -> list[KeyInfo]:
    """All dotted keys, sections before their keys, in the order of the schema."""
    hints = get_type_hints(conf)
    found: list[KeyInfo] = []
    for item in fields(conf):
        key, hint = f"{prefix}{item.name}", hints[item.name]
        section = next((one for one in (hint, *get_args(hint)) if isinstance(one, type) and is_dataclass(one)), None)
        always = section is not None and hint is section
        found.append(
            KeyInfo(
                name=key,
                type="" if always else "section" if section else _type_word(hint),
                default="" if always else _yaml_word(item.default if item.default is not MISSING else _made(item)),
                text=item.metadata["help"],
            )
        )
        if section is not None:
            found += describe_keys(section, f"{key}.")
    return found


_TYPE_WORDS = {int: "int", float: "number", str: "text", bool: "bool", list: "list", dict: "map"}


def _type_word(hint: Any) -> str:
    """`int | None` is an int: that it may be null shows in its default or its text."""
    for one in (hint, *get_args(hint)):
        plain = get_origin(one) or one
        if plain in _TYPE_WORDS:
            return _TYPE_WORDS[plain]
    return "any"


def _yaml_word(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_yaml_word, value))}]"
    return (
        {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else f"{value}"
    )


def _made(item: Field[Any]) -> Any:
    return item.default_factory() if item.default_factory is not MISSING else None


def walk_keys() -> list[tuple[str, str]]:
    """All dotted keys with their explanations, as `describe_keys`."""
    return [(key.name, key.text) for key in describe_keys()]


def register() -> None:
    """Give Hydra the schema under the name that conf/sweep.yaml refers to."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="velosweep_schema", node=SweepConf, provider="velosweep")
