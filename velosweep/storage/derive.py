"""Every file that follows from a sweep's samples, written from them: samples, results, summaries, each job's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from velosweep.model import Comparison, JobRecord, ModeStatistics, Statistics, SweepRecord
from velosweep.storage.chunks import CHUNK_ROWS, Chunk, chunks_of_file, chunks_of_table
from velosweep.storage.dataset import collect
from velosweep.storage.job_samples import write_job_samples
from velosweep.storage.journal_table import Damaged, journal_row_groups
from velosweep.storage.paths import SweepPaths
from velosweep.storage.provenance import read_record
from velosweep.storage.results import writing_results
from velosweep.storage.samples import write_row_groups, write_samples
from velosweep.storage.schema import sweep_metadata
from velosweep.storage.summaries import Summary, summary, to_json, write_job_texts, writing_summaries

if TYPE_CHECKING:
    import pyarrow as pa

# A journal of more is not read into memory as a whole: some 1 kB a sample.
_LARGE_JOURNAL_BYTES = 1024 * CHUNK_ROWS

Compare = Callable[["pa.Table", Mapping[str, JobRecord]], Iterable[Sequence[Comparison]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Derived:
    """What a sweep's samples say. `summaries[i]` is job i's, None where nothing was measured.

    `samples` is None, and comparisons are without their single samples, where there are more than CHUNK_ROWS:
    they are in samples.parquet. `damaged`: what could not be read, in words.
    """

    record: SweepRecord
    samples: pa.Table | None
    sample_count: int
    comparisons: list[Comparison]
    summaries: list[Summary | None]
    damaged: tuple[str, ...]


def derive(root: Path, compare: Compare) -> Derived:
    """Write all derived files of a sweep but the report: the same samples give the same bytes.

    `compare(samples, jobs by id)` gives each job's comparisons, its own (`prompt_id` None) among them.
    Raises StorageError.
    """
    paths = SweepPaths(root)
    source = _write_samples(paths)
    record = source.record
    comparisons: list[Comparison] = []
    summaries: dict[str, Summary] = {}
    small = source.table is not None
    results = writing_results(paths.results, sweep_id=record.sweep_id, metadata=sweep_metadata(record))
    with results as add_results, writing_summaries(paths.summaries) as add_summary:
        for chunk in source.chunks:
            rows = _by_job(compare(chunk.table, {job.id: job for job in chunk.jobs}))
            add_results([row for own in rows.values() for row in own])
            for job in chunk.jobs:
                written = _write_summary(paths, job, rows.get(job.id, ()))
                if written is not None:
                    summaries[job.id], text = written
                    add_summary(text)
            if not record.single:
                write_job_samples(paths, chunk.jobs, chunk.table)
            comparisons.extend(row if small else _without_samples(row) for own in rows.values() for row in own)
    return Derived(
        record=record,
        samples=source.table,
        sample_count=source.count,
        comparisons=comparisons,
        summaries=[summaries.get(job.id) for job in record.jobs],
        damaged=source.damaged,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Source:
    """The samples as they now stand in samples.parquet. `table`: all of them, where they are few."""

    record: SweepRecord
    table: pa.Table | None
    count: int
    chunks: Iterator[Chunk]
    damaged: tuple[str, ...]


def _write_samples(paths: SweepPaths) -> _Source:
    """samples.parquet from the journal, or itself where there is none, and how to go through it."""
    import pyarrow.parquet as pq

    large = _size(paths.journal) > _LARGE_JOURNAL_BYTES
    if not large and not paths.journal.is_file() and paths.samples.is_file():
        large = pq.read_metadata(paths.samples).num_rows > CHUNK_ROWS
    if not large:
        collected = collect(paths.root)
        record = _record(paths, collected.table)
        if collected.table.num_rows <= CHUNK_ROWS:
            write_samples(paths.samples, collected.table, metadata=sweep_metadata(record))
            return _Source(
                record=record,
                table=collected.table,
                count=collected.table.num_rows,
                chunks=chunks_of_table(collected.table, record.jobs),
                damaged=collected.damaged,
            )
    record = _record(paths, None)
    damaged: Damaged = []
    if paths.journal.is_file():
        write_row_groups(paths.samples, journal_row_groups(paths.journal, damaged), metadata=sweep_metadata(record))
    return _Source(
        record=record,
        table=None,
        count=pq.read_metadata(paths.samples).num_rows,
        chunks=chunks_of_file(paths.samples, record.jobs),
        damaged=tuple(f"{paths.journal.name}, line {number}: {why}" for number, why in damaged),
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _record(paths: SweepPaths, table: pa.Table | None) -> SweepRecord:
    """sweep.json; for a few samples whose sweep.json is gone, what they say of it."""
    from velosweep.storage.rebuilt import record_from_samples

    if table is None or paths.record.is_file():
        return read_record(paths.record)
    return record_from_samples(table)


def _by_job(rows: Iterable[Sequence[Comparison]]) -> dict[str, Sequence[Comparison]]:
    return {own[0].job_id: own for own in rows if own}


def _write_summary(paths: SweepPaths, job: JobRecord, rows: Sequence[Comparison]) -> tuple[Summary, str] | None:
    whole = next((row for row in rows if row.prompt_id is None), None)
    if whole is None:
        return None
    prompts = [row for row in rows if row.prompt_id is not None]
    value = summary(whole, iterations=job.iterations)
    text = to_json(value)  # twice the same text: the job's file, and its place in the array
    write_job_texts(paths.job(job), text, prompts, iterations=job.iterations)
    return value, text


def _without_samples(row: Comparison) -> Comparison:
    return replace(row, vanilla=_slim(row.vanilla), speculative=_slim(row.speculative))


def _slim(mode: ModeStatistics | None) -> ModeStatistics | None:
    if mode is None:
        return None

    def slim(statistics: Statistics) -> Statistics:
        return replace(statistics, samples=())

    return ModeStatistics(
        tokens_per_second=slim(mode.tokens_per_second),
        time_to_first_token_ms=slim(mode.time_to_first_token_ms),
        total_time_ms=slim(mode.total_time_ms),
    )
