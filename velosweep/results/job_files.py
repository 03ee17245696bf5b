"""What follows from jobs' samples: their comparisons, and the files in each job's own folder.

A large sweep's jobs come in slices, each small enough for memory, which processes work on side by side.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from velosweep.errors import StorageError
from velosweep.files import make_folder, write_bytes
from velosweep.garbage_collection import collection_paused
from velosweep.records import JobRecord
from velosweep.results.absurd_values import refuse_absurd
from velosweep.results.journal_table import numbers, owner_ranges
from velosweep.results.parquet_files import (
    COLUMNS,
    STRINGS,
    file_metadata,
    job_metadata,
    open_parquet,
    reading_parquet,
    samples_schema,
    with_all_columns,
)
from velosweep.results.paths import SweepPaths
from velosweep.results.results_file import METRICS, write_job_summaries
from velosweep.statistics.comparison import Comparison, ModeStatistics
from velosweep.statistics.summarise import iterate_jobs

# These files are many and small: most of the cost is per column, and neither statistics nor dictionaries lower it. LZ4
# halves the bytes for less time than it saves (zstd takes more). Without Arrow's copy of the schema they are a third
# smaller; Parquet's own says the same.
_WRITER: dict[str, Any] = {"compression": "lz4", "write_statistics": False, "store_schema": False}
_FEW_ROWS = 64
_LONG_TEXTS = ["main_model", "draft_model", "prompt", "output_sha256", "llama_cpp_build"]
MOST_THREADS = 4
_TAKEN_ROWS = 16_384

# With more rows memory grows and the processor's cache helps less.
SLICE_ROWS = 100_000
# Starting processes takes a second or two, which fewer slices don't.
FEWEST_SLICES = 4
_MOST_WORKERS = 8
_WORKER_BYTES = 700 << 20

_T = TypeVar("_T")
_Compare = Callable[[Sequence[JobRecord], pa.Table, int], list[Comparison]]
"""What is done with a slice's jobs and rows, by so many threads."""


def write_job_files(
    paths: SweepPaths, jobs: Sequence[JobRecord], table: pa.Table, *, samples: bool, threads: int = MOST_THREADS
) -> list[Comparison]:
    """Compare `jobs` and write summary.json and prompts/*.json of each, and with `samples` its samples.parquet.

    `table`: all rows of these jobs and of their baselines, in canonical order. Raises StorageError.
    """
    comparisons = compare_job_rows(jobs, table)
    by_job: dict[str | None, list[Comparison]] = {}
    for row in comparisons:
        by_job.setdefault(row.job_id, []).append(row)
    for job in jobs:
        if job.id in by_job:
            write_job_summaries(paths.job(job), by_job[job.id], iterations=job.iterations)
    if samples:
        write_job_samples(paths, jobs, table, threads=threads)
    return comparisons


def compare_job_rows(jobs: Sequence[JobRecord], table: pa.Table) -> list[Comparison]:
    """The comparisons of `jobs`, without what competing jobs say of each other."""
    return [row for rows in iterate_jobs(table, jobs={job.id: job for job in jobs}) for row in rows]


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
        stream = pa.BufferOutputStream()
        options = {**_WRITER, "use_dictionary": _LONG_TEXTS if rows.num_rows < _FEW_ROWS else list(STRINGS)}
        with pq.ParquetWriter(stream, rows.schema, **options) as writer:
            writer.write_table(rows)
            writer.add_key_value_metadata(file_metadata(job_metadata(job)))
        write_bytes(folder.samples, memoryview(stream.getvalue()), durable=False)

    parts = _rows_by_job(table, jobs)
    with ThreadPoolExecutor(threads) as pool:  # Arrow encodes outside the interpreter's lock
        for _ in map(write, parts) if threads == 1 else pool.map(write, parts):
            pass


