"""What follows from some jobs' samples: their comparisons, and the files in each job's own folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from velosweep.files import make_folder, write_bytes
from velosweep.records import JobRecord
from velosweep.results.parquet_schema import STRINGS, file_metadata, job_metadata, schema
from velosweep.results.paths import SweepPaths
from velosweep.results.row_order import numbers, owner_ranges
from velosweep.results.summaries import write_job_summaries
from velosweep.statistics.comparison import Comparison

if TYPE_CHECKING:
    import pyarrow as pa

# These files are many and small: most of the cost is per column, and neither statistics nor dictionaries lower it. LZ4
# halves the bytes for less time than it saves (zstd takes more). Without Arrow's copy of the schema they are a third
# smaller; Parquet's own says the same.
_WRITER: dict[str, Any] = {"compression": "lz4", "write_statistics": False, "store_schema": False}
_FEW_ROWS = 64
_LONG_TEXTS = ["main_model", "draft_model", "prompt", "output_sha256", "llama_cpp_build"]
MOST_THREADS = 4


def write_job_files(
    paths: SweepPaths, jobs: Sequence[JobRecord], table: pa.Table, *, samples: bool, threads: int = MOST_THREADS
) -> list[Comparison]:
    """Compare `jobs` and write summary.json and prompts/*.json of each, and with `samples` its samples.parquet.

    `table`: all rows of these jobs and of their baselines, in canonical order. Raises StorageError.
    """
    from velosweep.statistics.summarise import iterate_jobs

    by_job = {rows[0].job_id: rows for rows in iterate_jobs(table, jobs={job.id: job for job in jobs}) if rows}
    for job in jobs:
        if job.id in by_job:
            write_job_summaries(paths.job(job), by_job[job.id], iterations=job.iterations)
    if samples:
        write_job_samples(paths, jobs, table, threads=threads)
    return [row for rows in by_job.values() for row in rows]


def write_job_samples(
    paths: SweepPaths, jobs: Sequence[JobRecord], table: pa.Table, *, threads: int = MOST_THREADS
) -> None:
    """Write each job's rows of a `table` in canonical order into its directory; the same rows give the same bytes.

    They are copies, so they are moved into place but not synced one by one. Raises StorageError.
    """

    def write(part: tuple[JobRecord, pa.Table]) -> None:
        job, rows = part
        folder = paths.job(job)
        make_folder(folder.root)
        write_bytes(folder.samples, _parquet(rows, job), durable=False)

    parts = _rows_by_job(table, jobs)
    with ThreadPoolExecutor(min(threads, os.cpu_count() or 1)) as pool:  # Arrow encodes outside the interpreter's lock
        for _ in map(write, parts) if threads == 1 else pool.map(write, parts):
            pass


def _rows_by_job(table: pa.Table, jobs: Sequence[JobRecord]) -> Iterator[tuple[JobRecord, pa.Table]]:
    """Each job with its own rows and the vanilla runs of the blocks that it was measured in.

    A job without rows of its own (vanilla only, or failed) has all runs of its baseline. The rows come in at most two
    chunks, whose edges depend on the rows alone: Parquet's pages end where chunks do.
    """
    import numpy as np
    import pyarrow as pa

    table = table.select(schema().names).cast(schema()).combine_chunks()
    block, ranges = numbers(table, "block", missing=0), owner_ranges(table)
    baselines: dict[tuple[str, frozenset[int]], pa.Table] = {}
    for job in jobs:
        first, count = ranges.get(job.id, (0, 0))
        own = table.slice(first, count)
        if job.baseline_id == job.id:
            yield job, own
            continue
        begin, size = ranges.get(job.baseline_id, (0, 0))
        blocks = frozenset(block[first : first + count].tolist())
        key = (job.baseline_id, blocks)
        if key not in baselines:
            inside = np.isin(block[begin : begin + size], list(blocks))
            vanilla = table.slice(begin, size)
            baselines[key] = vanilla if inside.all() or not count else vanilla.filter(pa.array(inside)).combine_chunks()
        parts = [own, baselines[key]] if first < begin else [baselines[key], own]
        yield job, pa.concat_tables([part for part in parts if part.num_rows] or [own])


def _parquet(rows: pa.Table, job: JobRecord) -> memoryview:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = pa.BufferOutputStream()
    dictionaries = _LONG_TEXTS if rows.num_rows < _FEW_ROWS else list(STRINGS)
    options: dict[str, Any] = {**_WRITER, "use_dictionary": dictionaries}
    with pq.ParquetWriter(stream, rows.schema, **options) as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata(file_metadata(job_metadata(job)))
    return memoryview(stream.getvalue())
