"""sweep.json: what was asked, on which machine, how each job ended; and finding that out."""

from __future__ import annotations

import json
import platform
import socket
from collections.abc import Sequence
from pathlib import Path

from velosweep import __version__
from velosweep.errors import SchemaError, StorageError
from velosweep.model import Device, Environment, ModelFile, SweepRecord
from velosweep.storage.atomic import explained, write_text
from velosweep.storage.plain import from_plain, to_plain
from velosweep.storage.schema import check_schema


def write_record(path: Path, record: SweepRecord) -> None:
    """Write sweep.json atomically. Raises StorageError."""
    content = {"schema_version": record.schema_version, **to_plain(record)}
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_record(path: Path) -> SweepRecord:
    """Read sweep.json. Raises StorageError where it is missing or damaged, SchemaError for a newer program's."""
    if not path.is_file():
        raise StorageError(f"No {path.name} in {path.parent}", remedy="name the folder of a sweep")
    try:
        with explained(path, doing="read"):
            content = json.loads(path.read_text("utf-8"))
        check_schema(path, content["schema_version"])
        return from_plain(SweepRecord, content)
    except (SchemaError, StorageError):
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{path} is damaged ({type(error).__name__}: {error})",
            remedy="restore it from a copy; the samples beside it can still be read with velosweep.load",
        ) from error


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

    from velosweep.storage.hashing import file_sha256

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
        program_sha256=None if program is None else file_sha256(program),
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
