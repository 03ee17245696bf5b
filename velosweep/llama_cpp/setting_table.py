"""Every setting of llama.cpp that we give: what its programs and xllamacpp call it, in one table.

The server's command line, the embedded parameters and the command that people are shown come from it. What a request
to a server says of sampling is in `completion`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

Value = str | int | float | bool | tuple[str, ...] | tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """What llama.cpp calls a setting."""

    flags: tuple[str, ...]  # the programs' names, newest first; each program is given the first that it has
    attribute: str | None = None  # dotted, of xllamacpp's CommonParams; None where the embedded llama.cpp needs none
    enum: tuple[str, str] | None = None  # that attribute's enumeration, and what its members' names begin with
    members: Mapping[str, str] = field(default_factory=dict)  # the rest of their names where it isn't the value itself
    negated: bool = False  # the attribute says the opposite
    gone: bool = False  # today's programs lack it
    short: str | None = None  # the short flag, for the command that people are shown
    default: str | None = None  # what today's llama-server does by itself, in the words of its --help


def _cache_type(attribute: str, *flags: str, short: str) -> Setting:
    return Setting(flags, attribute, enum=("ggml_type", "GGML_TYPE_"), short=short, default="f16")


def _lookup_settings(kind: str) -> dict[str, Setting]:
    """Those of an n-gram kind that looks its drafts up; the kinds shared their flags in builds before April 2026."""
    prefix = kind.replace("-", "_")
    return {
        f"{prefix}.{name}": Setting(
            tuple(f"--spec-{owner}-{name.replace('_', '-')}" for owner in (kind, "ngram")),
            f"speculative.{prefix}.{name}",
        )
        for name in ("size_n", "size_m", "min_hits")
    }


SETTINGS: Mapping[str, Setting] = {
    "model": Setting(("--model",), "model.path", short="-m"),
    "context": Setting(("--ctx-size",), "n_ctx", short="-c"),
    "threads": Setting(("--threads",), "cpuparams.n_threads", short="-t"),
    "threads_batch": Setting(
        ("--threads-batch",), "cpuparams_batch.n_threads", short="-tb", default="same as --threads"
    ),
    "batch": Setting(("--batch-size",), "n_batch", short="-b", default="2048"),
    "ubatch": Setting(("--ubatch-size",), "n_ubatch", short="-ub", default="512"),
    "gpu_layers": Setting(("--n-gpu-layers", "--gpu-layers"), "n_gpu_layers", short="-ngl", default="auto"),
    "flash_attention": Setting(
        ("--flash-attn",),
        "flash_attn_type",
        enum=("llama_flash_attn_type", "LLAMA_FLASH_ATTN_TYPE_"),
        members={"on": "ENABLED", "off": "DISABLED"},
        short="-fa",
        default="auto",
    ),
    "cache_type_k": _cache_type("cache_type_k", "--cache-type-k", short="-ctk"),
    "cache_type_v": _cache_type("cache_type_v", "--cache-type-v", short="-ctv"),
    "split_mode": Setting(("--split-mode",), "split_mode", enum=("llama_split_mode", "LLAMA_SPLIT_MODE_"), short="-sm"),
    "tensor_split": Setting(("--tensor-split",), "tensor_split", short="-ts"),
    "n_cpu_moe": Setting(("--n-cpu-moe",), short="-ncmoe"),
    "override_tensor": Setting(("--override-tensor",), "tensor_buft_overrides", short="-ot"),
    "device": Setting(("--device",), short="-dev"),
    "load_mode": Setting(("--load-mode",), "load_mode", enum=("llama_load_mode", "LLAMA_LOAD_MODE_")),
    "mmap": Setting(("--mmap",)),
    "no_mmap": Setting(("--no-mmap",)),
    "fit": Setting(("--fit",), "fit_params"),
    "offline": Setting(("--offline",)),
    "warmup": Setting(("--warmup",), "warmup"),
    "verbosity": Setting(("--verbosity",), "verbosity"),
    # one run of a command-line program
    "seed": Setting(("--seed",)),
    "temperature": Setting(("--temp",)),
    "top_k": Setting(("--top-k",)),
    "top_p": Setting(("--top-p",)),
    "min_p": Setting(("--min-p",)),
    "repeat_penalty": Setting(("--repeat-penalty",)),
    "samplers": Setting(("--samplers",)),
    "n_predict": Setting(("--predict", "--n-predict")),
    "ignore_eos": Setting(("--ignore-eos",)),
    "prompt": Setting(("--prompt",)),
    "no_display_prompt": Setting(("--no-display-prompt",)),
    "no_conversation": Setting(("--no-conversation", "-no-cnv")),
    "no_escape": Setting(("--no-escape",)),
    "list_devices": Setting(("--list-devices",)),
    # the server
    "host": Setting(("--host",), "hostnames"),
    "port": Setting(("--port",), "port"),
    "parallel": Setting(("--parallel",), "n_parallel", short="-np"),
    "metrics": Setting(("--metrics",), "endpoint_metrics"),
    "slots": Setting(("--slots",), "endpoint_slots"),
    "no_ui": Setting(("--no-ui", "--no-webui"), "ui", negated=True),
    "no_context_shift": Setting(("--no-context-shift",), "ctx_shift", negated=True),
    "cache_ram": Setting(("--cache-ram",), "cache_ram_mib"),
    "no_cache_idle_slots": Setting(("--no-cache-idle-slots",), "cache_idle_slots", negated=True),
    "cache_reuse": Setting(("--cache-reuse",), "n_cache_reuse"),
    "no_kv_unified": Setting(("--no-kv-unified",), "kv_unified", negated=True),
    # speculation
    "draft_model": Setting(("--spec-draft-model", "--model-draft"), "speculative.draft.mparams.path", short="-md"),
    "spec_type": Setting(
        ("--spec-type",),
        "speculative.types",
        enum=("common_speculative_type", "COMMON_SPECULATIVE_TYPE_"),
        default="none",
    ),
    "n_draft": Setting(("--spec-draft-n-max", "--draft-max", "--draft-n", "--draft"), "speculative.draft.n_max"),
    "n_min": Setting(("--spec-draft-n-min", "--draft-min", "--draft-n-min"), "speculative.draft.n_min", default="0"),
    "p_min": Setting(("--spec-draft-p-min", "--draft-p-min"), "speculative.draft.p_min", default="0.00"),
    "p_split": Setting(("--spec-draft-p-split", "--draft-p-split"), "speculative.draft.p_split", default="0.10"),
    "draft_threads": Setting(
        ("--spec-draft-threads", "--threads-draft"),
        "speculative.draft.cpuparams.n_threads",
        default="same as --threads",
    ),
    "draft_threads_batch": Setting(
        ("--spec-draft-threads-batch", "--threads-batch-draft"),
        "speculative.draft.cpuparams_batch.n_threads",
        default="same as --threads-draft",
    ),
    "draft_gpu_layers": Setting(
        ("--spec-draft-ngl", "--gpu-layers-draft", "--n-gpu-layers-draft"),
        "speculative.draft.n_gpu_layers",
        short="-ngld",
        default="auto",
    ),
    "draft_context": Setting(("--ctx-size-draft",), gone=True),
    "draft_cache_type_k": _cache_type(
        "speculative.draft.cache_type_k", "--spec-draft-type-k", "--cache-type-k-draft", short="-ctkd"
    ),
    "draft_cache_type_v": _cache_type(
        "speculative.draft.cache_type_v", "--spec-draft-type-v", "--cache-type-v-draft", short="-ctvd"
    ),
    "draft_n_cpu_moe": Setting(("--spec-draft-n-cpu-moe", "--n-cpu-moe-draft"), short="-ncmoed"),
    "draft_override_tensor": Setting(
        ("--spec-draft-override-tensor", "--override-tensor-draft"),
        "speculative.draft.tensor_buft_overrides",
        short="-otd",
    ),
    "draft_device": Setting(("--spec-draft-device", "--device-draft"), "speculative.draft.devices", short="-devd"),
    **_lookup_settings("ngram-simple"),
    **_lookup_settings("ngram-map-k"),
    **_lookup_settings("ngram-map-k4v"),
    "ngram_mod.n_match": Setting(("--spec-ngram-mod-n-match",), "speculative.ngram_mod.n_match"),
    "ngram_mod.n_min": Setting(("--spec-ngram-mod-n-min",), "speculative.ngram_mod.n_min"),
    "ngram_mod.n_max": Setting(("--spec-ngram-mod-n-max",), "speculative.ngram_mod.n_max"),
    "ngram_cache.static": Setting(("--lookup-cache-static",), "speculative.ngram_cache.lookup_cache_static"),
    "ngram_cache.dynamic": Setting(("--lookup-cache-dynamic",), "speculative.ngram_cache.lookup_cache_dynamic"),
    "synth_len": Setting(("--spec-synth-len",), "speculative.synth_len"),
}


def setting_of(name: str) -> Setting:
    """The table's setting; of a parameter of speculation that it lacks, what llama.cpp calls it by its own rule.

    `draft.conf_min` and `draft_conf_min` are `--spec-draft-conf-min`.
    """
    return SETTINGS.get(name) or Setting((spec_flag(name),))


def spec_flag(name: str) -> str:
    """The flag of a parameter of speculation."""
    return "--spec-" + re.sub(r"[._]", "-", name)


_OUR_FLAGS = frozenset(flag for setting in SETTINGS.values() for flag in setting.flags)


def is_ours(name: str) -> bool:
    """Whether a parameter of speculation is a setting of the table, under whatever name."""
    return name in SETTINGS or spec_flag(name) in _OUR_FLAGS
