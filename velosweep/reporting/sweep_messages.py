"""What `run_sweep` prints: its plan in a dry run, its configuration, its progress, its results."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from velosweep.config.settings import RunSettings, Sweep
from velosweep.errors import SweepBroken, VelosweepError
from velosweep.measuring.dispatch import Measured
from velosweep.measuring.events import Observer
from velosweep.measuring.opening import OpenedSweep
from velosweep.measuring.prepare import Prepared
from velosweep.planning.server_groups import ServerGroup, count_measurements
from velosweep.reporting.console import say
from velosweep.reporting.plan_text import print_configuration, print_plan
from velosweep.reporting.progress import make_observer
from velosweep.reporting.terminal_report import print_results
from velosweep.results.derived_files import SweepResults

if TYPE_CHECKING:
    from rich.console import Console

_SYNTHETIC_NOTE = (
    "The model pair is synthetic: random weights of a real architecture, so times and acceptance are real and "
    "text is not. Name your own with model_pair.main_model=… model_pair.draft_model=…"
)


def resume_command(root: Path) -> str:
    """The command that resumes the sweep in `root`."""
    return f"velosweep resume {shlex.quote(str(root))}"


def ended_early(cause: Exception, root: Path) -> Exception:
    """The error to raise for a sweep that `cause` ended; a bug is returned as it is."""
    if not isinstance(cause, VelosweepError):
        return cause
    steps = (cause.remedy, f"then go on with: {resume_command(root)}")
    return SweepBroken(f"The sweep ended early: {cause.message}", remedy="; ".join(filter(None, steps)))


def print_dry_run(
    sweep: Sweep, groups: Sequence[ServerGroup], prepared: Prepared, settings: RunSettings, console: Console
) -> None:
    """The plan, and warnings of valid settings that are probably mistakes."""
    print_plan(
        sweep,
        groups,
        lanes=prepared.lanes,
        environment=prepared.environment,
        search=settings.tuner,
        warnings=[warning.text for warning in prepared.warnings],
        console=console,
    )


def print_start(opened: OpenedSweep, groups: Sequence[ServerGroup], settings: RunSettings, console: Console) -> None:
    """The configuration, notes on the models, warnings, and how much was measured before."""
    prepared, environment = opened.prepared, opened.prepared.environment
    notes = [_SYNTHETIC_NOTE] if any(job.model_pair.synthetic for job in prepared.jobs) else []
    print_configuration(
        opened.sweep,
        lanes=prepared.lanes,
        engine_note=f"{environment.engine}, {environment.llama_cpp_build} ({'; '.join(prepared.reasons)})",
        notes=[*notes, *(f"⚠️ {warning.text}" for warning in prepared.warnings)],
        searching=settings.tuner is not None,
        console=console,
        verbosity=settings.verbosity,
    )
    done, at_most = len(opened.progress.done), sum(count_measurements(group) for group in groups)
    if 0 < done < at_most and settings.verbosity >= 0:
        say(console, f"Going on: {done} of at most {at_most} measurements are there already")


def progress_display(opened: OpenedSweep, settings: RunSettings, console: Console) -> AbstractContextManager[Observer]:
    """The progress display."""
    return make_observer(
        opened.sweep,
        console=console,
        quiet=settings.verbosity < 0,
        verbose=settings.verbosity > 0,
        done=len(opened.progress.done),
        open_ended=settings.tuner is not None,
    )


def print_end(derived: SweepResults, measured: Measured, settings: RunSettings, console: Console) -> None:
    """The results, and why some are missing."""
    go_on = f"Go on with: {resume_command(derived.root)}"
    if measured.nothing_left and settings.verbosity >= 0:
        say(console, "Nothing was left to measure: this sweep is finished")
    if measured.interrupted and not derived.sample_count:
        say(console, f"Interrupted before anything was measured. {go_on}", whole=True)
        return
    print_results(derived, saved_to=str(derived.root), console=console, verbosity=settings.verbosity)
    if measured.display_error:
        say(console, f"The progress display failed and was switched off: {measured.display_error}")
    if measured.interrupted:
        say(console, f"Interrupted; everything measured is saved. {go_on}", whole=True)
