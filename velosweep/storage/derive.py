"""Every file that follows from a sweep's samples, written from them: samples, results, summaries, each job's own."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velosweep.model import Comparison, SweepRecord
from velosweep.storage.atomic import read_bytes
from velosweep.storage.chunks import CHUNK_ROWS, Chunk, parts_of_file
from velosweep.storage.dataset import collect
from velosweep.storage.journal_table import Damaged, journal_row_groups
from velosweep.storage.parts import Compare, Setting, work_on, work_on_all
from velosweep.storage.paths import SweepPaths
from velosweep.storage.provenance import read_record
from velosweep.storage.ready import Ready, owners, rows_by_owner
from velosweep.storage.results import results_to_table, write_results, writing_result_tables
from velosweep.storage.samples import write_row_groups, write_samples
from velosweep.storage.schema import sweep_metadata
from velosweep.storage.summaries import Summary, WrittenSummaries, writing_summaries

if TYPE_CHECKING:
    import pyarrow as pa

# A journal of more is not read into memory as a whole: some 1 kB a sample.
_LARGE_JOURNAL_BYTES = 1024 * CHUNK_ROWS


@dataclass(frozen=True, kw_only=True, slots=True)
class Derived:
    """What a sweep's samples say. `summaries[i]` is job i's, None where nothing was measured.

    `samples` is None, comparisons are without their single samples, and summaries are read from their files when
    asked for, where there are more than CHUNK_ROWS. `damaged`: what could not be read, in words.
    """

    record: SweepRecord
    samples: pa.Table | None
    sample_count: int
    comparisons: list[Comparison]
    summaries: Sequence[Summary | None]
    damaged: tuple[str, ...]


def derive(root: Path, compare: Compare, ready: Sequence[Ready] = ()) -> Derived:
    """Write all derived files of a sweep but the report: the same samples give the same bytes.

    `compare(samples, jobs by id)` gives each job's comparisons, its own (`prompt_id` None) among them. What is
    `ready` and still stands is not done again. Raises StorageError.
    """
    paths = SweepPaths(root)
    source = _write_samples(paths)
    setting = Setting(root=root, sweep_id=source.record.sweep_id, single=source.record.single, compare=compare)
    return _derive_parts(setting, source) if source.table is None else _derive_all(setting, source, source.table, ready)


def _derive_all(setting: Setting, source: _Source, table: pa.Table, ready: Sequence[Ready]) -> Derived:
    """All jobs at once, but for those that are ready."""
    record, paths = source.record, SweepPaths(setting.root)
    parts = [one.done for one in _standing(record, table, ready)]
    settled = {job_id for part in parts for job_id in part.written}
    left = tuple(job for job in record.jobs if job.id not in settled)
    if left or not parts:
        rows = table.filter(_owned_by(table, owners(left))) if parts else table
        parts.append(work_on(setting, Chunk(jobs=left, table=rows)))
    comparisons = [row for part in parts for row in part.comparisons]
    comparisons.sort(key=lambda row: float("inf") if row.job_num is None else row.job_num)
    summaries = {job_id: one for part in parts for job_id, one in zip(part.written, part.summaries, strict=True)}
    write_results(paths.results, comparisons, sweep_id=record.sweep_id, metadata=sweep_metadata(record))
    with writing_summaries(paths.summaries) as add_summary:
        for job in record.jobs:
            if job.id in summaries:
                add_summary(summaries[job.id][1])
    values = [summaries[job.id][0] if job.id in summaries else None for job in record.jobs]
    return Derived(
        record=record,
        samples=table,
        sample_count=source.count,
        comparisons=comparisons,
        summaries=values,
        damaged=source.damaged,
    )


def _standing(record: SweepRecord, table: pa.Table, ready: Sequence[Ready]) -> list[Ready]:
    jobs, rows = {job.id: job for job in record.jobs}, rows_by_owner(table) if ready else {}
    return [one for one in ready if one.stands(jobs, rows)]


def _owned_by(table: pa.Table, names: Set[str]) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.is_in(table["job_id"], pa.array(sorted(names), pa.string()))


def _derive_parts(setting: Setting, source: _Source) -> Derived:
    """Some jobs at a time, side by side, so that any number of samples fits into memory."""
    record, paths = source.record, SweepPaths(setting.root)
    comparisons: list[Comparison] = []
    written: set[str] = set()
    jobs = {job.id: job for job in record.jobs}
    results = writing_result_tables(paths.results, metadata=sweep_metadata(record))
    with results as add_results, writing_summaries(paths.summaries) as add_summary:
        for done in work_on_all(setting, paths.samples, parts_of_file(paths.samples, record.jobs)):
            add_results(results_to_table(done.comparisons, sweep_id=record.sweep_id))
            comparisons.extend(done.comparisons)
            written.update(done.written)
            for job_id in done.written:
                add_summary(read_bytes(paths.job(jobs[job_id]).summary))
    return Derived(
        record=record,
        samples=None,
        sample_count=source.count,
        comparisons=comparisons,
        summaries=WrittenSummaries(paths, record.jobs, written),
        damaged=source.damaged,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Source:
    """The samples as they now stand in samples.parquet. `table`: all of them, where they are few."""

    record: SweepRecord
    table: pa.Table | None
    count: int
    damaged: tuple[str, ...]


def _write_samples(paths: SweepPaths) -> _Source:
    """samples.parquet from the journal, or itself where there is none."""
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
