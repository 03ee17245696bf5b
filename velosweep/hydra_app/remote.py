"""What launchers for other machines share: they split jobs into groups, run these elsewhere and merge the results.

A group is measured by an ordinary sweep in a folder of its own, on one host and device and with its own vanilla series,
so that machines are never compared with each other. Its folder is `<sweep>/.groups/<content hash>`: the same command
with the same sweep folder resumes it.
"""

import json
import secrets
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from velosweep.config.keys import expanded
from velosweep.config.model_references import is_local
from velosweep.config.settings import Job, RunSettings
from velosweep.errors import (
    ConfigError,
    ExitStatus,
    MismatchError,
    ModelFileError,
    NothingMeasured,
    StorageError,
    install_extra,
)
from velosweep.files import make_folder, read_bytes, write_text
from velosweep.hydra_app.launcher import LaneLauncher
from velosweep.measuring.opening import job_record
from velosweep.models.model_checks import fingerprint
from velosweep.planning.identity import content_hash, identify, vanilla_family
from velosweep.records import JobRecord, SweepRecord
from velosweep.reporting.collation import collate
from velosweep.reporting.console import QUIET, make_console, say, tell_on_stderr
from velosweep.reporting.image_export import require_matplotlib
from velosweep.reporting.terminal_report import print_results
from velosweep.results.journal import read_journal, sweep_lock, write_journal
from velosweep.results.paths import SAMPLES, SweepPaths
from velosweep.results.sweep_record import SweepOutcome, read_record, write_record
from velosweep.values import Sample

SERVER_GROUP_NUMBER_STRIDE = 100_000  # block numbers of group i start at i times this: no two groups share a block


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteGroup:
    """Jobs that one task measures. `fingerprints`: hashes of the model files that the driver can read, by path."""

    name: str
    jobs: tuple[Job, ...]
    settings: RunSettings
    command: tuple[str, ...]
    fingerprints: Mapping[str, str]

    def folder(self, root: Path) -> Path:
        """Where the driver of the sweep at `root` keeps the group's results."""
        return SweepPaths(root).groups / self.name


def partition(
    jobs: Sequence[Job], tasks: int | None, *, settings: RunSettings, command: Sequence[str]
) -> tuple[RemoteGroup, ...]:
    """Groups of jobs that share a vanilla series, split until there are `tasks` of them (None: not split)."""
    by_vanilla: dict[tuple[Any, ...], list[Job]] = {}
    for job in map(absolute, jobs):
        by_vanilla.setdefault((job.model_pair.synthetic, vanilla_family(job)), []).append(job)
    queues = list(by_vanilla.values())
    while tasks and len(queues) < tasks and max(map(len, queues)) > 1:
        longest = max(queues, key=len)
        queues.remove(longest)
        half = (len(longest) + 1) // 2
        queues += [longest[:half], longest[half:]]
    queues.sort(key=lambda queue: queue[0].num)
    paths = {path for queue in queues for job in queue for path in _models(job)}
    known = {path: fingerprint(path) for path in paths if Path(path).is_file()}
    return tuple(
        RemoteGroup(
            name=_name(queue),
            jobs=tuple(queue),
            # GPU indices are the driver's and mean nothing on the worker; an empty list (no GPU) does
            settings=replace(settings, gpus=None if settings.gpus else settings.gpus, verbosity=-1, report_plots=False),
            command=tuple(command),
            fingerprints={path: known[path] for job in queue for path in _models(job) if path in known},
        )
        for queue in queues
    )


def _name(jobs: Sequence[Job]) -> str:
    return content_hash([json.loads(json.dumps(asdict(job), default=str)) for job in jobs])


def _tasks_as_before(tasks: int | None, jobs: Sequence[Job], root: Path) -> int | None:
    """`tasks` of the first run of these jobs in this folder: split otherwise, they would all be measured anew."""
    note = SweepPaths(root).groups / f"{_name(list(map(absolute, jobs)))}.tasks"
    if tasks is None:
        return None
    if note.is_file():
        return int(read_bytes(note))
    make_folder(note.parent)
    write_text(note, str(tasks))
    return tasks


