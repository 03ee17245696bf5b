"""<job>/samples.parquet: the rows that a job's summary was computed from, its own and its vanilla series'."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from velosweep.model import JobRecord
from velosweep.storage.atomic import make_folder, write_bytes
from velosweep.storage.ordering import in_canonical_order, numbers, owner_ranges
from velosweep.storage.paths import SweepPaths
from velosweep.storage.schema import STRINGS, file_metadata, job_metadata, schema

if TYPE_CHECKING:
    import pyarrow as pa

# These files are many and small: what costs is a fixed price a column, which no compression and no statistics
# lower. Without Arrow's copy of the schema they are a third smaller; Parquet's own says the same.
_WRITER: dict[str, Any] = {
    "compression": "none",
    "use_dictionary": list(STRINGS),
    "write_statistics": False,
    "store_schema": False,
}
_THREADS = 4


def write_job_samples(paths: SweepPaths, jobs: Sequence[JobRecord], table: pa.Table) -> None:
    """Write each job's rows into its directory, atomically; the same rows give the same bytes.

    They are copies of rows of `table`, so they are moved into place but not synced one by one.
    Raises StorageError.
    """

    def write(part: tuple[JobRecord, pa.Table]) -> None:
        job, rows = part
        folder = paths.job(job)
        make_folder(folder.root)
        write_bytes(folder.samples, _parquet(rows, job_metadata(job)), durable=False)

    # Arrow encodes outside the interpreter's lock.
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        for _ in pool.map(write, rows_by_job(table, jobs)):
            pass


def _parquet(rows: pa.Table, metadata: Mapping[str, str]) -> bytes | memoryview:
    import pyarrow as pa
    import pyarrow.parquet as pq

    plain = rows if rows.schema.equals(schema()) else rows.cast(schema())
    stream = pa.BufferOutputStream()
    with pq.ParquetWriter(stream, plain.schema, **_WRITER) as writer:
        writer.write_table(plain.combine_chunks())
        writer.add_key_value_metadata(file_metadata(metadata))
    return memoryview(stream.getvalue())


def rows_by_job(table: pa.Table, jobs: Sequence[JobRecord]) -> Iterator[tuple[JobRecord, pa.Table]]:
    """Each job with its rows: its own, and the vanilla runs of the blocks it was measured in.

    A job without rows of its own (vanilla only, or failed) has all runs of its baseline. In canonical order.
    """
    import pyarrow as pa

    ordered = in_canonical_order(table)
    ranges = owner_ranges(ordered)
    shared: dict[tuple[str, tuple[int, ...]], pa.Table] = {}
    for job in jobs:
        own = ordered.slice(*ranges.get(job.id, (0, 0)))
        blocks = _blocks(own)
        key = (job.baseline_id, blocks)
        if key not in shared:
            shared[key] = _of_blocks(ordered.slice(*ranges.get(job.baseline_id, (0, 0))), blocks)
        parts = [shared[key], own]
        if ranges.get(job.baseline_id, (0, 0)) > ranges.get(job.id, (0, 0)) and own.num_rows:
            parts.reverse()
        yield job, pa.concat_tables(parts if job.id != job.baseline_id else [own])


def _blocks(rows: pa.Table) -> tuple[int, ...]:
    import numpy as np

    return tuple(np.unique(numbers(rows, "block", missing=0)).tolist())


def _of_blocks(rows: pa.Table, blocks: tuple[int, ...]) -> pa.Table:
    """The rows measured in `blocks`; all where none are named or none others are there."""
    import numpy as np
    import pyarrow as pa

    if not blocks or _blocks(rows) == blocks:
        return rows
    return rows.filter(pa.array(np.isin(numbers(rows, "block", missing=0), blocks)))
