"""Jobs shared out over machines: groups that are measured by themselves, and their results brought together.

A group is a lane's queue: jobs that share a vanilla series, measured by an ordinary sweep in a folder of its own,
on one host and device, with a vanilla series of its own. So comparisons never cross machines. Group folders lie in
`<sweep>/.groups/<content hash>`: the same command with the same sweep folder goes on where it was left.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from velosweep.config.settings import Job, RunSettings
from velosweep.errors import ExitStatus, MismatchError, NothingMeasured, StorageError, VelosweepError
from velosweep.hydra_app.remote_journal import JournalChannel, sender, settle_in
from velosweep.records import JobRecord, SweepRecord
from velosweep.results.sweep_outcome import SweepOutcome
from velosweep.values import Sample

SERVER_GROUPS_A_GROUP = 100_000
"""Block numbers of group i start at i times this, so that no two groups share a block."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """What one task measures. `fingerprints`: of the model files that the driver can read, by path."""

    name: str
    jobs: tuple[Job, ...]
    settings: RunSettings
    command: tuple[str, ...]
    fingerprints: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Gathered:
    """What a group brought: its record, and its samples in the order in which they were taken."""

    record: SweepRecord
    samples: tuple[Sample, ...]


# ---------------------------------------------------------------- sharing out


def share_out(
    jobs: Sequence[Job], tasks: int | None, *, settings: RunSettings, command: Sequence[str]
) -> tuple[Group, ...]:
    """Groups of jobs that share a vanilla series, split until there are `tasks` of them (None: not split)."""
    by_baseline: dict[Any, list[Job]] = {}
    for job in map(absolute, jobs):
        by_baseline.setdefault(_baseline(job), []).append(job)
    queues = list(by_baseline.values())
    while tasks and len(queues) < tasks and max(map(len, queues)) > 1:
        longest = max(queues, key=len)
        queues.remove(longest)
        half = (len(longest) + 1) // 2
        queues += [longest[:half], longest[half:]]
    queues.sort(key=lambda queue: queue[0].num)
    known: dict[str, str] = {}
    return tuple(_group(queue, settings, command, known) for queue in queues)


def absolute(job: Job) -> Job:
    """The job with paths that mean the same wherever it runs; the driver writes `output`."""
    pair, program = job.model_pair, job.engine.program
    pair = replace(
        pair,
        main_model=_absolute(pair.main_model),
        draft_model=_absolute(pair.draft_model) if pair.draft_model else pair.draft_model,
    )
    return replace(
        job,
        model_pair=pair,
        engine=replace(job.engine, program=_absolute(program) if program else program),
        output=None,
    )


def _absolute(path: str) -> str:
    return path if not path or "://" in path else str(Path(path).expanduser().absolute())


def _baseline(job: Job) -> tuple[Any, ...]:
    """What jobs must have in common to share a vanilla series."""
    pair = (job.model_pair.main_model, job.model_pair.synthetic)
    return (pair, job.engine, job.prompts, job.n_predict, job.sampling, job.protocol, job.skip_vanilla)


def _group(jobs: Sequence[Job], settings: RunSettings, command: Sequence[str], known: dict[str, str]) -> Group:
    from velosweep.models.gguf_model import fingerprint
    from velosweep.planning.identity import content_hash

    paths = {path for job in jobs for path in (job.model_pair.main_model, job.model_pair.draft_model) if path}
    for path in paths - known.keys():
        if Path(path).is_file():
            known[path] = fingerprint(Path(path))
    fingerprints = {path: known[path] for path in sorted(paths & known.keys())}
    return Group(
        name=content_hash([json.loads(json.dumps(asdict(job), default=str)) for job in jobs]),
        jobs=tuple(jobs),
        settings=replace(settings, gpus=None, verbosity=-1, report_plots=False),
        command=tuple(command),
        fingerprints=fingerprints,
    )


# ---------------------------------------------------------------- on the worker


class RunGroup:
    """Measures a group; can be sent to another process.

    `folder` None: nothing is shared with the driver, so a temporary folder is used. `wire`: what takes each sample
    to the driver then, and tells what earlier attempts have brought.
    """

    def __call__(self, group: Group, folder: str | None, wire: JournalChannel | None = None) -> Gathered:
        """Raises our errors for what refuses the whole group; a failed job is part of what is gathered."""
        check_models(group)
        if folder is not None:
            return self._measure(group, Path(folder))
        with (
            tempfile.TemporaryDirectory(prefix="velosweep-") as own,
            (Path(own) / "screen.log").open("w") as screen,
            redirect_stdout(screen),  # a worker's screen is nobody's, or the driver's
        ):
            return self._measure(group, Path(own)) if wire is None else self._go_on(group, Path(own), wire)

    def _go_on(self, group: Group, folder: Path, wire: JournalChannel) -> Gathered:
        """Measure what earlier attempts have not brought; all of it where they were made on another machine."""
        carried = wire.carried()
        if carried.record is not None:
            settle_in(folder / "on", carried)
            try:
                return self._measure(group, folder / "on", wire)
            except MismatchError:  # another host, device or program: comparisons never cross those
                wire.afresh()
        return self._measure(group, folder / "anew", wire)

    @staticmethod
    def _measure(group: Group, folder: Path, wire: JournalChannel | None = None) -> Gathered:
        from velosweep import sweep as pipeline

        outcome = pipeline.run_sweep(
            group.jobs,
            root=folder,
            single=False,
            command=group.command,
            settings=group.settings,
            on_line=(lambda line: None) if wire is None else sender(folder, wire),
        )
        if outcome.exit_status == ExitStatus.INTERRUPTED:
            raise StorageError("The task was asked to end", remedy="run the same command again: it goes on")
        return gather(folder)

    def checkpoint(self, group: Group, folder: str | None) -> Any:
        """submitit's hook when a task is preempted or out of time: submit it again, it goes on where it was."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, group, folder)