def absolute(job: Job) -> Job:
    """The job with absolute paths, and without `output`, which the driver writes."""
    pair, program = job.model_pair, job.engine.program
    return replace(
        job,
        model_pair=replace(pair, main_model=_absolute(pair.main_model), draft_model=_absolute(pair.draft_model)),
        engine=replace(job.engine, program=_absolute(program)),
        output=None,
    )


def _absolute(path: Any) -> Any:
    return path if not path or not is_local(path) else str(expanded(path).absolute())


def _models(job: Job) -> list[str]:
    return [path for path in (job.model_pair.main_model, job.model_pair.draft_model) if path]


def is_done(folder: Path) -> bool:
    """Whether all jobs of the group in this folder have been measured."""
    try:
        record = read_record(SweepPaths(folder).record)
    except StorageError:
        return False
    return SweepPaths(folder).journal.is_file() and all(job.state == "done" for job in record.jobs)


class RemoteLauncher(LaneLauncher):
    """A launcher (on the driver) that measures groups of jobs elsewhere. `settings`: those of hydra.launcher."""

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
            return super().run(jobs, root=root, command=command, settings=replace(settings, measures_remotely=True))
        if settings.tuner is not None:
            raise ConfigError(
                "hydra/sweeper=tune needs all candidates on one machine", remedy="leave hydra/launcher at gpu_lanes"
            )
        if self._config.hydra.sweeper.get("max_batch_size") is not None:  # each batch would replace the record
            raise ConfigError(
                "hydra.sweeper.max_batch_size splits what this launcher shares out by itself", remedy="leave it null"
            )
        if settings.report_plots:
            require_matplotlib()
        _refuse_other_folders(SweepPaths(root))
        tasks = self.tasks(settings)
        if self._settings["tasks"] is None:
            tasks = _tasks_as_before(tasks, jobs, root)
        groups = partition(jobs, tasks, settings=settings, command=command)
        todo = [group for group in groups if not is_done(group.folder(root))]
        failures = self.run_groups(todo, root, settings) if todo else {}
        merge(root, jobs, groups, failures)
        with sweep_lock(SweepPaths(root).lock):
            derived = collate(root)
        print_results(derived, console=make_console(), verbosity=settings.verbosity)
        outcome = SweepOutcome.of_sweep(derived.record, derived.summaries())
        tell_on_stderr(outcome.why)
        return outcome


def _refuse_other_folders(paths: SweepPaths) -> None:
    """Raise MismatchError for a folder with samples that the groups measured now would be written over."""
    if not paths.journal.is_file() or paths.groups.is_dir():
        return
    what, remedy = "a sweep of one machine", "choose another hydra.sweep.dir"
    if paths.record.is_file() and read_record(paths.record).shared_out:
        what = f"a sweep without its folder {paths.groups.name}: all would be measured anew"
        remedy = f"copy {paths.groups.name} from where it was measured, or {remedy}"
    raise MismatchError(f"{paths.root} holds {what}", remedy=remedy)


def import_extra(package: str, extra: str) -> Any:
    """The module `package`, which comes with velosweep[`extra`]. Raises ConfigError where it is not installed."""
    try:
        return import_module(package)
    except ImportError as error:
        raise ConfigError(f"hydra/launcher={extra} needs the package {package}", remedy=install_extra(extra)) from error


def sayer(settings: RunSettings) -> Callable[[str], None]:
    """A function that prints a sentence, or nothing where quiet is wanted."""
    return partial(say, make_console()) if settings.verbosity > QUIET else lambda text: None


