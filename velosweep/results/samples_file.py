"""samples.parquet: one row a physical run; the same rows give the same bytes, and damage is noticed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from velosweep.files import replacing
from velosweep.results.parquet_schema import (
    COLUMNS,
    DEFAULTS,
    ROW_GROUP,
    SAMPLES_WRITER,
    arrow_type,
    check_file_schema,
    reading_parquet,
    schema,
)

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


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


def read_samples(path: Path) -> pa.Table:
    """All rows, columns as `completed`. Raises StorageError for what is no Parquet file of ours, SchemaError for a
    newer one."""
    return completed(read_parquet(path))


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

    for name, kind in COLUMNS.items():
        if name not in table.column_names:
            values = [DEFAULTS.get(name)] * table.num_rows
            table = table.append_column(name, pa.array(values, type=arrow_type(kind)))
    return table.select(list(COLUMNS))
