"""What an earlier run of the same sweep left, and whether this run can go on from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from velosweep.config.settings import Job, Sweep
from velosweep.errors import MismatchError
from velosweep.measuring.prepare import Prepared
from velosweep.measuring.sample_rows import OutputKey
from velosweep.planning.identity import identify
from velosweep.planning.server_groups import Key, ServerGroup, plan_groups, sample_key
from velosweep.records import Environment, JobRecord, SweepRecord
from velosweep.results.journal import JournalEvent, read_journal
from velosweep.results.paths import SweepPaths
from velosweep.values import Sample, Status


@dataclass(frozen=True, slots=True)
class CompletedRun:
    """What is remembered of a good sample: a sweep keeps tens of thousands of these, and the journal all the rest."""

    predicted_tokens: int
    predicted_ms: float
    total_ms: float

    @classmethod
    def of(cls, sample: Sample) -> CompletedRun:
        """The sample's figures."""
        return cls(sample.predicted_tokens or 0, sample.predicted_ms or 0.0, sample.total_time_ms or 0.0)

    @property
    def tokens_per_second(self) -> float:
        """Decoding speed, as `Sample.tokens_per_second`; 0 where the time is unknown."""
        return (self.predicted_tokens - 1) / self.predicted_ms * 1000 if self.predicted_ms else 0.0


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What an earlier run of this sweep left.

    Good samples by `Measurement.key`, vanilla outputs, the next order number, and the group of each job as (baseline
    id, number).
    """

    done: dict[Key, CompletedRun] = field(default_factory=dict)
    outputs: dict[OutputKey, tuple[int, ...]] = field(default_factory=dict)
    next_order: int = 0
    groups: dict[str, tuple[str, int]] = field(default_factory=dict)


def job_record(job: Job, server_arguments: tuple[str, ...] = ()) -> JobRecord:
    """A job as sweep.json keeps it."""
    return JobRecord(
        id=job.id,
        server_arguments=server_arguments,
        num=job.num,
        baseline_id=job.baseline_id,
        directory=job.directory,
        overrides=job.overrides,
        model_pair=job.model_pair.name,
        main_model=job.model_pair.main_model,
        draft_model=job.model_pair.draft_model,
        speculation=job.speculation.label,
        n_draft=job.n_draft if job.speculation.kinds else 0,
        n_predict=job.n_predict,
        prompt_set=job.prompts.name,
        prompt_ids=tuple(prompt.id for prompt in job.prompts.prompts),
        iterations=job.protocol.adaptive.max_pairs if job.protocol.adaptive else job.protocol.iterations,
        launches=job.protocol.launches,
        protocol=job.protocol.name,
        order=job.protocol.order,
        adaptive_target=job.protocol.adaptive.target if job.protocol.adaptive else None,
        target_speedup=job.target_speedup,
        skip_vanilla=job.skip_vanilla,
        synthetic=job.model_pair.synthetic is not None,
        output=job.output,
    )


def adopt(
    before: SweepRecord | None,
    sweep: Sweep,
    environment: Environment,
    *,
    now: datetime,
    accepted: Sequence[str] = (),
    arguments_of: Callable[[Job], tuple[str, ...]] = lambda job: (),
) -> SweepRecord:
    """The record of this sweep: an earlier one with today's jobs added and their states kept, or a new one.

    An earlier one keeps its environment: `accepted` says what was different when it went on.
    Raises MismatchError where a job of today would overwrite another one's results.
    """
    jobs = tuple(job_record(job, arguments_of(job)) for job in sweep.jobs)
    if before is None:
        return SweepRecord(
            sweep_id=sweep.id,
            created_at=now,
            command=sweep.command,
            single=sweep.single,
            jobs=jobs,
            environment=environment,
            working_directory=str(Path.cwd()),
        )
    known = {job.id: job for job in before.jobs}
    asked = {job.id for job in jobs}
    kept = tuple(job for job in before.jobs if job.id not in asked)
    _refuse_overwriting(kept, [job for job in jobs if job.id not in known], sweep.root)
    again = tuple(
        replace(job, state=known[job.id].state, error=known[job.id].error, directory=known[job.id].directory)
        if job.id in known
        else job
        for job in jobs
    )
    return replace(
        before,
        jobs=tuple(sorted(kept + again, key=lambda job: job.num)),
        accepted=tuple(dict.fromkeys((*before.accepted, *accepted))),
    )


def _refuse_overwriting(kept: Sequence[JobRecord], added: Sequence[JobRecord], root: str) -> None:
    places = {job.directory: job for job in kept}
    for job in added:
        other = places.get(job.directory)
        if other is not None:
            raise MismatchError(
                f"job {job.num} ({' '.join(job.overrides)}) would overwrite the results of job {other.num} "
                f"({' '.join(other.overrides)}) in {root}",
                remedy="choose another hydra.sweep.dir for another sweep; velosweep resume goes on with this one",
            )


def on_earlier_terms(before: SweepRecord, prepared: Prepared, *, force: bool) -> tuple[Prepared, tuple[str, ...]]:
    """What was prepared, made fit to go on with an earlier sweep; and the differences that were accepted by `force`.

    What differs from the earlier environment is refused (MismatchError with every difference). Where it is accepted,
    jobs keep the identity that they had with the earlier files, so that what was measured with those counts.
    """
    changed = tuple(differences(before.environment, prepared.environment))
    if changed and not force:
        raise MismatchError(
            "this sweep was measured under other conditions: " + "; ".join(changed),
            remedy="start a new sweep, or accept the difference with --force (force=true)",
        )
    if not changed:
        return prepared, ()
    content = {model.path: model.fingerprint for model in prepared.environment.models}
    content |= {model.path: model.fingerprint for model in before.environment.models}
    program, digest = prepared.environment.program, before.environment.program_sha256
    if program is not None and digest is not None:
        content[program] = digest
    return replace(prepared, jobs=identify(prepared.jobs, content)), changed


def differences(old: Environment, new: Environment) -> list[str]:
    """What of host, devices, engine, program and models is no longer the same, in words."""
    named = {
        "host": (old.host, new.host),
        "cpu": (old.cpu, new.cpu),
        "engine": (old.engine, new.engine),
        "llama.cpp build": (old.llama_cpp_build, new.llama_cpp_build),
        "program": (_short(old.program_sha256), _short(new.program_sha256)),
        "devices": (
            ", ".join(device.uuid or device.name for device in old.devices),
            ", ".join(device.uuid or device.name for device in new.devices),
        ),
    }
    changed = [f"{name} was {was}, is {now}" for name, (was, now) in named.items() if was != now]
    models = {model.path: model for model in new.models}
    for model in old.models:
        now_there = models.get(model.path)
        if now_there is not None and now_there.fingerprint != model.fingerprint:
            changed.append(f"the file {model.path} is another one (was {model.size_bytes} bytes of other content)")
    return changed


def _short(digest: str | None) -> str | None:
    return digest and digest[:12]


def plan_with_earlier(
    jobs: Sequence[Job], earlier: Mapping[str, tuple[str, int]], *, lanes: int, resident_servers: Callable[[Job], int]
) -> tuple[ServerGroup, ...]:
    """Groups as they were planned before (`earlier`: by job id), and new ones, numbered on, for the jobs not in them.

    A job stays with the baseline that it was measured against, however much memory or how many lanes there are
    today. Only where a former group no longer fits into memory are its jobs planned, and measured, anew.
    """
    former: dict[tuple[str, int], list[Job]] = {}
    new: list[Job] = []
    for job in jobs:
        if job.id in earlier:
            former.setdefault(earlier[job.id], []).append(job)
        else:
            new.append(job)
    groups: list[ServerGroup] = []
    for (_, number), together in former.items():
        (group, *more) = plan_groups(together, resident_servers=resident_servers)
        if more:
            new += together
        else:
            groups.append(replace(group, number=number))
    first: dict[str, int] = {}
    for baseline_id, number in earlier.values():
        first[baseline_id] = max(first.get(baseline_id, 0), number + 1)
    for group in plan_groups(new, lanes=lanes, resident_servers=resident_servers) if new else ():
        groups.append(replace(group, number=group.number + first.get(group.jobs[0].baseline_id, 0)))
    return tuple(groups)


def plan_as_data(groups: Sequence[ServerGroup]) -> list[list[object]]:
    """The groups as the journal keeps them: baseline id, number and job ids of each."""
    return [[group.jobs[0].baseline_id, group.number, [job.id for job in group.jobs]] for group in groups]


def earlier_progress(paths: SweepPaths) -> Progress:
    """What the journal holds. Raises StorageError."""
    contents = read_journal(paths.journal)
    done: dict[Key, CompletedRun] = {}
    for sample in contents.samples:
        if sample.status is Status.OK and not sample.warmup:
            done[sample_key(sample)] = CompletedRun.of(sample)
    outputs = {
        (event.data["baseline_id"], event.data["prompt_id"]): tuple(event.data["tokens"])
        for event in contents.events
        if event.kind == "output"
    }
    next_order = max((sample.order for sample in contents.samples), default=-1) + 1
    return Progress(done=done, outputs=outputs, next_order=next_order, groups=_earlier_groups(contents.events))


def _earlier_groups(events: Sequence[JournalEvent]) -> dict[str, tuple[str, int]]:
    """The last plan that each job was part of."""
    groups: dict[str, tuple[str, int]] = {}
    for event in events:
        if event.kind == "plan":
            for baseline_id, number, job_ids in event.data["blocks"]:
                groups.update(dict.fromkeys(job_ids, (baseline_id, number)))
    return groups


def clear_leftovers(root: Path) -> None:
    """Remove half-written files that a killed process left. Only for whoever holds the sweep's lock."""
    for path in root.rglob(".*.part"):
        with suppress(OSError):  # what can't be removed does no harm but to look at
            path.unlink()
