"""The llama.cpp that comes with velosweep (package xllamacpp), driven as llama-server is."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import secrets
import threading
from pathlib import Path

from velosweep.config.settings import EngineSettings
from velosweep.errors import ProgramError
from velosweep.isolation import python_command
from velosweep.llama_cpp import process
from velosweep.llama_cpp.arguments import SPEC_TYPES, kind_parameters, on_cpu, threads_of
from velosweep.llama_cpp.device_list import parse_list, pinning_environment
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.llama_cpp.server import ServerSession, start_child
from velosweep.values import Device, Lane, Mode

_CHILD = "velosweep.llama_cpp.embedded_child"
_FLASH_ATTENTION = {"on": "ENABLED", "off": "DISABLED", "auto": "AUTO"}


class EmbeddedEngine:
    """One child with xllamacpp's server an arm."""

    name = "embedded"

    @property
    def build(self) -> str:
        """The package's version: the wheel doesn't say which llama.cpp it was built from."""
        return embedded_build()

    def devices(self) -> tuple[Device, ...]:
        """The GPUs that the package was built for and finds; the wheels for Linux have none."""
        return embedded_devices()

    def launch(self, server: ServerConfig, *, lane: Lane, log_path: Path) -> ServerSession:
        """Start a child and return at once. Raises LaunchFailed, ProgramError."""
        api_key = secrets.token_urlsafe(24)
        settings = {**embedded_settings(server, lane=lane), "api_keys": [api_key]}
        child = start_child(
            python_command("-m", _CHILD),
            log_path=log_path,
            environment={**pinning_environment(lane), "PYTHONUNBUFFERED": "1"},
            lane=lane,
            stdin=True,
        )
        child.send(json.dumps(settings).encode() + b"\n")
        return ServerSession(server, child, log_path=log_path, api_key=api_key)


def embedded_devices() -> tuple[Device, ...]:
    """Asked in a child, as whatever loads llama.cpp; once."""
    with _ASKING:
        return _devices()


def ask_devices_early() -> None:
    """Have `embedded_devices` found out in the background; whoever needs them waits for the rest of it."""

    def ask() -> None:
        with contextlib.suppress(OSError):  # whoever needs them asks again, and says what is wrong
            embedded_devices()

    threading.Thread(target=ask, daemon=True, name="velosweep-devices").start()


_ASKING = threading.Lock()


@functools.cache
def _devices() -> tuple[Device, ...]:
    answer = process.ask(python_command("-m", _CHILD, "--devices"), environment={"CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    return parse_list(answer.stdout)


@functools.cache  # asked for every run, and the answer lies in some 1,600 lines of metadata
def embedded_build() -> str:
    """`xllamacpp 2026.10.11549`. Raises ProgramError if it isn't installed."""
    try:
        return f"xllamacpp {importlib.metadata.version('xllamacpp')}"
    except importlib.metadata.PackageNotFoundError:
        raise ProgramError(
            "The embedded llama.cpp (package xllamacpp) isn't installed",
            remedy="install velosweep again, or set llama_cpp.path to a llama.cpp of your own",
        ) from None


def _enum(kind: str, member: str) -> dict[str, list[str]]:
    return {"enum": [kind, member]}


def check_engine(engine: EngineSettings) -> None:
    """Raise ProgramError for what the embedded llama.cpp can't be told."""
    if engine.args:
        raise ProgramError(
            f"engine.args ({' '.join(engine.args)}) are llama-server's arguments; the embedded llama.cpp takes none",
            remedy="use engine=server with llama_cpp.path, or the typed keys of engine",
        )


def embedded_settings(server: ServerConfig, *, lane: Lane) -> dict[str, object]:
    """`server` as attributes of xllamacpp's CommonParams: dotted name -> value."""
    engine, threads, cpu = server.engine, threads_of(server.engine), on_cpu(lane)
    settings: dict[str, object] = {
        "model.path": server.main_model,
        "hostnames": ["127.0.0.1"],
        "port": 0,
        "n_parallel": 1,
        "n_ctx": engine.context,
        "cpuparams.n_threads": threads,
        "cpuparams_batch.n_threads": engine.threads_batch or threads,
        "n_batch": engine.batch,
        "n_ubatch": engine.ubatch,
        "n_gpu_layers": 0 if cpu else engine.gpu_layers,
        "flash_attn_type": _enum(
            "llama_flash_attn_type", f"LLAMA_FLASH_ATTN_TYPE_{_FLASH_ATTENTION[engine.flash_attention]}"
        ),
        "cache_type_k": _ggml_type(engine.cache_type_k),
        "cache_type_v": _ggml_type(engine.cache_type_v),
        "load_mode": _enum("llama_load_mode", f"LLAMA_LOAD_MODE_{'MMAP' if engine.mmap else 'NONE'}"),
        "fit_params": False,
        "endpoint_metrics": True,
        "endpoint_slots": True,
        "ui": False,
        "ctx_shift": False,
        "cache_ram_mib": 0,
        "cache_idle_slots": False,
        "n_cache_reuse": 0,
        "kv_unified": False,
        "warmup": True,
        "verbosity": 3,
    }
    if engine.split_mode is not None:
        settings["split_mode"] = _enum("llama_split_mode", f"LLAMA_SPLIT_MODE_{engine.split_mode.upper()}")
    if engine.tensor_split:
        settings["tensor_split"] = [*engine.tensor_split]
    if server.mode is Mode.SPECULATIVE:
        settings.update(_speculation(server, cpu=cpu))
    else:
        settings["speculative.types"] = [_spec_type("none")]
    return settings


def _ggml_type(name: str) -> dict[str, list[str]]:
    return _enum("ggml_type", f"GGML_TYPE_{name.upper()}")


def _spec_type(kind: str) -> dict[str, list[str]]:
    name = SPEC_TYPES.get(kind, kind).upper().replace("-", "_")
    return _enum("common_speculative_type", f"COMMON_SPECULATIVE_TYPE_{name}")


def _speculation(server: ServerConfig, *, cpu: bool) -> dict[str, object]:
    engine, speculation = server.engine, server.speculation
    assert speculation is not None  # noqa: S101 - a speculative arm has one
    threads = threads_of(engine)
    settings: dict[str, object] = {
        "speculative.types": [_spec_type(kind) for kind in speculation.kinds],
        "speculative.draft.n_max": server.n_draft,
        "speculative.draft.n_min": speculation.n_min,
        "speculative.draft.p_min": speculation.p_min,
        "speculative.draft.p_split": 0.1,
        "speculative.draft.n_gpu_layers": 0 if cpu else engine.draft_gpu_layers,
        "speculative.draft.cpuparams.n_threads": threads,
        "speculative.draft.cpuparams_batch.n_threads": engine.threads_batch or threads,
        "speculative.draft.cache_type_k": _ggml_type(engine.draft_cache_type_k),
        "speculative.draft.cache_type_v": _ggml_type(engine.draft_cache_type_v),
    }
    if server.draft_model:
        settings["speculative.draft.mparams.path"] = server.draft_model
    if engine.draft_device is not None and not cpu:
        settings["speculative.draft.devices"] = engine.draft_device
    if speculation.synthetic_acceptance is not None:
        settings["speculative.synth_len"] = speculation.synthetic_acceptance + 1
    for name, value in kind_parameters(server).items():
        if name.startswith("ngram_cache."):
            name = name.replace("ngram_cache.", "ngram_cache.lookup_cache_")
        settings[f"speculative.{name}"] = value
    return settings
