"""Our Parquet files: what each says of itself, reading them, and samples.parquet: one row a run. See SCHEMA.md."""

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from velosweep import __version__
from velosweep.errors import SchemaError, StorageError
from velosweep.files import replacing, storage_error
from velosweep.records import JobRecord, SweepRecord
from velosweep.values import NEEDED_COLUMNS, SCHEMA_VERSION, Sample

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


_KINDS = {
    **dict.fromkeys(("str", "Mode", "Status"), "string"),
    "int": "int32",
    "Bytes": "int64",
    "float": "double",
    "bool": "bool",
    "tuple[int, ...]": "list<int32>",
    "tuple[float, ...]": "list<double>",
    "datetime": "timestamp[us, UTC]",
}


def columns_of(row: type) -> dict[str, str]:
    """A column for each field of a dataclass in its order: name -> type, in the contract's names of types."""
    return {field.name: _KINDS[str(field.type).removesuffix(" | None")] for field in fields(row)}


# As the data contract has them; `SCHEMA.md` documents each, and a test holds the two together.
COLUMNS: Mapping[str, str] = columns_of(Sample)
STRINGS = tuple(name for name, kind in COLUMNS.items() if kind == "string")
DEFAULTS: Mapping[str, object] = {"block": 0, "attempt": 0, "concurrency": 1, "depth": 0}
# One row group a so many rows: filters skip whole groups, readers need memory for one. Of ten million samples one
# n_draft of a hundred loads in half the time that groups of 16,384 take; smaller ones gain nothing more.
ROW_GROUP = 8_192


def samples_schema(metadata: Mapping[str, str] | None = None) -> "pa.Schema":
    """The columns of samples.parquet, with `metadata` beside the schema's version."""
    return arrow_schema(COLUMNS, metadata)


def arrow_schema(kinds: Mapping[str, str], metadata: Mapping[str, str] | None = None) -> "pa.Schema":
    """Columns of these types (the contract's names) as a file's schema, with `metadata` beside the schema's version."""
    import pyarrow as pa

    types: dict[str, pa.DataType] = {
        "string": pa.string(),
        "int32": pa.int32(),
        "int64": pa.int64(),
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
        remedy=f"rebuild it from the journal with `velosweep collate {shlex.quote(str(path.parent))}`",
    )


@contextmanager
def reading_parquet(path: Path) -> Iterator[None]:
    """Turn what Arrow and the system say of a file that can't be read into StorageError."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:  # KeyError: of two columns of one name
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
            f"{path} has schema {version}, this velosweep reads up to {SCHEMA_VERSION}", remedy="upgrade velosweep"
        )


def to_plain(value: Any) -> Any:
    """A frozen value as JSON values: dataclasses as objects, times as RFC 3339."""
    return orjson.loads(orjson.dumps(value, option=orjson.OPT_UTC_Z))


def sweep_metadata(record: SweepRecord) -> dict[str, str]:
    """The metadata entry of a sweep's files: how it was asked for and where it ran; not how it ended."""
    jobs = {job.id: job.overrides for job in record.jobs}
    asked = {"sweep_id": record.sweep_id, "command": record.command, "environment": record.environment, "jobs": jobs}
    return _configuration(to_plain(asked))


def job_metadata(job: JobRecord) -> dict[str, str]:
    """The metadata entry of a job's file: what was asked of it; not how it ended."""
    asked = to_plain(job)
    del asked["state"], asked["error"]
    return _configuration(asked)


def _configuration(value: Mapping[str, object]) -> dict[str, str]:
    return {"configuration": json.dumps(value, separators=(",", ":"))}


def write_samples(path: Path, table: "pa.Table", *, metadata: Mapping[str, str] | None = None) -> None:
    """Write atomically. The same rows and `metadata` give the same bytes, however `table` is chunked.

    Raises StorageError.
    """
    groups = (table.slice(begin, ROW_GROUP) for begin in range(0, table.num_rows, ROW_GROUP))
    further = {field.name: str(field.type) for field in table.schema if field.name not in COLUMNS}
    write_row_groups(path, groups, metadata=metadata, further=further)


def write_row_groups(
    path: Path,
    groups: "Iterable[pa.Table]",
    *,
    metadata: Mapping[str, str] | None = None,
    further: Mapping[str, str] | None = None,
) -> None:
    """As `write_samples`, from tables of ROW_GROUP rows each (the last may be shorter), one in memory at a time.

    `further`: their columns beside the contract's (name -> type).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    further = further or {}
    wanted = arrow_schema({**COLUMNS, **further}, metadata)
    options = {**SAMPLES_WRITER, "use_dictionary": [*SAMPLES_WRITER["use_dictionary"], *further]}
    with replacing(path) as beside, pq.ParquetWriter(beside, wanted, **options) as writer:
        for group in groups:
            # Chunks decide where pages end, and would make the bytes depend on where the rows came from.
            whole = group.select(wanted.names).cast(wanted).combine_chunks()
            writer.write_table(pa.Table.from_batches(whole.to_batches(), schema=wanted), row_group_size=ROW_GROUP)


def read_parquet(path: Path) -> "pa.Table":
    """A Parquet file of ours as it is. Raises StorageError or SchemaError."""
    with reading_parquet(path):
        return open_parquet(path).read()


def read_row_groups(path: Path) -> "Iterator[pa.Table]":
    """The contract's columns of a Parquet file of ours, a row group at a time. Raises StorageError or SchemaError."""
    with reading_parquet(path):  # columns of other types, too
        file = open_parquet(path)
        for number in range(file.num_row_groups):
            yield with_all_columns(file.read_row_group(number)).select(list(COLUMNS)).cast(samples_schema())


def row_count(path: Path) -> int:
    """How many rows a Parquet file of ours has. Raises StorageError or SchemaError."""
    with reading_parquet(path):
        return open_parquet(path).metadata.num_rows


def open_parquet(path: Path) -> "pq.ParquetFile":
    """A Parquet file of ours to read from. Raises Arrow's errors, StorageError for another program's, SchemaError."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path, page_checksum_verification=True)
    check_file_schema(path, file.schema_arrow.metadata, file.schema_arrow.names)
    return file


def with_all_columns(table: "pa.Table") -> "pa.Table":
    """The columns of the contract in its order, null where `table` lacks them; then its further ones."""
    import pyarrow as pa

    for field in samples_schema():
        if field.name not in table.column_names:
            values = [DEFAULTS.get(field.name)] * table.num_rows
            table = table.append_column(field, pa.array(values, type=field.type))
    return table.select([*COLUMNS, *(name for name in table.column_names if name not in COLUMNS)])
