"""From a sweep's samples to everything that follows from them: results, summaries, report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from velosweep.files import make_folder, write_bytes, write_text
from velosweep.records import JobRecord, SweepRecord
from velosweep.results.derived_files import Derived, derive
from velosweep.results.loading import collect
from velosweep.results.parts import Setting
from velosweep.results.paths import SweepPaths
from velosweep.results.precomputed import PrecomputedResults, ready
from velosweep.results.summaries import Summary, to_json
from velosweep.results.sweep_record import read_record
from velosweep.results.worker_pool import without_collector
from velosweep.statistics.comparison import Comparison
from velosweep.values import Sample

if TYPE_CHECKING:
    import pyarrow as pa


def collate(root: Path, ready: Sequence[PrecomputedResults] = ()) -> Derived:
    """Write every derived file of a sweep from its samples: the same samples give the same bytes.

    `ready`: see `derive`. Raises StorageError.
    """
    with without_collector():
        return derive(root, _compare, ready, partial(_write_the_rest, SweepPaths(root)))


def _write_the_rest(paths: SweepPaths, derived: Derived) -> None:
    _write_outputs(derived)
    _write_report(paths, derived)


def ahead_work(
    root: Path, record: SweepRecord
) -> Callable[[Sequence[JobRecord], Sequence[Sample]], PrecomputedResults]:
    """What writes the files of some jobs of this sweep before its end."""
    return partial(ready, Setting(root=root, sweep_id=record.sweep_id, single=record.single, compare=_compare))


def _compare(samples: pa.Table, jobs: Mapping[str, JobRecord]) -> Iterator[Sequence[Comparison]]:
    from velosweep.statistics.summarise import iterate_jobs

    return iterate_jobs(samples, jobs=jobs)


def _write_report(paths: SweepPaths, derived: Derived) -> None:
    from velosweep.reporting.html import render_report

    record = derived.record
    page = render_report(derived.comparisons, record, derived.samples, show_paths=record.show_paths)
    write_text(paths.report, page)
    if record.plots:
        from velosweep.reporting.plots import main_plots

        for form, content in main_plots(derived.comparisons, record).items():
            write_bytes(paths.report.with_suffix(f".{form}"), content)


def analyse(root: Path) -> Derived:
    """Read a sweep's samples and work out what they say; writes nothing. Raises StorageError."""
    from velosweep.results.rebuilt_record import record_from_samples
    from velosweep.statistics.summarise import compare_jobs

    paths = SweepPaths(root)
    collected = collect(root)
    record = read_record(paths.record) if paths.record.is_file() else record_from_samples(collected.table)
    comparisons = compare_jobs(collected.table, jobs={job.id: job for job in record.jobs})
    return Derived(
        record=record,
        samples=collected.table,
        sample_count=collected.table.num_rows,
        comparisons=comparisons,
        summaries=[],
        damaged=collected.damaged,
    )


def _write_outputs(derived: Derived) -> None:
    """The extra copies that `output=` asks for: a job's summary; several jobs' with one name as an array."""
    wanted: dict[str, list[Summary]] = {}
    asking = [job for job in derived.record.jobs if job.output]
    for number, job in enumerate(derived.record.jobs):
        value = derived.summaries[number] if job.output else None
        if job.output and value is not None:
            wanted.setdefault(job.output, []).append(value)
    for output, values in wanted.items():
        make_folder(Path(output).parent)
        write_text(Path(output), to_json(values[0] if len(asking) == 1 else values) + "\n")
