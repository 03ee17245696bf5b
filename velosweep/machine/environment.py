"""What figures depend on besides the configuration: this machine, its processor and devices, and the program."""

from __future__ import annotations

import platform
import socket
from collections.abc import Sequence
from pathlib import Path

from velosweep import __version__
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
    import psutil

    from velosweep.machine.program_hash import cached_sha256

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
