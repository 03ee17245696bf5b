"""What figures depend on besides the configuration: this machine, its processor and devices, and the program."""

import json
import platform
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from velosweep import __version__
from velosweep.errors import StorageError
from velosweep.files import as_storage_error, file_sha256, make_folder, user_cache, write_text
from velosweep.records import Environment, ModelFile
from velosweep.values import Device


def collect_environment(
    *,
    engine: str,
    llama_cpp_build: str,
    engine_reason: str | None = None,
    program: Path | None = None,
    devices: Sequence[Device] = (),
    models: Sequence[ModelFile] = (),
) -> Environment:
    """What figures measured now, here, with this engine depend on. Takes under 50 ms once the program is hashed."""
    return Environment(
        velosweep=__version__,
        python=platform.python_version(),
        host=socket.gethostname(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=cpu_name(),
        physical_cores=psutil.cpu_count(logical=False) or psutil.cpu_count() or 1,
        logical_cores=psutil.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        devices=tuple(devices),
        engine=engine,
        program=None if program is None else str(program),
        program_sha256=None if program is None else cached_sha256(program),
        llama_cpp_build=llama_cpp_build,
        engine_reason=engine_reason,
        models=tuple(models),
    )


def cpu_name() -> str:
    """What the processor calls itself, as far as the system says without asking a program."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in {"model name", "Model", "Hardware", "cpu model"} and value.strip():
                return " ".join(value.split())
    except OSError:  # no Linux
        pass
    return platform.processor() or platform.machine() or "unknown"


def cached_sha256(path: Path, *, cache: Path | None = None) -> str | None:
    """SHA-256 of a program, None for a folder. `cache`: the file to remember hashes in (default: the user's cache).

    Raises StorageError where the program can't be read. A cache that can't be read or written is done without.
    """
    if path.is_dir():
        return None
    with as_storage_error(path, doing="read"):
        status = path.stat()
        key = f"{path.absolute()}|{status.st_size}|{status.st_mtime_ns}"
        with suppress(StorageError):
            cache = cache or user_cache() / "program-hashes.json"
        known = _read(cache) if cache else {}
        if key in known:
            return known[key]
        known[key] = file_sha256(path)
    with suppress(StorageError):
        if cache is None:
            return known[key]
        make_folder(cache.parent)
        write_text(cache, json.dumps(known, indent=0, sort_keys=True), durable=False)
    return known[key]


def _read(cache: Path) -> dict[str, str]:
    try:
        content = json.loads(cache.read_text("utf-8"))
    except (OSError, ValueError):  # not there yet, or damaged
        return {}
    items = content.items() if isinstance(content, dict) else ()
    return {key: value for key, value in items if isinstance(value, str)}
