"""`velosweep resume DIR`: finish an interrupted sweep; what was measured stays."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from velosweep.commands.sweep_folder import add_sweep_folder, add_verbosity
from velosweep.config.flags import as_typed
from velosweep.config.keys import expanded
from velosweep.config.load import load_saved
from velosweep.config.settings import Job, RunSettings
from velosweep.errors import ModelFileError, StorageError, VelosweepError
from velosweep.records import SweepRecord
from velosweep.reporting.console import ignore_closed_output
from velosweep.results.paths import SweepPaths, is_sweep
from velosweep.results.sweep_record import read_record
from velosweep.sweep import run_sweep


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="velosweep resume", description="Finish an interrupted sweep.")
    add_sweep_folder(parser, default=True)
    parser.add_argument("--force", action="store_true", help="go on even if models, program or machine changed")
    add_verbosity(parser)
    arguments = parser.parse_args(argv)
    saved = saved_sweep(arguments.directory, verbosity=arguments.verbosity)
    return saved.measure_rest(saved.jobs, force=arguments.force)


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedSweep:
    """Jobs and settings as they were configured (a search is searched again), and the record of how they ended."""

    root: Path
    record: SweepRecord
    jobs: list[Job]
    settings: RunSettings

    def measure_rest(self, jobs: Sequence[Job], **changes: Any) -> int:
        """Measure what is left of `jobs` with changed run settings; returns the exit status."""
        ignore_closed_output()
        settings, record = replace(self.settings, dry_run=False, **changes), self.record
        try:
            outcome = run_sweep(jobs, root=self.root, single=record.single, command=record.command, settings=settings)
        except VelosweepError as error:
            causes = error.causes or (error,)
            if all(isinstance(cause, ModelFileError) for cause in causes):
                error.message = "; ".join(cause.message for cause in causes)
                error.remedy = "the sweep measured it: put it back, or measure another one in a sweep of its own"
            error.message = as_typed(error.message, record.command)
            error.remedy = error.remedy and as_typed(error.remedy, record.command)
            raise
        return outcome.exit_status


def saved_sweep(directory: Path, *, overrides: Sequence[str] = (), verbosity: int | None = None) -> SavedSweep:
    """Read a sweep's folder; `overrides` are laid over every job. `verbosity`: instead of the saved one.

    Raises StorageError where it isn't one or its configuration is gone.
    """
    root = expanded(str(directory)).absolute()
    if not is_sweep(root):
        raise StorageError(f"{root} is not the folder of a sweep", remedy="name the folder that holds sweep.json")
    paths = SweepPaths(root)
    record = read_record(paths.record)
    folders = [(job.num, job.directory, paths.job_directory(job)) for job in record.jobs]
    base = Path(record.working_directory) if record.working_directory else None
    jobs, settings = load_saved(folders, overrides=overrides, base=base)
    jobs = [replace(job, added=saved.added) for job, saved in zip(jobs, record.jobs, strict=True)]
    verbosity = settings.verbosity if verbosity is None else verbosity
    return SavedSweep(
        root=root, record=record, jobs=jobs, settings=replace(settings, verbosity=verbosity, tuner=record.tuner)
    )
