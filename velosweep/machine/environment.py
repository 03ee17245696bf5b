"""What figures depend on besides the configuration: this machine, its processor and devices, and the program."""

import platform
import socket
from collections.abc import Sequence
from pathlib import Path

import psutil

from velosweep import __version__
from velosweep.files import as_storage_error, file_sha256
from velosweep.records import Environment, ModelFile
from velosweep.values import Device


def collect_environment(
    *,
    engine: str,
    llama_cpp_build: str,
    engine_reason: str | None = None,
    programs: Sequence[tuple[str, str | None]] = (),
    devices: Sequence[Device] = (),
    models: Sequence[ModelFile] = (),
) -> Environment:
    """What figures measured now, here, with this engine depend on.

    `programs`: (path, SHA-256) of each; of several none is recorded.
    """
    program, digest = programs[0] if len(programs) == 1 else (None, None)
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
        program=program,
        program_sha256=digest,
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


def program_sha256(path: Path) -> str | None:
    """SHA-256 of a program, None for a folder of several. Raises StorageError where it can't be read."""
    if path.is_dir():
        return None
    with as_storage_error(path, doing="read"):
        return file_sha256(path)
