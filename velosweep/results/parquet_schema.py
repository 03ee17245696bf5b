"""The columns of samples.parquet and what every Parquet file of ours says of itself. See SCHEMA.md."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from velosweep import __version__
from velosweep.errors import SchemaError, StorageError
from velosweep.files import storage_error
from velosweep.records import JobRecord, SweepRecord
from velosweep.values import NEEDED_COLUMNS, SCHEMA_VERSION

if TYPE_CHECKING:
    import pyarrow as pa

# name: type, as the data contract has them; `SCHEMA.md` documents each, and a test holds the two together.
COLUMNS: Mapping[str, str] = {
    "sweep_id": "string",
    "job_id": "string",
    "job_num": "int32",
    "model_pair": "string",
    "main_model": "string",
    "draft_model": "string",
    "speculation": "string",
    "n_draft": "int32",
    "n_predict": "int32",
    "prompt_set": "string",
    "prompt_id": "string",
    "prompt": "string",
    "prompt_category": "string",
    "mode": "string",
    "iteration": "int32",
    "order": "int32",
    "launch": "int32",
    "warmup": "bool",
    "status": "string",
    "error": "string",
    "tokens_per_second": "double",
    "time_to_first_token_ms": "double",
    "total_time_ms": "double",
    "prompt_tokens": "int32",
    "predicted_tokens": "int32",
    "prompt_ms": "double",
    "predicted_ms": "double",
    "draft_tokens": "int32",
    "accepted_tokens": "int32",
    "accepted_per_position": "list<int32>",
    "output_sha256": "string",
    "first_divergence": "int32",
    "started_at": "timestamp[us, UTC]",
    "lane": "int32",
    "device": "string",
    "host": "string",
    "engine": "string",
    "llama_cpp_build": "string",
    "gpu_temperature_c": "double",
    "gpu_clock_mhz": "double",
    "gpu_power_w": "double",
    "energy_j": "double",
    "load_average": "double",
    # beyond the contract's list ("more columns may follow")
    "block": "int32",
    "attempt": "int32",
    "rounds": "int32",
    "p_min": "double",
    "temperature": "double",
    "throttle_reasons": "string",
    "gpu_processes": "int32",
    "cpu_busy": "double",
}

STRINGS = tuple(name for name, kind in COLUMNS.items() if kind == "string")
DEFAULTS: Mapping[str, object] = {"block": 0, "attempt": 0}
# One row group a so many rows: filters skip whole groups, readers need memory for one. Of ten million samples one
# n_draft of a hundred loads in half the time that groups of 16,384 take; smaller ones gain nothing more.
ROW_GROUP = 8_192


def arrow_type(kind: str) -> pa.DataType:
    """The Arrow type of a contract's type name."""
    import pyarrow as pa

    types: dict[str, pa.DataType] = {
        "string": pa.string(),
        "int32": pa.int32(),
        "bool": pa.bool_(),
        "double": pa.float64(),
        # "element" is Parquet's own name: what is read back is then exactly what was written
        "list<int32>": pa.list_(pa.field("element", pa.int32())),
        "list<double>": pa.list_(pa.field("element", pa.float64())),
        "list<string>": pa.list_(pa.field("element", pa.string())),
        "timestamp[us, UTC]": pa.timestamp("us", tz="UTC"),
    }
    return types[kind]


def schema(metadata: Mapping[str, str] | None = None) -> pa.Schema:
    """The columns of samples.parquet, with `metadata` beside the schema's version."""
    return _bare_schema().with_metadata(file_metadata(metadata))


@lru_cache(maxsize=1)
def _bare_schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema([(name, arrow_type(kind)) for name, kind in COLUMNS.items()])


def file_metadata(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What every Parquet file of ours says of itself; the same for the same content."""
    return {"schema_version": str(SCHEMA_VERSION), "velosweep_version": __version__, **(extra or {})}


# zstd 1 halves the default's size at its speed; dictionaries make repeated text (prompts, paths) nearly free.
# Checksums of pages tell a damaged file from a strange figure.
WRITER: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 1,
    "use_dictionary": True,
    "write_page_checksum": True,
}
# No two times are the same: dictionaries of them make the file a fifth larger and slower to write and to read.
SAMPLES_WRITER: dict[str, Any] = {
    **WRITER,
    "use_dictionary": [
        f"{name}.list.element" if kind == "list<int32>" else name
        for name, kind in COLUMNS.items()
        if kind in ("string", "int32", "list<int32>")
    ],
}


def damaged_parquet(path: Path, error: Exception) -> StorageError:
    """What to say of a file that can't be read: the system's refusal, or damage."""
    if isinstance(error, OSError) and error.errno:  # Arrow raises an OSError without a number for damage
        return storage_error(path, error, doing="read")
    first_line = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return StorageError(
        f"{path} is damaged or no Parquet file ({first_line})",
        remedy=f"rebuild it from the journal with `velosweep collate {path.parent}`",
    )


@contextmanager
def reading_parquet(path: Path) -> Iterator[None]:
    """Turn what Arrow and the system say of a file that can't be read into StorageError."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged_parquet(path, error) from error


def check_file_schema(path: Path, metadata: Mapping[bytes, bytes] | None, columns: Sequence[str] = ()) -> None:
    """Raises StorageError for a Parquet file that isn't ours, SchemaError for one of a newer program.

    Samples that another program wrote need no version: the needed `columns` are enough.
    """
    text = (metadata or {}).get(b"schema_version", b"")
    missing = [name for name in NEEDED_COLUMNS if name not in columns]
    if not text and not missing:
        return
    if not text.isdigit():
        raise StorageError(
            f"{path} is not a file of velosweep: it has no schema_version",
            remedy=f"name another file; samples that another program wrote lack {', '.join(missing)}",
        )
    check_schema(path, int(text))


def check_schema(path: Path, version: int) -> None:
    """Raises SchemaError for a file that a newer program wrote."""
    if version > SCHEMA_VERSION:
        raise SchemaError(
            f"{path} has schema {version}, this velosweep reads up to {SCHEMA_VERSION}",
            remedy="upgrade velosweep",
        )


def to_plain(value: Any) -> Any:
    """A frozen value as JSON values: dataclasses as objects, times as RFC 3339."""
    return orjson.loads(orjson.dumps(value, option=orjson.OPT_UTC_Z))


def sweep_metadata(record: SweepRecord) -> dict[str, str]:
    """The metadata entry of a sweep's files: how it was asked for and where it ran; not how it ended."""
    jobs = {job.id: job.overrides for job in record.jobs}
    return _configuration(
        {"sweep_id": record.sweep_id, "command": record.command, "environment": record.environment, "jobs": jobs}
    )


def job_metadata(job: JobRecord) -> dict[str, str]:
    """The metadata entry of a job's file: what was asked of it; not how it ended."""
    asked = to_plain(job)
    del asked["state"], asked["error"]
    return _configuration(asked)


def _configuration(value: Mapping[str, object]) -> dict[str, str]:
    return {"configuration": json.dumps(to_plain(value), separators=(",", ":"))}
