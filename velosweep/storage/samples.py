"""samples.parquet: one row a physical run. Columns, their order and types are the data contract's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velosweep import __version__
from velosweep.errors import SchemaError, StorageError
from velosweep.model import SCHEMA_VERSION, Sample
from velosweep.storage.atomic import replacing, storage_error

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
_DEFAULTS: Mapping[str, object] = {"block": 0, "attempt": 0}
# One row group a so many rows: filters skip whole groups, readers need memory for one.
ROW_GROUP = 131_072


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
    import pyarrow as pa

    columns = [(name, arrow_type(kind)) for name, kind in COLUMNS.items()]
    return pa.schema(columns).with_metadata(file_metadata(metadata))


def file_metadata(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What every Parquet file of ours says of itself; the same for the same content."""
    return {"schema_version": str(SCHEMA_VERSION), "velosweep_version": __version__, **(extra or {})}


def samples_to_table(samples: Iterable[Sample], *, metadata: Mapping[str, str] | None = None) -> pa.Table:
    """Samples as a table in the order given."""
    import pyarrow as pa

    rows = list(samples)
    wanted = schema(metadata)
    columns = [pa.array([getattr(row, field.name) for row in rows], type=field.type) for field in wanted]
    return pa.Table.from_arrays(columns, schema=wanted)


def in_canonical_order(table: pa.Table) -> pa.Table:
    """The same rows in an order that depends on them alone: not on which lane or process brought them first.

    Rows of one `job_id` stand together in the order they were taken; job_ids follow one another by their
    first run, so that jobs stand beside the vanilla runs they share and filters skip whole row groups.
    """
    import numpy as np

    owner = _owner_ranks(table)
    keys = ("iteration", "order", "lane")
    minor = [numbers(table, key, missing=-1) for key in keys if key in table.column_names]
    places = np.lexsort((*minor, _started(table), owner))
    if bool((places[1:] > places[:-1]).all()):
        return table
    return table.take(places)


def numbers(table: pa.Table, name: str, *, missing: int) -> Any:
    """A column of integers as numpy, `missing` for null."""
    column: Any = table[name]
    return column.fill_null(missing).to_numpy()


def _started(table: pa.Table) -> Any:
    import pyarrow as pa

    column: Any = table["started_at"]
    return column.cast(pa.int64()).fill_null(0).to_numpy()


def _owner_ranks(table: pa.Table) -> Any:
    """For each row the place of its `job_id` among all, by first run and then by name."""
    import numpy as np

    codes, names = owners(table)
    first = np.full(len(names), np.iinfo(np.int64).max)
    np.minimum.at(first, codes, _started(table))
    by_time = sorted(range(len(names)), key=lambda code: (int(first[code]), names[code]))
    ranks = np.empty(len(names), dtype=np.int32)
    ranks[by_time] = np.arange(len(names), dtype=np.int32)
    return ranks[codes]


def owners(table: pa.Table) -> tuple[Any, list[str]]:
    """`job_id` as (an integer a row, what it stands for)."""
    column: Any = table["job_id"].combine_chunks()
    encoded = column.fill_null("").dictionary_encode()
    return encoded.indices.to_numpy(), encoded.dictionary.to_pylist()


def write_samples(
    path: Path, table: pa.Table, *, metadata: Mapping[str, str] | None = None, durable: bool = True
) -> None:
    """Write atomically. The same rows and `metadata` give the same bytes, however `table` is chunked.

    Raises StorageError.
    """
    import pyarrow.parquet as pq

    # Chunks decide where pages end, and would make the bytes depend on where the rows came from.
    whole = table.replace_schema_metadata(file_metadata(metadata)).combine_chunks()
    with replacing(path, durable=durable) as beside:
        pq.write_table(whole, beside, row_group_size=ROW_GROUP, **WRITER)


# zstd 1 halves the default's size at its speed; dictionaries make repeated text (prompts, paths) nearly free.
# Checksums of pages tell a damaged file from a strange figure.
WRITER: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 1,
    "use_dictionary": True,
    "write_page_checksum": True,
}


def read_samples(path: Path, *, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows, columns in the contract's order; those that an older program did not write are null.

    Raises StorageError for what is no Parquet file of ours, SchemaError for a newer one.
    """
    table = read_parquet(path)
    if columns is not None:
        table = table.select([name for name in columns if name in table.column_names])
    return completed(table, columns)


def read_parquet(path: Path) -> pa.Table:
    """A Parquet file of ours as it is. Raises StorageError or SchemaError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        check_file_schema(path, file.schema_arrow.metadata)
        return file.read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged_parquet(path, error) from error


def damaged_parquet(path: Path, error: Exception) -> StorageError:
    """What to say of a file that can't be read: the system's refusal, or damage."""
    if isinstance(error, OSError) and error.errno:  # Arrow raises an OSError without a number for damage
        return storage_error(path, error, doing="read")
    first_line = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return StorageError(
        f"{path} is damaged or no Parquet file ({first_line})",
        remedy=f"rebuild it from the journal with `velosweep collate {path.parent}`",
    )


def check_file_schema(path: Path, metadata: Mapping[bytes, bytes] | None) -> None:
    """Raises StorageError for a file that isn't ours, SchemaError for one of a newer program."""
    text = (metadata or {}).get(b"schema_version", b"")
    if not text.isdigit():
        raise StorageError(f"{path} is not a file of velosweep: it has no schema_version", remedy="name another file")
    if int(text) > SCHEMA_VERSION:
        raise SchemaError(
            f"{path} has schema {int(text)}, this velosweep reads up to {SCHEMA_VERSION}", remedy="upgrade velosweep"
        )


def completed(table: pa.Table, columns: Sequence[str] | None = None) -> pa.Table:
    """`table` with all (or the named) columns of the contract in its order; columns of others stay at the end."""
    import pyarrow as pa

    arrays: list[Any] = []
    names: list[str] = []
    for name in columns if columns is not None else COLUMNS:
        if name in table.column_names:
            arrays.append(table[name])
        elif name in COLUMNS:
            arrays.append(_missing(name, table.num_rows))
        else:
            raise StorageError(f"No column {name!r} in samples", remedy=f"choose of: {', '.join(COLUMNS)}")
        names.append(name)
    if columns is None:
        rest = [name for name in table.column_names if name not in COLUMNS]
        arrays += [table[name] for name in rest]
        names += rest
    return pa.table(dict(zip(names, arrays, strict=True))).replace_schema_metadata(table.schema.metadata)


def _missing(name: str, rows: int) -> Any:
    import pyarrow as pa

    kind = arrow_type(COLUMNS[name])
    if name in _DEFAULTS:
        return pa.array([_DEFAULTS[name]] * rows, type=kind)
    return pa.array([None] * rows, type=kind)


def configuration_metadata(configuration: Mapping[str, object]) -> dict[str, str]:
    """The metadata entry that says how these rows were asked for."""
    return {"configuration": json.dumps(configuration, sort_keys=True, separators=(",", ":"))}
