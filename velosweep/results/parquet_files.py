"""Our Parquet files: what each says of itself, reading them, and samples.parquet: one row a run. See SCHEMA.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from velosweep import __version__
from velosweep.errors import SchemaError, StorageError
from velosweep.files import replacing, storage_error
from velosweep.records import JobRecord, SweepRecord
from velosweep.values import NEEDED_COLUMNS, SCHEMA_VERSION

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


def columns(*kinds: tuple[str, str]) -> dict[str, str]:
    """name -> type, of (type, names)."""
    return {name: kind for kind, names in kinds for name in names.split()}


# As the data contract has them; `SCHEMA.md` documents each, and a test holds the two together.
COLUMNS: Mapping[str, str] = columns(
    ("string", "sweep_id job_id"),
    ("int32", "job_num"),
    ("string", "model_pair main_model draft_model speculation"),
    ("int32", "n_draft n_predict"),
    ("string", "prompt_set prompt_id prompt prompt_category mode"),
    ("int32", "iteration order launch"),
    ("bool", "warmup"),
    ("string", "status error"),
    ("double", "tokens_per_second time_to_first_token_ms total_time_ms"),
    ("int32", "prompt_tokens predicted_tokens"),
    ("double", "prompt_ms predicted_ms"),
    ("int32", "draft_tokens accepted_tokens"),
    ("list<int32>", "accepted_per_position"),
    ("string", "output_sha256"),
    ("int32", "first_divergence"),
    ("timestamp[us, UTC]", "started_at"),
    ("int32", "lane"),
    ("string", "device host engine llama_cpp_build"),
    ("double", "gpu_temperature_c gpu_clock_mhz gpu_power_w energy_j load_average"),
    # beyond the contract's list ("more columns may follow")
    ("int32", "block attempt rounds"),
    ("double", "p_min temperature"),
    ("string", "throttle_reasons"),
    ("int32", "gpu_processes"),
    ("double", "cpu_busy"),
)

STRINGS = tuple(name for name, kind in COLUMNS.items() if kind == "string")
DEFAULTS: Mapping[str, object] = {"block": 0, "attempt": 0}
# One row group a so many rows: filters skip whole groups, readers need memory for one. Of ten million samples one
# n_draft of a hundred loads in half the time that groups of 16,384 take; smaller ones gain nothing more.
ROW_GROUP = 8_192


def schema(metadata: Mapping[str, str] | None = None) -> pa.Schema:
    """The columns of samples.parquet, with `metadata` beside the schema's version."""
    return arrow_schema(COLUMNS, metadata)


def arrow_schema(kinds: Mapping[str, str], metadata: Mapping[str, str] | None = None) -> pa.Schema:
    """Columns of these types (the contract's names) as a file's schema, with `metadata` beside the schema's version."""
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
    return pa.schema([(name, types[kind]) for name, kind in kinds.items()]).with_metadata(file_metadata(metadata))


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


def write_samples(path: Path, table: pa.Table, *, metadata: Mapping[str, str] | None = None) -> None:
    """Write atomically. The same rows and `metadata` give the same bytes, however `table` is chunked.

    Raises StorageError.
    """
    groups = (table.slice(begin, ROW_GROUP) for begin in range(0, table.num_rows, ROW_GROUP))
    write_row_groups(path, groups, metadata=metadata)


def write_row_groups(path: Path, groups: Iterable[pa.Table], *, metadata: Mapping[str, str] | None = None) -> None:
    """As `write_samples`, from tables of ROW_GROUP rows each (the last may be shorter), one in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = schema(metadata)
    with replacing(path) as beside, pq.ParquetWriter(beside, wanted, **SAMPLES_WRITER) as writer:
        for group in groups:
            # Chunks decide where pages end, and would make the bytes depend on where the rows came from.
            whole = group.select(wanted.names).cast(wanted).combine_chunks()
            writer.write_table(pa.Table.from_batches(whole.to_batches(), schema=wanted), row_group_size=ROW_GROUP)


def read_parquet(path: Path) -> pa.Table:
    """A Parquet file of ours as it is. Raises StorageError or SchemaError."""
    with reading_parquet(path):
        return open_parquet(path).read()


def row_count(path: Path) -> int:
    """How many rows a Parquet file of ours has. Raises StorageError or SchemaError."""
    with reading_parquet(path):
        return open_parquet(path).metadata.num_rows


def open_parquet(path: Path) -> pq.ParquetFile:
    """A Parquet file of ours to read from. Raises Arrow's errors, StorageError for another program's, SchemaError."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path, page_checksum_verification=True)
    check_file_schema(path, file.schema_arrow.metadata, file.schema_arrow.names)
    return file


def completed(table: pa.Table) -> pa.Table:
    """The columns of the contract in its order, null where `table` lacks them."""
    import pyarrow as pa

    for field in schema():
        if field.name not in table.column_names:
            values = [DEFAULTS.get(field.name)] * table.num_rows
            table = table.append_column(field, pa.array(values, type=field.type))
    return table.select(list(COLUMNS))
