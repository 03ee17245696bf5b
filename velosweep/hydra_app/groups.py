"""Jobs split into groups that are measured on other machines.

A group is measured by an ordinary sweep in a folder of its own, on one host and device and with its own vanilla series,
so that machines are never compared with each other. Its folder is `<sweep>/.groups/<content hash>`: the same command
with the same sweep folder resumes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from velosweep.config.settings import Job, RunSettings
from velosweep.errors import ExitStatus, ModelFileError, StorageError, VelosweepError
from velosweep.models.model_checks import fingerprint
from velosweep.planning.identity import content_hash
from velosweep.results.paths import SweepPaths
from velosweep.results.sweep_record import read_record

SERVER_GROUPS_A_GROUP = 100_000
"""Block numbers of group i start at i times this, so that no two groups share a block."""


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
        return root / ".groups" / self.name


def partition(
    jobs: Sequence[Job], tasks: int | None, *, settings: RunSettings, command: Sequence[str]
) -> tuple[RemoteGroup, ...]:
    """Groups of jobs that share a vanilla series, split until there are `tasks` of them (None: not split)."""
    by_baseline: dict[tuple[Any, ...], list[Job]] = {}
    for job in map(absolute, jobs):
        pair = (job.model_pair.main_model, job.model_pair.synthetic)
        shared = (pair, job.engine, job.prompts, job.n_predict, job.sampling, job.protocol, job.skip_vanilla)
        by_baseline.setdefault(shared, []).append(job)
    queues = list(by_baseline.values())
    while tasks and len(queues) < tasks and max(map(len, queues)) > 1:
        longest = max(queues, key=len)
        queues.remove(longest)
        half = (len(longest) + 1) // 2
        queues += [longest[:half], longest[half:]]
    queues.sort(key=lambda queue: queue[0].num)
    known = {
        path: fingerprint(path)
        for path in {path for job in jobs for path in _models(absolute(job))}
        if Path(path).is_file()
    }
    return tuple(
        RemoteGroup(
            name=content_hash([json.loads(json.dumps(asdict(job), default=str)) for job in queue]),
            jobs=tuple(queue),
            # GPU indices are the driver's and mean nothing on the worker; an empty list (no GPU) does
            settings=replace(settings, gpus=None if settings.gpus else settings.gpus, verbosity=-1, report_plots=False),
            command=tuple(command),
            fingerprints={path: known[path] for job in queue for path in _models(job) if path in known},
        )
        for queue in queues
    )


def absolute(job: Job) -> Job:
    """The job with absolute paths, and without `output`, which the driver writes."""
    pair, program = job.model_pair, job.engine.program
    draft = _absolute(pair.draft_model) if pair.draft_model else pair.draft_model
    return replace(
        job,
        model_pair=replace(pair, main_model=_absolute(pair.main_model), draft_model=draft),
        engine=replace(job.engine, program=_absolute(program) if program else program),
        output=None,
    )


def _absolute(path: str) -> str:
    return path if not path or "://" in path else str(Path(path).expanduser().absolute())


def _models(job: Job) -> list[str]:
    return [path for path in (job.model_pair.main_model, job.model_pair.draft_model) if path]


def is_done(folder: Path) -> bool:
    """Whether all jobs of the group in this folder have been measured."""
    try:
        record = read_record(SweepPaths(folder).record)
    except StorageError:
        return False
    return SweepPaths(folder).journal.is_file() and all(job.state == "done" for job in record.jobs)


# ---------------------------------------------------------------- on the worker


def measure_group(group: RemoteGroup, folder: Path, on_line: Callable[[bytes], None] = lambda line: None) -> None:
    """Measure what is left of a group in `folder`. `on_line`: see `run_sweep`.

    Raises our errors where the whole group can't be measured; a failed job is part of its record.
    """
    from velosweep.sweep import run_sweep

    for path, expected in group.fingerprints.items():
        if not Path(path).is_file():
            raise ModelFileError(f"{path} is missing on this worker", remedy="put the driver's model files there")
        if fingerprint(path) != expected:
            raise ModelFileError(f"{path} is another file on this worker", remedy="put the driver's model files there")
    outcome = run_sweep(
        group.jobs, root=folder, single=False, command=group.command, settings=group.settings, on_line=on_line
    )
    if outcome.exit_status == ExitStatus.INTERRUPTED:
        raise StorageError("The task was asked to end", remedy="run the same command again to go on")


def in_words(error: BaseException) -> str:
    """A task's error as a job's record keeps it."""
    return str(error) if isinstance(error, VelosweepError) else f"{type(error).__name__}: {str(error).strip()[-500:]}"
