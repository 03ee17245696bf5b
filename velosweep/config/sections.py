"""Each section of the configuration as its frozen value, checked."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from velosweep.config.checks import Section
from velosweep.config.settings import (
    Adaptive,
    EngineSettings,
    ModelPair,
    Protocol,
    Sampling,
    Speculation,
    SyntheticShape,
    TunerSettings,
)
from velosweep.errors import ConfigError

ENGINES = ("auto", "embedded", "server", "binaries", "attached")
KINDS = (
    "draft",
    "draft-eagle3",
    "draft-dflash",
    "draft-dspark",
    "draft-mtp",
    "ngram-simple",
    "ngram-map-k",
    "ngram-map-k4v",
    "ngram-mod",
    "ngram-cache",
)
CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
WEIGHT_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0")


def model_pair(section: Section) -> ModelPair:
    """The pair. Files that are named win over a synthetic shape, and then name the pair."""
    main, draft = section.optional_text("main_model"), section.optional_text("draft_model")
    shape = section.optional("synthetic")
    if shape is not None and not main and not draft:
        return ModelPair(
            name=section.text("name"),
            main_model="",
            synthetic=synthetic_shape(Section(section.key("synthetic"), shape)),
        )
    if not main:
        raise ConfigError(
            f"{section.key('main_model')} has no value",
            remedy="set it to a GGUF file, or choose model_pair=synthetic",
        )
    pair = ModelPair(name=section.text("name"), main_model=_path(main), draft_model=_path(draft) if draft else None)
    return replace(pair, name=_name_of_files(pair)) if shape is not None or pair.name == "custom" else pair


def _path(model: str) -> str:
    return model if "://" in model else str(Path(model).expanduser())


def _name_of_files(pair: ModelPair) -> str:
    """File names without folder and suffix, joined."""
    return " + ".join(Path(path).stem for path in (pair.main_model, pair.draft_model) if path)


def synthetic_shape(section: Section) -> SyntheticShape:
    """Shape of a synthetic pair; whether it can be written is for `velosweep.models.synthetic` to say."""
    layers = section.whole("layers", 1)
    kept = section.whole("kept_layers", 1)
    if kept > layers:
        raise ConfigError(
            f"{section.key('kept_layers')} is {kept} of {layers} layers", remedy=f"it can be {layers} at most"
        )
    return SyntheticShape(
        layers=layers,
        kept_layers=kept,
        width=section.whole("width", 1),
        feed_forward=section.whole("feed_forward", 1),
        heads=section.whole("heads", 1),
        kv_heads=section.whole("kv_heads", 1),
        vocabulary=section.whole("vocabulary", 1),
        eps=section.number("eps", 0.0),
        type=section.choice("type", WEIGHT_TYPES),
        seed=section.whole("seed", 0),
    )


def speculation(section: Section) -> Speculation:
    """Kinds in the given order, each once."""
    kinds = section.texts("kinds")
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"{section.key('kinds')} has {kind!r}", remedy=f"choose of {', '.join(KINDS)}")
    acceptance = section.optional("synthetic_acceptance")
    return Speculation(
        kinds=tuple(dict.fromkeys(kinds)),
        p_min=section.number("p_min", 0.0, 1.0),
        n_min=section.whole("n_min", 0),
        parameters=_parameters(section),
        synthetic_acceptance=None if acceptance is None else section.number("synthetic_acceptance", 0.0),
    )


def _parameters(section: Section) -> tuple[tuple[str, int | float | str], ...]:
    """Kind-specific settings, flattened to dotted names and sorted."""
    flat: dict[str, int | float | str] = {}

    def walk(prefix: str, value: Any) -> None:
        """Put every value at or below `prefix` into `flat`. Raises ConfigError for what is no number or text."""
        if isinstance(value, dict):
            for name, inner in value.items():
                walk(f"{prefix}.{name}" if prefix else str(name), inner)
        elif isinstance(value, (int, float, str)):
            flat[prefix] = value
        elif value is not None:
            raise ConfigError(f"{section.key('parameters')}.{prefix} is {value!r}", remedy="give a number or a text")

    walk("", section.optional("parameters") or {})
    return tuple(sorted(flat.items()))


def check_length(n_predict: int, engine: EngineSettings) -> None:
    """Raise ConfigError where no run could be whole: the context takes the prompt and the answer."""
    if engine.kind != "attached" and n_predict >= engine.context:  # an attached server's context is its own
        raise ConfigError(
            f"n_predict is {n_predict}, and engine.context is {engine.context}",
            remedy=f"the context takes prompt and answer: set engine.context={2 * n_predict}, or lower n_predict",
        )


def check_draft_length(n_draft: int, engine: EngineSettings) -> None:
    """Raise ConfigError for a draft that no context holds: a typing error, and a llama-server counts each position."""
    if engine.kind != "attached" and n_draft >= engine.context:
        raise ConfigError(
            f"n_draft is {n_draft}, and engine.context is {engine.context}",
            remedy="the context takes prompt, answer and draft; drafts of 2 to 16 tokens are usual",
        )


def check_main_model(pair: ModelPair) -> None:
    """Raise ConfigError where the main model is a file that isn't there."""
    if pair.main_model and "://" not in pair.main_model and not os.path.exists(pair.main_model):  # noqa: PTH110
        raise ConfigError(f"No model at {pair.main_model}", remedy="set model_pair.main_model to a GGUF file")


def check_pair(pair: ModelPair, wanted: Speculation, *, skip_vanilla: bool) -> None:
    """Refuse what leaves nothing to measure."""
    if wanted.needs_draft_model and pair.synthetic is None and not pair.draft_model:
        raise ConfigError(
            "model_pair.draft_model has no value",
            remedy="set it to a GGUF file, or choose a speculation that needs none, e.g. speculation=ngram-simple",
        )
    if skip_vanilla and not wanted.kinds:
        raise ConfigError(
            "skip_vanilla=true with speculation=none leaves nothing to measure",
            remedy="drop one of the two",
        )


