"""What follows from some of a sweep's jobs: worked out here, or where it is much, by several processes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from velosweep.records import JobRecord
from velosweep.results.chunks import Chunk, Part, PartReader
from velosweep.results.job_samples import THREADS, write_job_samples
from velosweep.results.parquet_schema import schema
from velosweep.results.paths import SweepPaths
from velosweep.results.summaries import JobSummaries, Summary
from velosweep.results.summary_array import item_size
from velosweep.results.worker_pool import Crew
from velosweep.statistics.comparison import Comparison, ModeStatistics

if TYPE_CHECKING:
    import pyarrow as pa

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

    `written`: ids of the jobs that have a summary.json, in the record's order, and the `summaries` of as many;
    `sizes`: see `item_size`.
    """

    comparisons: list[Comparison]
    written: list[str]
    sizes: list[int]
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
    sizes = [item_size(content) for _, content in summaries]
    return Done(comparisons=comparisons, written=written, sizes=sizes, summaries=summaries)


def work_on_all(setting: Setting, crew: Crew, path: Path, parts: Sequence[Part]) -> Iterator[Done]:
    """As `work_on` for each part of a samples.parquet, in order, without single samples and summaries' values."""
    if crew.alone:
        reader = PartReader(path)
        return (_slim(work_on(setting, reader.chunk(part))) for part in parts)
    return crew.map(partial(_in_worker, setting, path), parts)


def prepare(setting: Setting) -> None:
    """Load what any part will need."""
    for _ in setting.compare(schema().empty_table(), {}):
        pass


@lru_cache(maxsize=1)
def _reader(path: Path) -> PartReader:
    """Neighbouring parts share row groups, which a worker's reader keeps."""
    return PartReader(path)


def _in_worker(setting: Setting, path: Path, part: Part) -> Done:
    """Each core has a worker: threads would only take turns."""
    return _slim(work_on(setting, _reader(path).chunk(part), threads=1))


def _slim(done: Done) -> Done:
    """Without single samples. A baseline's figures are one value in all of its jobs, and stay so."""
    slim: dict[int, ModeStatistics] = {}

    def of(mode: ModeStatistics | None) -> ModeStatistics | None:
        return None if mode is None else slim.get(id(mode)) or slim.setdefault(id(mode), _slim_mode(mode))

    comparisons = [replace(row, vanilla=of(row.vanilla), speculative=of(row.speculative)) for row in done.comparisons]
    return replace(done, comparisons=comparisons, summaries=[])


def _slim_mode(mode: ModeStatistics) -> ModeStatistics:
    return ModeStatistics(
        tokens_per_second=replace(mode.tokens_per_second, samples=()),
        time_to_first_token_ms=replace(mode.time_to_first_token_ms, samples=()),
        total_time_ms=replace(mode.total_time_ms, samples=()),
    )
