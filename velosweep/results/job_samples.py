"""<job>/samples.parquet: the rows that a job's summary was computed from, its own and its vanilla series'."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from velosweep.files import make_folder, write_bytes
from velosweep.records import JobRecord
from velosweep.results.job_rows import rows_by_job
from velosweep.results.parquet_schema import STRINGS, file_metadata, job_metadata
from velosweep.results.paths import SweepPaths

if TYPE_CHECKING:
    import pyarrow as pa

# These files are many and small: what costs is a fixed price a column, which no statistics and few dictionaries lower,
# and what the system makes of their bytes, which LZ4 halves for less than it saves (zstd takes more). Without Arrow's
# copy of the schema they are a third smaller; Parquet's own says the same.
_WRITER: dict[str, Any] = {"compression": "lz4", "write_statistics": False, "store_schema": False}
_FEW_ROWS = 64
THREADS = 4
_LONG_TEXTS = ["main_model", "draft_model", "prompt", "output_sha256", "llama_cpp_build"]


def write_job_samples(paths: SweepPaths, jobs: Sequence[JobRecord], table: pa.Table, *, threads: int = THREADS) -> None:
    """Write each job's rows of a `table` in canonical order into its directory, atomically; the same rows give the same
    bytes.

    They are copies, so they are moved into place but not synced one by one. `threads`: at most so many, and no more
    than there are cores. Raises StorageError.
    """

    def write(part: tuple[JobRecord, pa.Table]) -> None:
        job, rows = part
        folder = paths.job(job)
        make_folder(folder.root)
        write_bytes(folder.samples, _parquet(rows, job_metadata(job)), durable=False)

    threads = min(threads, os.cpu_count() or 1)
    if threads < 2:
        for part in rows_by_job(table, jobs):
            write(part)
        return
    # Arrow encodes outside the interpreter's lock.
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(write, rows_by_job(table, jobs)):
            pass


def _parquet(rows: pa.Table, metadata: Mapping[str, str]) -> bytes | memoryview:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = pa.BufferOutputStream()
    dictionaries = _LONG_TEXTS if rows.num_rows < _FEW_ROWS else list(STRINGS)
    options: dict[str, Any] = {**_WRITER, "use_dictionary": dictionaries}
    with pq.ParquetWriter(stream, rows.schema, **options) as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata(file_metadata(metadata))
    return memoryview(stream.getvalue())