def _rows_by_job(table: pa.Table, jobs: Sequence[JobRecord]) -> Iterator[tuple[JobRecord, pa.Table]]:
    """Each job with its own rows and the vanilla runs of the blocks that it was measured in.

    A job without rows of its own (vanilla only, or failed) has all runs of its baseline. The rows come in one chunk:
    Parquet's pages end where chunks do.
    """
    further = [field for field in table.schema if field.name not in COLUMNS]
    wanted = pa.schema([*samples_schema(), *further]).with_metadata(samples_schema().metadata)
    table = table.select(wanted.names).cast(wanted).combine_chunks()
    # Arrow's calls cost as much for one job as for many.
    for together in _batched(_places_by_job(table, jobs), lambda part: len(part[1]), most=_TAKEN_ROWS):
        begin, rows = 0, table.take(np.concatenate([places for _, places in together]))
        for job, places in together:
            yield job, rows.slice(begin, len(places))
            begin += len(places)


def _places_by_job(table: pa.Table, jobs: Sequence[JobRecord]) -> Iterator[tuple[JobRecord, Any]]:
    """Where each job's rows stand, in their order."""
    block, ranges = numbers(table, "block", missing=0), owner_ranges([table])
    for job in jobs:
        first, count = ranges.get(job.id, (0, 0))
        begin, size = ranges.get(job.baseline_id, (0, 0))
        own, vanilla = np.arange(first, first + count), np.arange(begin, begin + size)
        if count and job.baseline_id != job.id:
            vanilla = vanilla[np.isin(block[vanilla], block[own])]
        yield job, np.union1d(own, vanilla)


def _batched(items: Iterable[_T], size: Callable[[_T], int], *, most: int) -> Iterator[list[_T]]:
    """Consecutive items, as many together as their sizes allow, at least one."""
    together: list[_T] = []
    total = 0
    for item in items:
        total += size(item)
        if together and total > most:
            yield together
            together, total = [], size(item)
        together.append(item)
    if together:
        yield together


def write_in_slices(root: Path, jobs: Sequence[JobRecord], *, samples: bool, check: bool) -> list[Comparison]:
    """As `write_job_files` for all jobs of a sweep whose samples.parquet is in canonical order.

    `check`: for values that no run can have. The comparisons are without their single samples. Raises StorageError for
    such a value, for a damaged file, and where a process was killed; SchemaError for a newer program's file.
    """
    paths = SweepPaths(root)

    def write(members: Sequence[JobRecord], table: pa.Table, threads: int) -> list[Comparison]:
        return write_job_files(paths, members, table, samples=samples, threads=threads)

    return _in_slices(paths.samples, jobs, write, without=METRICS, check=check)


def compare_in_slices(path: Path, jobs: Sequence[JobRecord], *, speeds: bool, check: bool) -> list[Comparison]:
    """As `write_in_slices` for the samples in `path`, but nothing is written. `speeds`: with tokens per second."""
    kept = {"tokens_per_second"} if speeds else set[str]()
    without = [metric for metric in METRICS if metric not in kept]

    def compare(members: Sequence[JobRecord], table: pa.Table, _: int) -> list[Comparison]:
        return compare_job_rows(members, table)

    return _in_slices(path, jobs, compare, without=without, check=check)


def _in_slices(
    path: Path, jobs: Sequence[JobRecord], compare: _Compare, *, without: Sequence[str], check: bool
) -> list[Comparison]:
    """The comparisons of each slice's jobs, `without` the single samples of these metrics."""
    slices = list(_divided(path, jobs))
    workers = most_workers() if len(slices) >= FEWEST_SLICES else 1
    if workers < 2:
        return [row for part in slices for row in _of_slice(path, compare, without, check, *part)]
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import BrokenProcessPool

    work = Parallel(n_jobs=workers, batch_size=1)
    try:  # each core has a worker: threads would only take turns
        done = work(delayed(_of_slice)(path, compare, without, check, *part, threads=1) for part in slices)
    except BrokenProcessPool as error:
        raise StorageError(
            f"A process that worked on {path.parent} was ended from outside: {error}",
            remedy="memory may be short; free some, then run `velosweep collate` on the folder",
        ) from error
    return [row for rows in done for row in rows]