def merge(root: Path, jobs: Sequence[Job], groups: Sequence[RemoteGroup], failures: Mapping[str, str]) -> None:
    """Write the sweep's journal and record from those of its groups, and say what of these is damaged.

    `failures`: by group name, in words. Raises NothingMeasured where no group brought a sample, BusyError.
    """
    reasons = dict(failures)
    found: dict[str, SweepRecord] = {}
    taken: dict[str, Sequence[Sample]] = {}
    for group in groups:
        paths = SweepPaths(group.folder(root))
        try:
            journal = read_journal(paths.journal)
            found[group.name], taken[group.name] = read_record(paths.record), journal.samples
            for number, why in journal.damaged:
                say(make_console(stderr=True), f"Lost: {paths.journal}, line {number}: {why}")
        except StorageError as error:
            reasons.setdefault(group.name, str(error))
    if not any(taken.values()):
        reason = next(iter(reasons.values()), "the tasks took no samples")
        raise NothingMeasured(f"Nothing was measured: {reason}", remedy=f"the tasks' logs are in {root}")
    first = next(iter(found.values()))
    models = (file for one in found.values() for file in one.environment.models)
    record = replace(
        first,
        sweep_id=secrets.token_hex(8),
        created_at=datetime.now(timezone.utc),
        single=False,
        shared_out=True,
        jobs=_job_records(jobs, groups, found, reasons),
        environment=replace(first.environment, models=tuple(dict.fromkeys(models))),
        working_directory=str(Path.cwd()),
    )
    samples = (
        replace(sample, sweep_id=record.sweep_id, block=number * SERVER_GROUP_NUMBER_STRIDE + sample.block, lane=number)
        for number, group in enumerate(groups)
        for sample in taken.get(group.name, ())
    )
    paths = SweepPaths(root)
    with sweep_lock(paths.lock):
        write_journal(paths.journal, samples)
        write_record(paths.record, record)
    for own in (SweepPaths(group.folder(root)) for group in groups):
        # so that readers of the sweep's folder don't count the group's results twice
        for path in (own.samples, own.results, own.summaries, own.report, *own.root.glob(f"*/{SAMPLES}")):
            path.unlink(missing_ok=True)


def _job_records(
    jobs: Sequence[Job], groups: Sequence[RemoteGroup], found: Mapping[str, SweepRecord], reasons: Mapping[str, str]
) -> tuple[JobRecord, ...]:
    """Every job's record in order: the one in its group's record, or a failed one with the group's reason.

    Jobs that came to one run have one record, also where several groups measured it.
    """
    outputs = {job.num: job.output for job in jobs}
    records: dict[int, JobRecord] = {}
    for group in groups:
        own = {record.num: record for record in found[group.name].jobs} if group.name in found else {}
        reason = reasons.get(group.name, "its task returned no result")
        for job in identify(group.jobs, {}):
            if own and job.num not in own:
                continue  # a twin of another job of the group
            record = own.get(job.num) or job_record(job)
            if record.state not in ("done", "partial"):
                record = replace(record, state="failed", error=record.error or reason)
            records[job.num] = replace(record, output=outputs[job.num])
    distinct: dict[str, JobRecord] = {}
    for num in sorted(records):
        record = records[num]
        first = distinct.setdefault(record.id, record)
        if first is not record:
            distinct[record.id] = replace(first, twins=(*first.twins, num, *record.twins))
    return tuple(distinct.values())


def measure_group(group: RemoteGroup, folder: Path, on_line: Callable[[bytes], None] = lambda line: None) -> None:
    """On the worker: measure what is left of a group in `folder`. `on_line`: see `run_sweep`.

    Raises our errors where the whole group can't be measured; a failed job is part of its record.
    """
    from velosweep.sweep import run_sweep

    for path, expected in group.fingerprints.items():
        found = fingerprint(path) if Path(path).is_file() else None
        if found != expected:
            fault = "another file" if found else "missing"
            raise ModelFileError(f"{path} is {fault} on this worker", remedy="put the driver's model files there")
    outcome = run_sweep(
        group.jobs, root=folder, single=False, command=group.command, settings=group.settings, on_line=on_line
    )
    if outcome.exit_status == ExitStatus.INTERRUPTED:
        raise StorageError("The task was asked to end", remedy="run the same command again to go on")
