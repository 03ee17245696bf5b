"""A large sweep's jobs in slices, each small enough for memory, which processes work on side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velosweep.errors import StorageError
from velosweep.garbage_collection import collection_paused
from velosweep.records import JobRecord
from velosweep.results.job_files import MOST_THREADS, write_job_files
from velosweep.results.parquet_schema import COLUMNS, reading_parquet
from velosweep.results.paths import SweepPaths
from velosweep.results.row_order import owner_ranges
from velosweep.results.samples_file import completed, open_parquet
from velosweep.statistics.comparison import Comparison, ModeStatistics

if TYPE_CHECKING:
    import pyarrow as pa

# With more rows memory grows and the processor's cache helps less.
SLICE_ROWS = 100_000
# Starting processes takes a second or two, which fewer slices don't.
_FEWEST_SLICES = 4
_MOST_WORKERS = 8
_WORKER_BYTES = 700 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """Jobs to be worked on together, and the row groups of samples.parquet that hold their rows."""

    jobs: tuple[JobRecord, ...]
    row_groups: tuple[int, ...]


def write_in_slices(root: Path, jobs: Sequence[JobRecord], *, samples: bool) -> list[Comparison]:
    """As `write_job_files` for all jobs of a sweep whose samples.parquet is in canonical order.

    The comparisons are without their single samples. Raises StorageError for a damaged file, and where a process was
    killed; SchemaError for a newer program's file.
    """
    slices = divide(SweepPaths(root).samples, jobs)
    workers = _workers(len(slices))
    if workers < 2:
        return [row for part in slices for row in _write(root, part, samples=samples)]
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import BrokenProcessPool

    work = Parallel(n_jobs=workers, batch_size=1)
    try:
        done = work(delayed(_write_in_worker)(root, part, samples=samples) for part in slices)
    except BrokenProcessPool as error:
        raise StorageError(
            f"A process that worked on {root} was ended from outside: {error}",
            remedy="memory may be short; free some, then run `velosweep collate` on the folder",
        ) from error
    return [row for rows in done for row in rows]


def _workers(slices: int) -> int:
    if slices < _FEWEST_SLICES:
        return 1
    import psutil
    from joblib import cpu_count

    fitting = psutil.virtual_memory().available // _WORKER_BYTES
    return int(min(slices, cpu_count(), fitting, _MOST_WORKERS))


def _write_in_worker(root: Path, part: Slice, *, samples: bool) -> list[Comparison]:
    """Each core has a worker: threads would only take turns."""
    with collection_paused():
        return _write(root, part, samples=samples, threads=1)


def _write(root: Path, part: Slice, *, samples: bool, threads: int = MOST_THREADS) -> list[Comparison]:
    paths = SweepPaths(root)
    table = read_slice(paths.samples, part)
    return list(_without_samples(write_job_files(paths, part.jobs, table, samples=samples, threads=threads)))


def divide(path: Path, jobs: Sequence[JobRecord]) -> list[Slice]:
    """The jobs of a samples.parquet in canonical order, in slices of SLICE_ROWS rows or one baseline's.

    The jobs of one baseline stay together, since they share cost models. Raises as `write_in_slices`.
    """
    import numpy as np

    with reading_parquet(path):
        file = open_parquet(path)
        ranges = owner_ranges(file.read(["job_id"]))
    ends = np.cumsum([file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)])
    slices = []
    for members in _grouped(jobs, ranges):
        groups: set[int] = set()
        for first, count in {ranges[owner] for owner in _owners(members) if owner in ranges}:
            begin, end = np.searchsorted(ends, [first, first + count - 1], side="right").tolist()
            groups.update(range(begin, end + 1))
        slices.append(Slice(jobs=tuple(members), row_groups=tuple(sorted(groups))))
    return slices


def read_slice(path: Path, part: Slice) -> pa.Table:
    """All rows of a slice's jobs and their baselines, in canonical order. Raises as `write_in_slices`."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    with reading_parquet(path):
        rows = open_parquet(path).read_row_groups(list(part.row_groups))
    own = pc.is_in(rows["job_id"], pa.array(sorted(_owners(part.jobs)), pa.string())).to_numpy()
    places = np.flatnonzero(own)
    if len(places) and len(places) == places[-1] + 1 - places[0]:
        rows = rows.slice(places[0], len(places))  # unlike filtering, this copies nothing
    else:
        rows = rows.filter(pa.array(own))
    return completed(rows).select(list(COLUMNS))


def _owners(jobs: Iterable[JobRecord]) -> set[str]:
    """The `job_id`s of all rows that these jobs' figures come from."""
    return {owner for job in jobs for owner in (job.id, job.baseline_id)}


def _grouped(jobs: Sequence[JobRecord], ranges: dict[str, tuple[int, int]]) -> Iterator[list[JobRecord]]:
    """Jobs by baseline, in the order of each baseline's first job, as many baselines together as SLICE_ROWS allow."""
    by_baseline: dict[str, list[JobRecord]] = {}
    for job in jobs:
        by_baseline.setdefault(job.baseline_id, []).append(job)
    together: list[JobRecord] = []
    rows = 0
    for members in by_baseline.values():
        more = sum(ranges.get(owner, (0, 0))[1] for owner in _owners(members))
        if together and rows + more > SLICE_ROWS:
            yield together
            together, rows = [], 0
        together += members
        rows += more
    if together:
        yield together


def _without_samples(rows: Iterable[Comparison]) -> Iterator[Comparison]:
    """The rows without single samples. A baseline's figures are one value in all of its jobs, and stay so."""
    slim: dict[int, tuple[ModeStatistics, ModeStatistics]] = {}

    def of(mode: ModeStatistics | None) -> ModeStatistics | None:
        if mode is None:
            return None
        if id(mode) not in slim:  # kept beside it, so that its number stays its own
            metrics: dict[str, Any] = {
                name: replace(getattr(mode, name), samples=())
                for name in ("tokens_per_second", "time_to_first_token_ms", "total_time_ms")
            }
            slim[id(mode)] = mode, ModeStatistics(**metrics)
        return slim[id(mode)][1]

    for row in rows:
        yield replace(row, vanilla=of(row.vanilla), speculative=of(row.speculative))
