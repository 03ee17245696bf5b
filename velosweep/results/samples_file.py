"""samples.parquet: one row a physical run, written the same for the same rows, read with suspicion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velosweep.errors import StorageError
from velosweep.files import replacing
from velosweep.results.parquet_schema import (
    COLUMNS,
    DEFAULTS,
    ROW_GROUP,
    SAMPLES_WRITER,
    arrow_type,
    check_file_schema,
    damaged_parquet,
    schema,
)
from velosweep.values import Sample

if TYPE_CHECKING:
    import pyarrow as pa


def samples_to_table(samples: Iterable[Sample], *, metadata: Mapping[str, str] | None = None) -> pa.Table:
    """Samples as a table in the order given."""
    import pyarrow as pa

    rows = list(samples)
    wanted = schema(metadata)
    columns = [pa.array([getattr(row, field.name) for row in rows], type=field.type) for field in wanted]
    return pa.Table.from_arrays(columns, schema=wanted)


def write_samples(
    path: Path, table: pa.Table, *, metadata: Mapping[str, str] | None = None, durable: bool = True
) -> None:
    """Write atomically. The same rows and `metadata` give the same bytes, however `table` is chunked.

    Raises StorageError.
    """
    groups = (table.slice(begin, ROW_GROUP) for begin in range(0, table.num_rows, ROW_GROUP))
    write_row_groups(path, groups, metadata=metadata, durable=durable)


def write_row_groups(
    path: Path, groups: Iterable[pa.Table], *, metadata: Mapping[str, str] | None = None, durable: bool = True
) -> None:
    """As `write_samples`, from tables of ROW_GROUP rows each (the last may be shorter), one in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = schema(metadata)
    with replacing(path, durable=durable) as beside, pq.ParquetWriter(beside, wanted, **SAMPLES_WRITER) as writer:
        for group in groups:
            # Chunks decide where pages end, and would make the bytes depend on where the rows came from.
            whole = group.select(wanted.names).cast(wanted).combine_chunks()
            writer.write_table(pa.Table.from_batches(whole.to_batches(), schema=wanted), row_group_size=ROW_GROUP)


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
        check_file_schema(path, file.schema_arrow.metadata, file.schema_arrow.names)
        return file.read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged_parquet(path, error) from error


def completed(table: pa.Table, columns: Sequence[str] | None = None) -> pa.Table:
    """`table` with all (or the named) columns of the contract in its order; columns of others stay at the end."""
    import pyarrow as pa

    arrays: list[Any] = []
    names: list[str] = []
    there = set(table.column_names)
    for name in columns if columns is not None else COLUMNS:
        if name in there:
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
    if name in DEFAULTS:
        return pa.array([DEFAULTS[name]] * rows, type=kind)
    return pa.array([None] * rows, type=kind)
