"""What follows from some of a sweep's jobs: worked out here, or where it is much, by several processes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from velosweep.errors import StorageError
from velosweep.model import Comparison, JobRecord, ModeStatistics, Statistics
from velosweep.storage.chunks import Chunk, Part, PartReader
from velosweep.storage.job_samples import THREADS, write_job_samples
from velosweep.storage.paths import SweepPaths
from velosweep.storage.summaries import JobSummaries, Summary

if TYPE_CHECKING:
    import pyarrow as pa

# Starting processes costs a second or two, which fewer parts don't take.
_FEWEST_PARTS = 3
_MOST_WORKERS = 8
_WORKER_BYTES = 700 << 20

Compare = Callable[["pa.Table", Mapping[str, JobRecord]], Iterable[Sequence[Comparison]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What is the same for all parts of a sweep. `single`: the sweep is one job, which needs no copy of its rows."""

    root: Path
    sweep_id: str
    single: bool
    compare: Compare


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """What a part came to, its jobs' own files being written.

    `written`: ids of the jobs that have a summary.json, in the record's order, and the `summaries` of as many.
    """

    comparisons: list[Comparison]
    written: list[str]
    summaries: list[tuple[Summary, bytes]]


def work_on(setting: Setting, chunk: Chunk, *, threads: int = THREADS) -> Done:
    """Compare a chunk's jobs and write the files of each, by at most so many `threads`."""
    paths = SweepPaths(setting.root)
    found = setting.compare(chunk.table, {job.id: job for job in chunk.jobs})
    by_job = {rows[0].job_id: rows for rows in found if rows}
    comparisons = [row for rows in by_job.values() for row in rows]
    written, summaries, writer = [], [], JobSummaries()
    for job in chunk.jobs:
        rows = by_job.get(job.id, ())
        whole = next((row for row in rows if row.prompt_id is None), None)
        if whole is None:
            continue
        prompts = [row for row in rows if row.prompt_id is not None]
        summaries.append(writer.write(paths.job(job), whole, prompts, iterations=job.iterations))
        written.append(job.id)
    if not setting.single:
        write_job_samples(paths, chunk.jobs, chunk.table, threads=threads)
    return Done(comparisons=comparisons, written=written, summaries=summaries)


def work_on_all(setting: Setting, path: Path, parts: Sequence[Part]) -> Iterator[Done]:
    """As `work_on` for each part of a samples.parquet, in order, without single samples and summaries' values."""
    workers = _workers(parts)
    if workers < 2:
        reader = PartReader(path)
        for part in parts:
            yield _slim(work_on(setting, reader.chunk(part)))
        return
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import BrokenProcessPool

    # Unlike multiprocessing's, these processes don't run the main module again, which may be anybody's.
    pool = ProcessPoolExecutor(workers)
    whole = False
    try:
        yield from pool.map(partial(_in_worker, setting, path), parts)
        whole = True
    except BrokenProcessPool as error:
        raise StorageError(
            f"A process that worked on {setting.root} was ended from outside: {error}",
            remedy="memory may be short; free some, then run `velosweep collate` on the folder",
        ) from error
    finally:  # where something failed, the others need not end what they are at
        pool.shutdown(wait=True, kill_workers=not whole)


def _workers(parts: Sequence[Part]) -> int:
    if len(parts) < _FEWEST_PARTS:
        return 1
    import psutil
    from joblib import cpu_count

    fitting = psutil.virtual_memory().available // _WORKER_BYTES
    return int(min(len(parts), cpu_count(), fitting, _MOST_WORKERS))


@lru_cache(maxsize=1)
def _reader(path: Path) -> PartReader:
    """Neighbouring parts share row groups, which a worker's reader keeps."""
    return PartReader(path)


def _in_worker(setting: Setting, path: Path, part: Part) -> Done:
    """Each core has a worker: threads would only take turns."""
    return _slim(work_on(setting, _reader(path).chunk(part), threads=1))


def _slim(done: Done) -> Done:
    return replace(done, comparisons=[_without_samples(row) for row in done.comparisons], summaries=[])


def _without_samples(row: Comparison) -> Comparison:
    return replace(row, vanilla=_slim_mode(row.vanilla), speculative=_slim_mode(row.speculative))


def _slim_mode(mode: ModeStatistics | None) -> ModeStatistics | None:
    if mode is None:
        return None

    def slim(whole: Statistics) -> Statistics:
        return Statistics(mean=whole.mean, stddev=whole.stddev, min=whole.min, max=whole.max, samples=())

    return ModeStatistics(
        tokens_per_second=slim(mode.tokens_per_second),
        time_to_first_token_ms=slim(mode.time_to_first_token_ms),
        total_time_ms=slim(mode.total_time_ms),
    )