def most_workers() -> int:
    """How many processes the cores and the free memory have room for."""
    import psutil
    from joblib import cpu_count

    return int(min(cpu_count(), psutil.virtual_memory().available // _WORKER_BYTES, _MOST_WORKERS))


def _of_slice(
    path: Path,
    compare: _Compare,
    without: Sequence[str],
    check: bool,
    jobs: Sequence[JobRecord],
    owners: frozenset[str],
    row_groups: list[int],
    *,
    threads: int = MOST_THREADS,
) -> list[Comparison]:
    with reading_parquet(path):
        rows = open_parquet(path).read_row_groups(row_groups)
    own = pc.is_in(rows["job_id"], pa.array(sorted(owners), pa.string()))
    table = with_all_columns(rows if pc.all(own).as_py() else rows.filter(own))  # filtering copies
    if check:
        with reading_parquet(path):  # columns of other types, too
            refuse_absurd(path, table.select(list(COLUMNS)).cast(samples_schema()))
    ids = {job.id for job in jobs}
    with collection_paused():
        comparisons = compare(jobs, table, threads)
        return list(_without_samples((row for row in comparisons if row.job_id in ids), without))


def _divided(path: Path, jobs: Sequence[JobRecord]) -> Iterator[tuple[list[JobRecord], frozenset[str], list[int]]]:
    """The jobs of a samples.parquet in canonical order in slices, with the `job_id`s of the rows that they need and the
    numbers of the row groups with these.

    A slice has SLICE_ROWS rows or one baseline's, whose jobs stay together since they are judged by the noise of all.
    Baselines of a draft model that was measured as a main model come with it: they tell what a draft costs.
    """
    alone: dict[str, set[str]] = {}
    for job in jobs:
        alone.setdefault(job.main_model, set()).add(job.baseline_id)
    with reading_parquet(path):
        file = open_parquet(path)
        groups = range(file.num_row_groups)
        ranges = owner_ranges(file.read_row_group(number, ["job_id"]) for number in groups)
    ends = np.cumsum([file.metadata.row_group(number).num_rows for number in groups])
    for members in _grouped(jobs, ranges):
        needed: set[int] = set()
        owners = _owners(members).union(*(alone.get(job.draft_model or "", ()) for job in members))
        for first, count in {ranges[owner] for owner in owners if owner in ranges}:
            begin, end = np.searchsorted(ends, [first, first + count - 1], side="right").tolist()
            needed.update(range(begin, end + 1))
        yield members, frozenset(owners), sorted(needed)


def _owners(jobs: Iterable[JobRecord]) -> set[str]:
    """The `job_id`s of all rows that these jobs' figures come from."""
    return {owner for job in jobs for owner in (job.id, job.baseline_id)}


def _grouped(jobs: Sequence[JobRecord], ranges: dict[str, tuple[int, int]]) -> Iterator[list[JobRecord]]:
    """Jobs by baseline, in the order of each baseline's first job, as many baselines together as SLICE_ROWS allow."""
    by_baseline: dict[str, list[JobRecord]] = {}
    for job in jobs:
        by_baseline.setdefault(job.baseline_id, []).append(job)

    def rows(members: Sequence[JobRecord]) -> int:
        return sum(ranges[owner][1] for owner in _owners(members) if owner in ranges)

    for together in _batched(by_baseline.values(), rows, most=SLICE_ROWS):
        yield [job for members in together for job in members]


def _without_samples(rows: Iterable[Comparison], without: Sequence[str]) -> Iterator[Comparison]:
    """The rows without single samples of these metrics. A baseline's figures are one value in all of its jobs, and stay
    so."""
    slim: dict[int, tuple[ModeStatistics, ModeStatistics]] = {}  # by id(): the first of each pair keeps that its own
    for row in rows:
        modes: dict[str, ModeStatistics | None] = {"vanilla": row.vanilla, "speculative": row.speculative}
        for name, mode in modes.items():
            if mode is not None and id(mode) not in slim:
                metrics: dict[str, Any] = {metric: replace(getattr(mode, metric), samples=()) for metric in without}
                slim[id(mode)] = mode, replace(mode, **metrics)
            modes[name] = None if mode is None else slim[id(mode)][1]
        yield replace(row, vanilla=modes["vanilla"], speculative=modes["speculative"])