def check_models(group: Group) -> None:
    """Raise MismatchError where a model file is another one than the driver's."""
    from velosweep.models.gguf_model import fingerprint

    for path, expected in group.fingerprints.items():
        found = fingerprint(Path(path)) if Path(path).is_file() else None
        if found != expected:
            state = "is missing" if found is None else "is another file"
            raise MismatchError(f"{path} {state} on this worker", remedy="put the driver's model files there")


# ---------------------------------------------------------------- bringing together


def group_folder(root: Path, group: Group) -> Path:
    """Where a group's sweep is kept."""
    return root / ".groups" / group.name


def gather(folder: Path) -> Gathered:
    """A group's results from its folder. Raises StorageError where there are none."""
    from velosweep.results.journal import read_journal
    from velosweep.results.paths import SweepPaths
    from velosweep.results.sweep_record import read_record

    paths = SweepPaths(folder)
    return Gathered(record=read_record(paths.record), samples=tuple(read_journal(paths.journal).samples))


def is_done(folder: Path) -> bool:
    """Whether all jobs of a group have been measured."""
    try:
        record = gather(folder).record
    except StorageError:
        return False
    return all(job.state == "done" for job in record.jobs)


def merge(root: Path, jobs: Sequence[Job], groups: Sequence[Group], failures: Mapping[str, str]) -> None:
    """Write the sweep's record and journal from those of its groups. `failures`: by group name, in words.

    Raises NothingMeasured where no group brought a sample.
    """
    from velosweep.results.journal import Journal
    from velosweep.results.paths import SweepPaths
    from velosweep.results.sweep_record import write_record

    paths = SweepPaths(root)
    found: list[tuple[int, Group, Gathered]] = []
    for number, group in enumerate(groups):
        try:
            found.append((number, group, gather(group_folder(root, group))))
        except StorageError as error:
            failures = {group.name: str(error), **failures}
    if not any(gathered.samples for _, _, gathered in found):
        reason = next(iter(failures.values()), "the tasks brought no samples")
        raise NothingMeasured(f"Nothing was measured: {reason}", remedy=f"the tasks' logs are in {root}")
    first = found[0][2].record
    sweep_id = secrets.token_hex(8)
    paths.journal.unlink(missing_ok=True)
    with Journal(paths.journal, lock=paths.lock) as journal:
        for number, _, gathered in found:
            for sample in gathered.samples:
                block = number * SERVER_GROUPS_A_GROUP + sample.block
                journal.append(replace(sample, sweep_id=sweep_id, block=block, lane=number))
    for group in groups:
        _drop_derived(group_folder(root, group))
    records = _records(jobs, groups, {group.name: gathered for _, group, gathered in found}, failures)
    environment = replace(
        first.environment,
        models=tuple(dict.fromkeys(file for _, _, gathered in found for file in gathered.record.environment.models)),
    )
    write_record(
        paths.record,
        replace(
            first,
            sweep_id=sweep_id,
            created_at=datetime.now(timezone.utc),
            single=False,
            jobs=records,
            environment=environment,
            working_directory=str(Path.cwd()),
        ),
    )


