"""The whole story: refuse what can't run, plan, measure, store, analyse, report."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from velosweep.collation import collate
from velosweep.config.settings import Job, RunSettings, Sweep, TunerSettings
from velosweep.errors import ExitStatus, Interrupted, StorageError, SweepBroken, VelosweepError
from velosweep.machine.device_locks import hold
from velosweep.measuring.dispatch import Measured, measure
from velosweep.measuring.events import Observer
from velosweep.measuring.interrupts import StopFlag, stop_on_signals
from velosweep.measuring.preload import Preload
from velosweep.measuring.prepare import Prepared, prepare
from velosweep.measuring.resuming import (
    Progress,
    adopt,
    clear_leftovers,
    earlier_progress,
    on_earlier_terms,
    plan_as_data,
    plan_with_earlier,
)
from velosweep.planning.server_groups import ServerGroup, count_measurements, plan_groups
from velosweep.records import JobRecord, SearchRecord, SweepRecord, TunerDecision
from velosweep.reporting.console import make_console, say
from velosweep.reporting.plan_text import print_configuration, print_plan
from velosweep.reporting.progress import make_observer
from velosweep.reporting.search_words import search_record
from velosweep.reporting.terminal_report import print_results
from velosweep.results.decisions_file import write_decisions
from velosweep.results.derived_files import Derived
from velosweep.results.journal import Journal, read_journal
from velosweep.results.paths import SweepPaths
from velosweep.results.sweep_outcome import SweepOutcome
from velosweep.results.sweep_record import read_record, write_record
from velosweep.tuning.search_driver import SearchDriver, search_drivers

if TYPE_CHECKING:
    from rich.console import Console

_SYNTHETIC_NOTE = (
    "The model pair is synthetic: random weights of a real architecture, so times and acceptance are real and "
    "text is not. Name your own with model_pair.main_model=… model_pair.draft_model=…"
)


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
    Raises our errors for all that is refused beforehand, SweepBroken where measuring or writing had to end early;
    a failed job is part of the outcome.
    """
    _check_extras(settings)
    console = make_console()
    prepared = prepare(jobs, settings, say=lambda text: say(console, text))
    sweep = Sweep(id="", root=str(root), jobs=prepared.jobs, command=tuple(command), single=single)
    if settings.dry_run:
        _print_plan(sweep, plan(prepared), prepared, settings.tuner, console)
        return SweepOutcome(exit_status=ExitStatus.OK, summaries=(None,) * len(jobs), errors=(None,) * len(jobs))
    measured = _measure(sweep, prepared, settings, console, on_line)
    try:
        derived = collate(root)
    except StorageError as error:
        raise _ended_early(measured.broken or error, root) from error
    except KeyboardInterrupt:
        raise Interrupted(
            "Interrupted while writing results; all samples are safe", remedy=f"go on with: {_resume_line(root)}"
        ) from None
    if measured.nothing_left and settings.verbosity >= 0:
        say(console, "Nothing was left to measure: this sweep is finished")
    if measured.interrupted and not derived.sample_count:
        say(console, f"Interrupted before anything was measured. Go on with: {_resume_line(root)}", whole=True)
        return _outcome(derived, measured)
    print_results(
        derived.comparisons,
        derived.record,
        derived.samples,
        saved_to=str(root),
        console=console,
        verbosity=settings.verbosity,
    )
    if measured.display_error:
        say(console, f"The display failed while measuring, and was done without: {measured.display_error}")
    if measured.broken:
        raise _ended_early(measured.broken, root) from measured.broken
    if measured.interrupted:
        say(console, f"Interrupted; everything measured is saved. Go on with: {_resume_line(root)}", whole=True)
    return _outcome(derived, measured)


def _check_extras(settings: RunSettings) -> None:
    """Raise ConfigError for what is wanted after measuring and is not installed."""
    if settings.report_plots:
        from velosweep.reporting.image_export import require_matplotlib

        require_matplotlib()


def _ended_early(cause: Exception, root: Path) -> Exception:
    """What kept a sweep from its end, in words; a bug stays what it is."""
    if not isinstance(cause, VelosweepError):
        return cause
    steps = (cause.remedy, f"then go on with: {_resume_line(root)}")
    return SweepBroken(f"The sweep ended early: {cause.message}", remedy="; ".join(filter(None, steps)))


