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

# These files are many and small: what costs is a fixed price a column, which no compression, no statistics and few
# dictionaries lower. Without Arrow's copy of the schema they are a third smaller; Parquet's own says the same.
_WRITER: dict[str, Any] = {"compression": "none", "write_statistics": False, "store_schema": False}
_FEW_ROWS = 64
_LONG_TEXTS = ["main_model", "draft_model", "prompt", "output_sha256", "llama_cpp_build"]
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

    stream = pa.BufferOutputStream()
    dictionaries = _LONG_TEXTS if rows.num_rows < _FEW_ROWS else list(STRINGS)
    options: dict[str, Any] = {**_WRITER, "use_dictionary": dictionaries}
    rows = _as_if_encoded_alone(rows)
    with pq.ParquetWriter(stream, rows.schema, **options) as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata(file_metadata(metadata))
    return memoryview(stream.getvalue())


def rows_by_job(table: pa.Table, jobs: Sequence[JobRecord]) -> Iterator[tuple[JobRecord, pa.Table]]:
    """Each job with its rows: its own, and the vanilla runs of the blocks it was measured in.

    A job without rows of its own (vanilla only, or failed) has all runs of its baseline. In canonical order,
    in at most two chunks, whose edges depend on the rows alone; texts stay dictionary-encoded where `table`'s are.
    """
    import pyarrow as pa

    # Once for all jobs: these calls cost as much for ten rows as for thousands.
    ordered = _conforming(in_canonical_order(table))
    block = numbers(ordered, "block", missing=0)
    ranges = owner_ranges(ordered)
    shared: dict[tuple[str, bytes], pa.Table] = {}
    for job in jobs:
        begin, count = ranges.get(job.id, (0, 0))
        first, size = ranges.get(job.baseline_id, (0, 0))
        own = ordered.slice(begin, count)
        if job.baseline_id == job.id:
            yield job, own
            continue
        blocks = _distinct(block[begin : begin + count])
        key = (job.baseline_id, blocks.tobytes())
        if key not in shared:
            shared[key] = _of_blocks(ordered.slice(first, size), block[first : first + size], blocks)
        parts = [own, shared[key]] if begin < first and count else [shared[key], own]
        yield job, pa.concat_tables([part for part in parts if part.num_rows] or [own])


def _conforming(table: pa.Table) -> pa.Table:
    """The contract's columns and types in one chunk; dictionaries are kept, as texts are dear to write out."""
    import pyarrow as pa

    kind = pa.dictionary(pa.int32(), pa.string())
    encoded = {field.name for field in table.schema if pa.types.is_dictionary(field.type)}
    fields = [field.with_type(kind) if field.name in encoded else field for field in schema()]
    whole = table.cast(pa.schema(fields).with_metadata(schema().metadata)).combine_chunks()
    arrays = [_compacted(column) if pa.types.is_dictionary(column.type) else column for column in whole.columns]
    return pa.Table.from_arrays(arrays, schema=whole.schema)


def _as_if_encoded_alone(rows: pa.Table) -> pa.Table:
    """`rows` with dictionaries such as these rows' own texts make: the same bytes as from texts."""
    import pyarrow as pa

    arrays = [
        _compacted(column) if pa.types.is_dictionary(column.type) and not _is_constant(column) else column
        for column in rows.columns
    ]
    return pa.Table.from_arrays(arrays, schema=rows.schema)


def _is_constant(column: Any) -> bool:
    """Whether the dictionary can't hold a text that no row has, nor in another order than theirs."""
    return not column.null_count and all(len(chunk.dictionary) < 2 for chunk in column.chunks)


def _compacted(column: Any) -> Any:
    """The same texts; the dictionary holds those that occur, as they occur first."""
    import pyarrow as pa

    column = column.combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # no rows
        return column
    used = column.indices.dictionary_encode()
    return pa.DictionaryArray.from_arrays(used.indices, column.dictionary.take(used.dictionary))


def _distinct(block: Any) -> Any:
    import numpy as np

    if len(block) and block[0] == block[-1] and (block == block[0]).all():
        return block[:1]
    return np.unique(block)


def _of_blocks(rows: pa.Table, block: Any, blocks: Any) -> pa.Table:
    """The rows measured in `blocks`; all where none are named or none others are there."""
    import numpy as np
    import pyarrow as pa

    inside = np.isin(block, blocks)
    if not len(blocks) or inside.all():
        return rows
    return rows.filter(pa.array(inside)).combine_chunks()
