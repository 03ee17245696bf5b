"""Every file that follows from a sweep's samples but the report: samples, results, summaries, each job's own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pyarrow as pa

from velosweep.files import make_folder, read_bytes, write_bytes
from velosweep.records import SweepRecord
from velosweep.results.job_files import compare_in_slices, compare_job_rows, write_in_slices, write_job_files
from velosweep.results.journal_table import Damaged, damage_in_words, journal_columns, journal_row_groups
from velosweep.results.loading import RUN, load_sweep_samples, lost_rows
from velosweep.results.parquet_files import (
    read_parquet,
    row_count,
    samples_schema,
    sweep_metadata,
    write_row_groups,
    write_samples,
)
from velosweep.results.paths import SAMPLES, SweepPaths
from velosweep.results.results_file import write_results, write_summary_array
from velosweep.results.setting_columns import sample_columns, stored_columns, with_setting_columns
from velosweep.results.sweep_record import Summary, read_record, record_from_samples
from velosweep.statistics.best_of_several import with_best_marked
from velosweep.statistics.builds import with_builds_compared
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.failed_jobs import failed_jobs

# A sweep of more samples, if its sweep.json is there, is worked on in slices and not held in memory as a whole.
MOST_IN_MEMORY = 250_000
# Lines take some 1 kB a sample; a larger journal is not read as a whole to count them.
LARGE_JOURNAL_BYTES = 1024 * MOST_IN_MEMORY


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepResults:
    """What a sweep's samples say. `damaged`: what could not be read, in words.

    Where there are more than MOST_IN_MEMORY and a sweep.json, `samples` is None and comparisons are without their
    single samples.
    """

    root: Path
    record: SweepRecord
    samples: pa.Table | None
    sample_count: int
    comparisons: list[Comparison]
    damaged: tuple[str, ...]

    def summaries(self) -> Iterator[Summary | None]:
        """Each job's summary.json in the record's order, None where nothing was measured. Raises StorageError.

        They are read one at a time: all of a large sweep need much memory.
        """
        return (orjson.loads(read_bytes(file)) if file else None for file in self.summary_files())

    def summary_files(self) -> Iterator[Path | None]:
        """Each job's summary.json in the record's order, None where nothing was measured."""
        paths, measured = SweepPaths(self.root), {row.job_id for row in self.comparisons if row.prompt_id is None}
        return (paths.job(job).summary if job.id in measured else None for job in self.record.jobs)


def write_derived_files(root: Path) -> SweepResults:
    """Write all derived files of a sweep but the report: the same samples give the same bytes.

    Raises StorageError.
    """
    paths = SweepPaths(root)
    stored, _ = _loaded(paths, lambda: paths.samples)
    record, jobs = stored.record, stored.record.jobs
    if stored.samples is not None:
        write_samples(paths.samples, stored.samples, metadata=sweep_metadata(record))
        comparisons = write_job_files(paths, jobs, stored.samples, samples=not record.single)
    else:
        comparisons = write_in_slices(root, jobs, samples=not record.single, check=not paths.journal.is_file())
    comparisons = _completed(comparisons, record, stored.samples)
    results = replace(stored, comparisons=comparisons)
    write_results(
        paths.results,
        sorted([*comparisons, *failed_jobs(comparisons, record)], key=_by_job_num),
        sweep_id=record.sweep_id,
        metadata=sweep_metadata(record),
        states={job.id: job.state for job in jobs},
    )
    write_summary_array(paths.summaries, (file for file in results.summary_files() if file), durable=False)
    _write_outputs(results)
    return results


def _by_job_num(row: Comparison) -> float:
    return float("inf") if row.job_num is None else row.job_num


def analyse(root: Path, *, speeds: bool = False) -> SweepResults:
    """What `write_derived_files` returns, but nothing is written. Raises StorageError.

    `speeds`: comparisons of a large sweep keep each run's tokens per second.
    """
    paths = SweepPaths(root)
    with ExitStack() as held:
        stored, file = _loaded(
            paths, lambda: Path(held.enter_context(TemporaryDirectory(prefix="velosweep-")), SAMPLES)
        )
        if stored.samples is not None:
            comparisons = compare_job_rows(stored.record.jobs, stored.samples)
        else:
            comparisons = compare_in_slices(file, stored.record.jobs, speeds=speeds, check=not paths.journal.is_file())
    return replace(stored, comparisons=_completed(comparisons, stored.record, stored.samples))


def _completed(comparisons: list[Comparison], record: SweepRecord, samples: pa.Table | None) -> list[Comparison]:
    """By job number, and with what jobs say of each other; of builds where the samples are in memory."""
    comparisons = with_best_marked(sorted(comparisons, key=_by_job_num))
    if samples is None:
        return comparisons
    return with_builds_compared(comparisons, record.baselines, samples)


def _write_outputs(derived: SweepResults) -> None:
    """The extra copies that `output=` asks for: a job's summary; several jobs' with one name as an array."""
    wanted: dict[str, list[Path]] = {}
    asked = sum(bool(job.output) for job in derived.record.jobs)
    for job, file in zip(derived.record.jobs, derived.summary_files(), strict=True) if asked else ():
        if job.output and file:
            wanted.setdefault(job.output, []).append(file)
    for output, files in wanted.items():
        make_folder(Path(output).parent)
        if asked == 1:
            write_bytes(Path(output), read_bytes(*files))
        else:
            write_summary_array(Path(output), files)


def _loaded(paths: SweepPaths, new: Callable[[], Path]) -> tuple[SweepResults, Path]:
    """A sweep's samples, without comparisons as yet; and the file with them, which is a `new` one for many of a
    journal."""
    described, file = paths.record.is_file(), paths.samples
    # Without sweep.json it takes all samples to tell what was asked for and what is vanilla.
    if described and _many(paths):
        record, damaged = read_record(paths.record), tuple[str, ...]()
        if paths.journal.is_file():
            file = new()
            damaged = _copy_journal(paths, record, file)
        count = row_count(file)
        table = None if count > MOST_IN_MEMORY else read_parquet(file)
    else:
        table, damaged = load_sweep_samples(paths.root)
        record, table = _described(paths, table)
        count = table.num_rows
        if described and count > MOST_IN_MEMORY:
            file = new()
            write_samples(file, table, metadata=sweep_metadata(record))
            table = None
    return SweepResults(
        root=paths.root, record=record, samples=table, sample_count=count, comparisons=[], damaged=damaged
    ), file


def _many(paths: SweepPaths) -> bool:
    """Whether the samples are so many that they are worked on in slices."""
    if paths.journal.is_file():
        return paths.journal.stat().st_size > LARGE_JOURNAL_BYTES
    return paths.samples.is_file() and row_count(paths.samples) > MOST_IN_MEMORY


def _copy_journal(paths: SweepPaths, record: SweepRecord, copy: Path) -> tuple[str, ...]:
    """Write a large journal as Parquet, with what only samples.parquet still has; returns what is damaged."""
    columns, lines, notes = sample_columns(record.jobs), Damaged(), list[str]()

    def lost() -> pa.Table:
        if not lines or not paths.samples.is_file():
            return samples_schema().empty_table()
        rows, note = lost_rows(journal_columns(paths.journal, RUN), paths.samples)
        notes.append(note)
        return rows

    write_row_groups(
        copy,
        (with_setting_columns(rows, columns) for rows in journal_row_groups(paths.journal, lines, lost)),
        metadata=sweep_metadata(record),
        further={column.name: column.kind for column in columns},
    )
    return (*damage_in_words(lines), *notes)


def _described(paths: SweepPaths, table: pa.Table) -> tuple[SweepRecord, pa.Table]:
    """sweep.json (where it is gone, what the samples say of it), and the samples with what the sweep varies."""
    if paths.record.is_file():
        record = read_record(paths.record)
        return record, with_setting_columns(table, sample_columns(record.jobs))
    columns = stored_columns(paths.samples)
    table = with_setting_columns(table, columns)
    return record_from_samples(table, {column.name: column.key for column in columns}), table
