"""Every file that follows from a sweep's samples, written from them: samples, results, summaries, each job's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velosweep.records import SweepRecord
from velosweep.results.chunks import CHUNK_ROWS, Chunk, parts_of_file
from velosweep.results.journal_table import Damaged, journal_row_groups
from velosweep.results.loading import collect
from velosweep.results.parquet_schema import sweep_metadata
from velosweep.results.parts import Compare, Setting, prepare, work_on, work_on_all
from velosweep.results.paths import SweepPaths
from velosweep.results.precomputed import PrecomputedResults, owners, rows_by_owner
from velosweep.results.results_file import results_to_table, write_result_tables, write_results
from velosweep.results.samples_file import write_row_groups, write_samples
from velosweep.results.summaries import Summary, WrittenSummaries
from velosweep.results.summary_array import array_of, array_parts, write_array_part, writing_summaries
from velosweep.results.sweep_record import read_record
from velosweep.results.worker_pool import Crew, crew
from velosweep.statistics.comparison import Comparison

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


Then = Callable[[Derived], None]


def _nothing_more(_: Derived) -> None:
    """What is derived is all that is wanted."""


def derive(
    root: Path, compare: Compare, ready: Sequence[PrecomputedResults] = (), then: Then = _nothing_more
) -> Derived:
    """Write all derived files of a sweep but the report: the same samples give the same bytes.

    `compare(samples, jobs by id)` gives each job's comparisons, its own (`prompt_id` None) among them. What is
    `ready` and still stands is not done again. `then` is called with what is returned, of a large sweep while
    other processes put the last file together. Raises StorageError.
    """
    paths = SweepPaths(root)
    source = _write_samples(paths)
    setting = Setting(root=root, sweep_id=source.record.sweep_id, single=source.record.single, compare=compare)
    if source.table is None:
        return _derive_parts(setting, source, then)
    derived = _derive_all(setting, source, source.table, ready)
    then(derived)
    return derived


def _derive_all(setting: Setting, source: _Source, table: pa.Table, ready: Sequence[PrecomputedResults]) -> Derived:
    """All jobs at once, but for those that are ready."""
    record, paths = source.record, SweepPaths(setting.root)
    parts = [one.done for one in _standing(record, table, ready)]
    settled = {job_id for part in parts for job_id in part.written}
    left = tuple(job for job in record.jobs if job.id not in settled)
    if left or not parts:
        rows = table.filter(_owned_by(table, owners(left))) if parts else table
        parts.append(work_on(setting, Chunk(jobs=left, table=rows)))
    comparisons = [row for part in parts for row in part.comparisons]
    comparisons.sort(key=_place)
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


def _place(row: Comparison) -> float:
    """Jobs stand in the order of their numbers, wherever their rows are."""
    return float("inf") if row.job_num is None else row.job_num


def _standing(record: SweepRecord, table: pa.Table, ready: Sequence[PrecomputedResults]) -> list[PrecomputedResults]:
    jobs, rows = {job.id: job for job in record.jobs}, rows_by_owner(table) if ready else {}
    return [one for one in ready if one.stands(jobs, rows)]


def _owned_by(table: pa.Table, names: Set[str]) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.is_in(table["job_id"], pa.array(sorted(names), pa.string()))


def _derive_parts(setting: Setting, source: _Source, then: Then) -> Derived:
    """Some jobs at a time, side by side, so that any number of samples fits into memory."""
    record, paths = source.record, SweepPaths(setting.root)
    pieces = min(source.count // CHUNK_ROWS, len({job.baseline_id for job in record.jobs}))
    with crew(setting.root, pieces, partial(prepare, setting)) as workers:
        comparisons, sizes = _work_through(setting, record, workers)
        derived = Derived(
            record=record,
            samples=None,
            sample_count=source.count,
            comparisons=comparisons,
            summaries=WrittenSummaries(paths, record.jobs, sizes.keys()),
            damaged=source.damaged,
        )
        array = array_parts([(paths.job(job).summary, sizes[job.id]) for job in record.jobs if job.id in sizes])
        with array_of(paths.summaries, array) as beside:
            put = workers.map(partial(write_array_part, beside), array)
            then(derived)
            for _ in put:
                pass
    return derived


def _work_through(setting: Setting, record: SweepRecord, workers: Crew) -> tuple[list[Comparison], dict[str, int]]:
    """All jobs' comparisons, which are in results.parquet then, and the sizes (see `Done`) of their summaries by id."""
    paths = SweepPaths(setting.root)
    found: list[Comparison] = []
    results: list[pa.Table] = []
    sizes: dict[str, int] = {}
    for done in work_on_all(setting, workers, paths.samples, parts_of_file(paths.samples, record.jobs)):
        found.extend(done.comparisons)
        results.append(results_to_table(done.comparisons, sweep_id=record.sweep_id))
        sizes.update(zip(done.written, done.sizes, strict=True))
    order = sorted(range(len(found)), key=lambda number: _place(found[number]))
    write_result_tables(paths.results, results, order, metadata=sweep_metadata(record))
    return [found[number] for number in order], sizes


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

    large, count = _size(paths.journal) > _LARGE_JOURNAL_BYTES, None
    if not large and not paths.journal.is_file() and paths.samples.is_file():
        count = pq.read_metadata(paths.samples).num_rows
        large = count > CHUNK_ROWS
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
        count=pq.read_metadata(paths.samples).num_rows if count is None else count,
        damaged=tuple(f"{paths.journal.name}, line {number}: {why}" for number, why in damaged),
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _record(paths: SweepPaths, table: pa.Table | None) -> SweepRecord:
    """sweep.json; for a few samples whose sweep.json is gone, what they say of it."""
    from velosweep.results.rebuilt_record import record_from_samples

    if table is None or paths.record.is_file():
        return read_record(paths.record)
    return record_from_samples(table)