def _resume_line(root: Path) -> str:
    return f"velosweep resume {shlex.quote(str(root))}"


def _search_drivers(
    groups: Sequence[ServerGroup], tuner: TunerSettings, journal: Journal, paths: SweepPaths
) -> dict[ServerGroup, SearchDriver]:
    def note(decision: TunerDecision) -> None:
        journal.note("tuner", **asdict(decision))

    return search_drivers(groups, tuner, read_journal(paths.journal).samples, note)


def _searched(search_drivers: Mapping[ServerGroup, SearchDriver], paths: SweepPaths) -> tuple[SearchRecord, ...]:
    """Write every decision of the searches to tuner.parquet, and return how they ended."""
    if not search_drivers:
        return ()
    write_decisions(paths.tuner, [decision for driver in search_drivers.values() for decision in driver.decisions()])
    return tuple(search_record(answer) for driver in search_drivers.values() for answer in driver.answers())


def plan(
    prepared: Prepared, earlier: Mapping[str, tuple[str, int]] | None = None, *, whole: bool = False
) -> tuple[ServerGroup, ...]:
    """Blocks of arms that are loaded together, as memory and the number of lanes allow; `earlier` ones are kept.

    `whole`: one block for all jobs of a baseline, whose servers make room for each other.
    """
    if whole:
        return plan_groups(prepared.jobs, resident_servers=lambda job: len(prepared.jobs) + 1)
    memory = prepared.memory_estimates(prepared.lanes[0])
    return plan_with_earlier(
        prepared.jobs, earlier or {}, lanes=len(prepared.lanes), resident_servers=memory.resident_servers
    )


def _print_plan(
    sweep: Sweep, groups: Sequence[ServerGroup], prepared: Prepared, search: TunerSettings | None, console: Console
) -> None:
    print_plan(
        sweep,
        groups,
        lanes=prepared.lanes,
        environment=prepared.environment,
        search=search,
        warnings=[warning.text for warning in prepared.warnings],
        console=console,
    )


def _measure(
    sweep: Sweep, prepared: Prepared, settings: RunSettings, console: Console, on_line: Callable[[bytes], None]
) -> Measured:
    """Hold the sweep's folder and devices, and run the lanes. The record is written before and after."""
    root = Path(sweep.root)
    paths = SweepPaths(root)
    stop = StopFlag()

    def tell(text: str) -> None:
        say(console, text)

    with ExitStack() as stack:
        stack.enter_context(stop_on_signals(stop, announce=tell))
        journal = stack.enter_context(Journal(paths.journal, lock=paths.lock, on_line=on_line))
        opened = _open(sweep, prepared, settings, paths)
        prepared, progress = opened.prepared, opened.progress
        groups = plan(prepared, progress.groups, whole=settings.tuner is not None)
        search_drivers = _search_drivers(groups, settings.tuner, journal, paths) if settings.tuner else {}
        _print_configuration(opened, groups, settings, console)
        waiting = hold(
            [device for lane in prepared.lanes for device in lane.devices],
            on_busy=settings.on_busy,
            sweep=str(root),
            on_wait=tell,
            should_stop=lambda: stop.requested,
        )
        stack.enter_context(waiting)
        write_record(paths.record, opened.record)
        journal.note("plan", blocks=plan_as_data(groups), accepted=list(opened.accepted))
        observe = stack.enter_context(_observer(opened, settings, console))
        measured = measure(
            groups,
            prepared,
            sweep_id=opened.sweep.id,
            root=root,
            journal=journal,
            observe=observe,
            stop=stop,
            progress=progress,
            search_drivers=search_drivers,
            preload=Preload(),
        )
        return _recorded(measured, opened.record, search_drivers, paths)


def _observer(opened: _Opened, settings: RunSettings, console: Console) -> AbstractContextManager[Observer]:
    return make_observer(
        opened.sweep,
        console=console,
        quiet=settings.verbosity < 0,
        verbose=settings.verbosity > 0,
        done=len(opened.progress.done),
        open_ended=settings.tuner is not None,
    )


