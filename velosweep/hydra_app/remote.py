"""What launchers for other machines share: they split jobs into groups, run these elsewhere and merge the results."""

from __future__ import annotations

import secrets
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from typing import Any

from velosweep.config.settings import Job, RunSettings
from velosweep.errors import ConfigError, NothingMeasured, StorageError, install_extra
from velosweep.hydra_app.groups import SERVER_GROUPS_A_GROUP, RemoteGroup, is_done, partition
from velosweep.hydra_app.launcher import LaneLauncher
from velosweep.measuring.opening import job_record
from velosweep.planning.identity import identify
from velosweep.records import JobRecord, SweepRecord
from velosweep.reporting.collation import collate
from velosweep.reporting.console import make_console
from velosweep.reporting.terminal_report import print_results
from velosweep.results.journal import Journal, read_journal
from velosweep.results.paths import SweepPaths
from velosweep.results.sweep_outcome import SweepOutcome
from velosweep.results.sweep_record import read_record, write_record
from velosweep.values import Sample


class RemoteLauncher(LaneLauncher):
    """A launcher that measures groups of jobs elsewhere. `settings`: those of hydra.launcher."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    @abstractmethod
    def tasks(self, settings: RunSettings) -> int | None:
        """How many groups are wanted; None: one for each vanilla series."""

    @abstractmethod
    def run_groups(self, groups: Sequence[RemoteGroup], root: Path, settings: RunSettings) -> dict[str, str]:
        """Measure all groups, each into its folder; returns failures by group name, in words."""

    def run(self, jobs: Sequence[Job], *, root: Path, command: Sequence[str], settings: RunSettings) -> SweepOutcome:
        """As `LaneLauncher.run`. Groups that an earlier run finished are not run again."""
        if settings.dry_run:
            return super().run(jobs, root=root, command=command, settings=replace(settings, elsewhere=True))
        if settings.tuner is not None:
            raise ConfigError(
                "hydra/sweeper=tune needs all candidates on one machine", remedy="leave hydra/launcher at gpu_lanes"
            )
        groups = partition(jobs, self.tasks(settings), settings=settings, command=command)
        todo = [group for group in groups if not is_done(group.folder(root))]
        failures = self.run_groups(todo, root, settings) if todo else {}
        merge(root, jobs, groups, failures)
        derived = collate(root)
        print_results(derived, saved_to=str(root), console=make_console(), verbosity=settings.verbosity)
        return SweepOutcome.of_sweep(derived.record, derived.summaries())


def import_extra(package: str, extra: str) -> Any:
    """The module `package`, which comes with velosweep[`extra`]. Raises ConfigError where it is not installed."""
    try:
        return import_module(package)
    except ImportError as error:
        raise ConfigError(f"hydra/launcher={extra} needs the package {package}", remedy=install_extra(extra)) from error


Found = Mapping[str, tuple[SweepRecord, Sequence[Sample]]]
"""By group name: the group's record, and its samples in the order in which they were taken."""


def merge(root: Path, jobs: Sequence[Job], groups: Sequence[RemoteGroup], failures: Mapping[str, str]) -> None:
    """Write the sweep's record and journal from those of its groups. `failures`: by group name, in words.

    Raises NothingMeasured where no group brought a sample.
    """
    reasons = dict(failures)
    found: dict[str, tuple[SweepRecord, Sequence[Sample]]] = {}
    for group in groups:
        paths = SweepPaths(group.folder(root))
        try:
            found[group.name] = (read_record(paths.record), read_journal(paths.journal).samples)
        except StorageError as error:
            reasons.setdefault(group.name, str(error))
    if not any(samples for _, samples in found.values()):
        reason = next(iter(reasons.values()), "the tasks took no samples")
        raise NothingMeasured(f"Nothing was measured: {reason}", remedy=f"the tasks' logs are in {root}")
    sweep_id, paths = secrets.token_hex(8), SweepPaths(root)
    paths.journal.unlink(missing_ok=True)
    with Journal(paths.journal, lock=paths.lock) as journal:
        for number, group in enumerate(groups):
            for sample in found[group.name][1] if group.name in found else ():
                block = number * SERVER_GROUPS_A_GROUP + sample.block
                journal.append(replace(sample, sweep_id=sweep_id, block=block, lane=number))
            # so that readers of the sweep's folder don't count the group's results twice
            for name in ("samples.parquet", "results.parquet", "summaries.json", "report.html", "*/samples.parquet"):
                for path in group.folder(root).glob(name):
                    path.unlink()
    first, _ = next(iter(found.values()))
    models = (file for record, _ in found.values() for file in record.environment.models)
    write_record(
        paths.record,
        replace(
            first,
            sweep_id=sweep_id,
            created_at=datetime.now(timezone.utc),
            single=False,
            jobs=_job_records(jobs, groups, found, reasons),
            environment=replace(first.environment, models=tuple(dict.fromkeys(models))),
            working_directory=str(Path.cwd()),
        ),
    )


def _job_records(
    jobs: Sequence[Job], groups: Sequence[RemoteGroup], found: Found, reasons: Mapping[str, str]
) -> tuple[JobRecord, ...]:
    """Every job's record in order: the one in its group's record, or a failed one with the group's reason."""
    outputs = {job.num: job.output for job in jobs}
    records: dict[int, JobRecord] = {}
    for group in groups:
        own = {record.num: record for record in found[group.name][0].jobs} if group.name in found else {}
        reason = reasons.get(group.name, "its task returned no result")
        for job in identify(group.jobs, {}):
            record = own.get(job.num) or job_record(job)
            if record.state not in ("done", "partial"):
                record = replace(record, state="failed", error=record.error or reason)
            records[job.num] = replace(record, output=outputs[job.num])
    return tuple(records[num] for num in sorted(records))