def _drop_derived(folder: Path) -> None:
    """Leave a group's record, journal and logs: its results stand in the sweep, and are not to be counted twice."""
    for name in ("samples.parquet", "results.parquet", "summaries.json", "report.html", "*/samples.parquet"):
        for path in folder.glob(name):
            path.unlink()


def _records(
    jobs: Sequence[Job], groups: Sequence[Group], found: Mapping[str, Gathered], failures: Mapping[str, str]
) -> tuple[JobRecord, ...]:
    """Every job's record, in order: its group's, or a failed one with the group's reason."""
    from velosweep.measuring.resuming import job_record
    from velosweep.planning.identity import identify

    outputs = {job.num: job.output for job in jobs}
    records: dict[int, JobRecord] = {}
    for group in groups:
        own = {record.num: record for record in found[group.name].record.jobs} if group.name in found else {}
        reason = failures.get(group.name)
        for job in identify(group.jobs, {}):
            record = own.get(job.num) or replace(job_record(job), state="failed")
            if record.state not in ("done", "partial"):
                record = replace(record, state="failed", error=record.error or reason or "its task brought no result")
            records[job.num] = replace(record, output=outputs[job.num])
    return tuple(records[num] for num in sorted(records))


def conclude(root: Path, settings: RunSettings) -> SweepOutcome:
    """Derive every file of the merged sweep, show its results, and say how it ended."""
    from velosweep.collation import collate
    from velosweep.reporting.console import print_outcome
    from velosweep.reporting.screen import make_console
    from velosweep.results.paths import SweepPaths

    derived = collate(root)
    print_outcome(
        derived.comparisons,
        derived.record,
        derived.samples,
        saved_to=str(root),
        console=make_console(),
        verbosity=settings.verbosity,
    )
    paths = SweepPaths(root)
    measured = {row.job_id for row in derived.comparisons if row.prompt_id is None}
    summaries: list[Mapping[str, object] | None] = []
    errors: list[str | None] = []
    for job in derived.record.jobs:
        path = paths.job(job).summary
        good = job.id in measured and path.is_file()
        summaries.append(json.loads(path.read_text(encoding="utf-8")) if good else None)
        errors.append(job.error or (None if good else "nothing was measured"))
    failed = sum(error is not None for error in errors)
    status = ExitStatus.OK if not failed else ExitStatus.SOME_FAILED
    status = ExitStatus.NOTHING_MEASURED if all(summary is None for summary in summaries) else status
    return SweepOutcome(exit_status=int(status), summaries=tuple(summaries), errors=tuple(errors))


def in_words(error: BaseException) -> str:
    """A task's failure for a job's record."""
    return str(error) if isinstance(error, VelosweepError) else f"{type(error).__name__}: {str(error).strip()[-500:]}"