def _recorded(
    measured: Measured, record: SweepRecord, search_drivers: Mapping[ServerGroup, SearchDriver], paths: SweepPaths
) -> Measured:
    """Write how jobs and searches ended; a disk that takes no more is how the sweep ended."""
    searches = _searched(search_drivers, paths)
    advised = tuple(dict.fromkeys(search.job_id for search in searches if search.job_id))
    jobs = tuple(_ended(job, measured) for job in record.jobs)
    try:
        write_record(paths.record, replace(record, searches=searches, advised=advised, jobs=jobs))
    except StorageError as error:
        return replace(measured, broken=measured.broken or error)
    return measured


@dataclass(frozen=True, kw_only=True, slots=True)
class _Opened:
    """A sweep's folder as it is when measuring begins; `accepted`: differences to earlier runs that were forced."""

    sweep: Sweep
    prepared: Prepared
    record: SweepRecord
    progress: Progress
    accepted: tuple[str, ...]


def _open(sweep: Sweep, prepared: Prepared, settings: RunSettings, paths: SweepPaths) -> _Opened:
    """A new sweep, or an earlier one to go on with, whose terms must be the same. Raises our errors."""
    before = read_record(paths.record) if paths.record.is_file() else None
    accepted: tuple[str, ...] = ()
    if before:
        clear_leftovers(paths.root)
        prepared, accepted = on_earlier_terms(before, prepared, force=settings.force)
    sweep = replace(sweep, id=before.sweep_id if before else secrets.token_hex(8), jobs=prepared.jobs)
    record = adopt(
        before,
        sweep,
        prepared.environment,
        now=datetime.now(timezone.utc),
        accepted=accepted,
        arguments_of=prepared.server_arguments,
    )
    return _Opened(
        sweep=sweep,
        prepared=prepared,
        record=replace(record, tuner=settings.tuner, show_paths=settings.report_paths, plots=settings.report_plots),
        progress=earlier_progress(paths) if before else Progress(),
        accepted=accepted,
    )


def _print_configuration(
    opened: _Opened, groups: Sequence[ServerGroup], settings: RunSettings, console: Console
) -> None:
    print_configuration(
        opened.sweep,
        lanes=opened.prepared.lanes,
        engine_note=_engine_note(opened.prepared),
        notes=_notes(opened.prepared),
        searching=settings.tuner is not None,
        console=console,
        verbosity=settings.verbosity,
    )
    done, at_most = len(opened.progress.done), sum(count_measurements(group) for group in groups)
    if 0 < done < at_most and settings.verbosity >= 0:
        say(console, f"Going on: {done} of at most {at_most} measurements are there already")


def _notes(prepared: Prepared) -> tuple[str, ...]:
    """What is to be known of the models before their figures are read."""
    synthetic = any(job.model_pair.synthetic for job in prepared.jobs)
    return (*((_SYNTHETIC_NOTE,) if synthetic else ()), *(f"⚠️ {warning.text}" for warning in prepared.warnings))


def _engine_note(prepared: Prepared) -> str:
    """Which llama.cpp, and why that one."""
    environment = prepared.environment
    return f"{environment.engine}, {environment.llama_cpp_build} ({'; '.join(prepared.reasons)})"


def _ended(job: JobRecord, measured: Measured) -> JobRecord:
    """A job's record after the lanes have ended; one that is not through stays what it was."""
    if job.id in measured.errors:
        return replace(job, state="partial" if job.id in measured.begun else "failed", error=measured.errors[job.id])
    if job.id in measured.ended:
        return replace(job, state="done", error=None)
    return job


def _outcome(derived: Derived, measured: Measured) -> SweepOutcome:
    """Reduce to an exit status: interrupted, nothing, some or all measured."""
    spared = derived.record.tuner is not None and not measured.interrupted  # a search needs few of its candidates
    summaries = [
        value if value is not None and value["vanilla" if job.speculation == "none" else "speculative"] else None
        for job, value in zip(derived.record.jobs, derived.summaries(), strict=True)
    ]
    errors = [
        measured.errors.get(job.id) or (None if value is not None or spared else "nothing was measured")
        for job, value in zip(derived.record.jobs, summaries, strict=True)
    ]
    if measured.interrupted:
        status = ExitStatus.INTERRUPTED
    elif all(value is None for value in summaries):
        status = ExitStatus.NOTHING_MEASURED
    elif any(error is not None for error in errors):
        status = ExitStatus.SOME_FAILED
    else:
        status = ExitStatus.OK
    return SweepOutcome(exit_status=status, summaries=tuple(summaries), errors=tuple(errors))
