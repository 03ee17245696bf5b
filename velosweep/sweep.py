"""The whole story of a sweep: prepare, plan, measure, collate, report."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from velosweep.config.settings import Job, RunSettings
from velosweep.errors import Interrupted, StorageError, SweepBroken, VelosweepError
from velosweep.machine.device_locks import lock_devices
from velosweep.measuring.dispatch import MeasuringOutcome, measure, with_outcomes
from velosweep.measuring.interrupts import StopFlag, stop_on_signals
from velosweep.measuring.lane_context import Preload
from velosweep.measuring.opening import OpenedSweep, open_sweep, refuse_unfit_folder, refuse_unwritable_names
from velosweep.measuring.preflight_warnings import hive_folder_warnings
from velosweep.measuring.prepare import prepare
from velosweep.measuring.resuming import plan, plan_as_data
from velosweep.planning.server_groups import ServerGroup
from velosweep.records import SweepRecord
from velosweep.reporting.collation import collate
from velosweep.reporting.console import SILENT, make_console, say, tell_on_stderr
from velosweep.reporting.image_export import require_matplotlib
from velosweep.reporting.plan_text import print_plan, print_start
from velosweep.reporting.progress import ProgressDisplay
from velosweep.reporting.search_words import search_record
from velosweep.reporting.terminal_report import print_end, resume_command
from velosweep.results.journal import Journal, read_journal
from velosweep.results.paths import SweepPaths
from velosweep.results.results_file import write_decisions
from velosweep.results.sweep_record import SweepOutcome, write_record
from velosweep.tuning.search_driver import SearchDriver, search_drivers

if TYPE_CHECKING:
    from rich.console import Console

    from velosweep.results.derived_files import SweepResults


def run_sweep(
    jobs: Sequence[Job],
    *,
    root: Path,
    single: bool,
    command: Sequence[str],
    settings: RunSettings,
    on_line: Callable[[bytes], None] = lambda line: None,
) -> SweepOutcome:
    """Measure all jobs, or what an earlier run of this folder left to measure, and write every result.

    `on_line` is called with each line of the journal once it is on disk; it must not raise or wait.
    Raises our errors for what is refused beforehand, SweepBroken where it had to end early; a failed job is no error.
    """
    if settings.report_plots:
        require_matplotlib()
    if not settings.measures_remotely:
        refuse_unfit_folder(root)
    console = make_console()
    refuse_unwritable_names(jobs, root, command)
    prepared = prepare(jobs, settings, say=partial(say, console))
    prepared = replace(prepared, warnings=(*prepared.warnings, *hive_folder_warnings(root, prepared.jobs)))
    if settings.dry_run:
        print_plan(prepared, plan(prepared), settings, console, command)
        return SweepOutcome(exit_status=0, summaries=(None,) * len(jobs), errors=(None,) * len(jobs))
    stop, tell, paths = StopFlag(), partial(say, console), SweepPaths(root)
    with ExitStack() as locks:  # held until the results are written, so that no other sweep is measured beside that
        with stop_on_signals(stop, announce=tell):
            journal = locks.enter_context(Journal(paths.journal, lock=paths.lock, on_line=on_line))
            opened = open_sweep(root, prepared, settings, command=command, single=single)
            measured = _measure(opened, settings, console, journal, stop, locks, single=single)
        derived = _collate(root, measured)
    print_end(derived, measured, console, verbosity=settings.verbosity if settings.tells_results else SILENT)
    if measured.broken:
        raise _ended_early(measured.broken, root) from measured.broken
    asked = {job.id for job in opened.prepared.jobs}
    outcome = SweepOutcome.of_sweep(derived.record, derived.summaries(), asked=asked, interrupted=measured.interrupted)
    tell_on_stderr(outcome.why, f"; go on with: {resume_command(root)}" if measured.interrupted else "")
    return outcome


def _measure(
    opened: OpenedSweep,
    settings: RunSettings,
    console: "Console",
    journal: Journal,
    stop: StopFlag,
    locks: ExitStack,
    *,
    single: bool,
) -> MeasuringOutcome:
    """Run the lanes, with their devices locked, and record how they ended. `locks` holds the devices' locks."""
    paths, prepared, command = SweepPaths(opened.root), opened.prepared, opened.record.command
    groups = plan(prepared, opened.progress.groups, search=settings.tuner is not None)
    drivers = search_drivers(groups, settings.tuner, read_journal(paths.journal).samples) if settings.tuner else {}
    done = len(opened.progress.done)
    print_start(prepared, groups, settings, console, command=command, single=single, done=done)
    busy = lock_devices(
        [device for lane in prepared.lanes for device in lane.devices],
        on_busy=settings.on_busy,
        sweep=str(opened.root),
        on_wait=partial(say, console),
        should_stop=lambda: stop.requested,
    )
    locks.enter_context(busy)
    write_record(paths.record, opened.record)
    journal.note("plan", blocks=plan_as_data(groups), accepted=list(opened.accepted))
    searches = (lambda: [one for driver in drivers.values() if (one := driver.status())]) if drivers else None
    display = ProgressDisplay(
        prepared.jobs, console=console, verbosity=settings.verbosity, command=command, done=done, searches=searches
    )
    with display as observe:
        measured = measure(
            groups, opened, journal=journal, observe=observe, stop=stop, search_drivers=drivers, preload=Preload()
        )
    return _record_end(opened.record, measured, drivers, paths)


def _record_end(
    record: SweepRecord, measured: MeasuringOutcome, drivers: Mapping[ServerGroup, SearchDriver], paths: SweepPaths
) -> MeasuringOutcome:
    """Write how jobs and searches ended. Where that fails, `broken` says so and the sweep is still collated."""
    answers = [answer for driver in drivers.values() for answer in driver.answers()]
    searches = tuple(search_record(answer, record.command) for answer in answers)
    advised = tuple(dict.fromkeys(search.job_id for search in searches if search.job_id))
    try:
        if drivers:
            write_decisions(paths.tuner, [line for driver in drivers.values() for line in driver.decisions()])
        write_record(paths.record, replace(with_outcomes(record, measured), searches=searches, advised=advised))
    except StorageError as error:
        return replace(measured, broken=measured.broken or error)
    return measured


def _collate(root: Path, measured: MeasuringOutcome) -> "SweepResults":
    try:
        return collate(root)
    except StorageError as error:
        raise _ended_early(measured.broken or error, root) from error
    except KeyboardInterrupt:
        remedy = f"go on with: {resume_command(root)}"
        raise Interrupted("Interrupted while writing results; all samples are safe", remedy=remedy) from None


def _ended_early(cause: Exception, root: Path) -> Exception:
    """The error to raise for a sweep that `cause` ended; a bug is returned as it is."""
    if not isinstance(cause, VelosweepError):
        return cause
    steps = (cause.remedy, f"then go on with: {resume_command(root)}")
    return SweepBroken(f"The sweep ended early: {cause.message}", remedy="; ".join(filter(None, steps)))