def engine(section: Section) -> EngineSettings:
    """How llama.cpp runs; `program` is filled from llama_cpp.path."""
    kind = section.choice("kind", ENGINES)
    if kind == "attached" and not (section.optional_text("vanilla_url") or section.optional_text("speculative_url")):
        raise ConfigError(
            "engine.kind is 'attached' and no server is named",
            remedy="set engine.vanilla_url and engine.speculative_url, e.g. http://127.0.0.1:8080",
        )
    threads, threads_batch = section.optional("threads"), section.optional("threads_batch")
    return EngineSettings(
        kind=kind,
        context=section.whole("context", 1),
        threads=None if threads is None else section.whole("threads", 1),
        threads_batch=None if threads_batch is None else section.whole("threads_batch", 1),
        batch=section.whole("batch", 1),
        ubatch=section.whole("ubatch", 1),
        gpu_layers=section.whole("gpu_layers", 0),
        draft_gpu_layers=section.whole("draft_gpu_layers", 0),
        flash_attention=_flash_attention(section),
        cache_type_k=section.choice("cache_type_k", CACHE_TYPES),
        cache_type_v=section.choice("cache_type_v", CACHE_TYPES),
        draft_cache_type_k=section.choice("draft_cache_type_k", CACHE_TYPES),
        draft_cache_type_v=section.choice("draft_cache_type_v", CACHE_TYPES),
        split_mode=_split_mode(section),
        tensor_split=tuple(float(share) for share in section.sequence("tensor_split")),
        draft_device=section.optional_text("draft_device"),
        mmap=section.flag("mmap"),
        args=section.texts("args"),
        vanilla_url=section.optional_text("vanilla_url"),
        speculative_url=section.optional_text("speculative_url"),
    )


def _flash_attention(section: Section) -> str:
    """`on`, `off` or `auto`; YAML reads on and off as true and false, which schema text turns to words."""
    word = str(section.required("flash_attention")).lower()
    word = {"true": "on", "false": "off"}.get(word, word)
    if word not in ("on", "off", "auto"):
        section.choice("flash_attention", ("on", "off", "auto"))
    return word


def _split_mode(section: Section) -> str | None:
    return section.choice("split_mode", ("none", "layer", "row")) if section.optional_text("split_mode") else None


def protocol(section: Section) -> Protocol:
    """How often and in which order."""
    rule = section.optional("adaptive")
    return Protocol(
        name=section.text("name"),
        iterations=section.whole("iterations", 1),
        launches=section.whole("launches", 1),
        order=section.choice("order", ("abba", "random", "block")),
        seed=section.whole("seed"),
        warmup_tokens=section.whole("warmup_tokens", 0),
        adaptive=None if rule is None else adaptive(Section(section.key("adaptive"), rule)),
        retries=section.whole("retries", 0),
        load_timeout_s=section.number("load_timeout_s", 0.1),
        run_timeout_s=section.number("run_timeout_s", 0.1),
        cooldown=section.flag("cooldown"),
        cooldown_drift=section.number("cooldown_drift", 0.0),
        cooldown_max_s=section.number("cooldown_max_s", 0.0),
    )


def adaptive(section: Section) -> Adaptive:
    """When to stop."""
    least = section.whole("min_pairs", 2)
    return Adaptive(
        min_pairs=least,
        look_every=section.whole("look_every", 1),
        max_pairs=section.whole("max_pairs", least),
        target=section.number("target", 1e-6, 1.0),
        confidence=section.number("confidence", 0.5, 0.9999),
    )


def sampling(section: Section) -> Sampling:
    """How tokens are chosen."""
    return Sampling(temperature=section.number("temperature", 0.0), seed=section.whole("seed"))


def gpus(value: Any) -> tuple[int | str, ...] | None:
    """Indices and UUIDs, each once, from a list or a single one; None where null: all."""
    if value is None:
        return None
    named = list(value) if isinstance(value, (list, tuple)) else [value]
    for gpu in named:
        if isinstance(gpu, bool) or not isinstance(gpu, (int, str)) or gpu == "" or (isinstance(gpu, int) and gpu < 0):
            raise ConfigError(f"gpus has {gpu!r}", remedy="give indices or UUIDs, e.g. gpus=[0,1]; null takes all")
    if len(set(named)) < len(named):
        raise ConfigError(f"gpus is {named}", remedy="name each GPU once, e.g. gpus=[0,1]; null takes all")
    return tuple(named)


_BUDGET = re.compile(r"(\d+(?:\.\d+)?)\s*(s|sec|m|min|h)")
_UNIT_S = {"s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def tuner(section: Section) -> TunerSettings:
    """How hydra/sweeper=tune searches."""
    return TunerSettings(
        tolerance=section.number("tolerance", 1e-4, 0.5),
        confidence=section.number("confidence", 0.5, 0.9999),
        objective=section.choice("objective", ("tokens_per_second", "total_time_ms", "energy_j")),
        per_category=section.flag("per_category"),
        budget_s=_seconds(section.optional_text("budget")),
        max_rounds=section.whole("max_rounds", 3),
        confirm_pairs=section.whole("confirm_pairs", 2),
        seed=section.whole("seed"),
    )


def _seconds(budget: str | None) -> float | None:
    if budget is None:
        return None
    match = _BUDGET.fullmatch(budget.strip())
    if match is None or float(match[1]) <= 0:
        raise ConfigError(f"tuner.budget is {budget!r}", remedy="write a time and its unit: 90s, 10min or 2h")
    return float(match[1]) * _UNIT_S[match[2]]
