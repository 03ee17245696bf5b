"""What an earlier run of the same folder left, and whether it can be built upon."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from velosweep.errors import MismatchError
from velosweep.model import Environment, Job, JobRecord, Sample, Status, Sweep, SweepRecord
from velosweep.running.dispatch import Progress
from velosweep.running.lane import Key
from velosweep.running.prepare import Prepared
from velosweep.storage.journal import read_journal
from velosweep.storage.paths import SweepPaths


def job_record(job: Job) -> JobRecord:
    """A job as sweep.json keeps it."""
    return JobRecord(
        id=job.id,
        num=job.num,
        baseline_id=job.baseline_id,
        directory=job.directory,
        overrides=job.overrides,
        model_pair=job.model_pair.name,
        main_model=job.model_pair.main_model,
        draft_model=job.model_pair.draft_model,
        speculation="+".join(job.speculation.kinds) or "none",
        n_draft=job.n_draft,
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


def adopt(before: SweepRecord | None, sweep: Sweep, environment: Environment, *, now: datetime) -> SweepRecord:
    """The record of this sweep: an earlier one with today's jobs added and their states kept, or a new one."""
    jobs = tuple(job_record(job) for job in sweep.jobs)
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
    again = tuple(
        replace(job, state=known[job.id].state, directory=known[job.id].directory) if job.id in known else job
        for job in jobs
    )
    return replace(before, jobs=tuple(sorted(kept + again, key=lambda job: job.num)))


def check_unchanged(before: SweepRecord, prepared: Prepared, *, force: bool) -> None:
    """Refuse to continue on something else than was measured before; `force` accepts it.

    Raises MismatchError with every difference.
    """
    changed = differences(before.environment, prepared.environment)
    if changed and not force:
        raise MismatchError(
            "this sweep was measured under other conditions: " + "; ".join(changed),
            remedy="start a new sweep, or accept the difference with --force (force=true)",
        )


def differences(old: Environment, new: Environment) -> list[str]:
    """What of host, devices, engine, program and models is no longer the same, in words."""
    named = {
        "host": (old.host, new.host),
        "cpu": (old.cpu, new.cpu),
        "engine": (old.engine, new.engine),
        "llama.cpp build": (old.llama_cpp_build, new.llama_cpp_build),
        "program": (old.program_sha256, new.program_sha256),
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


def earlier_progress(paths: SweepPaths) -> Progress:
    """Good samples of the journal by key, the vanilla outputs and the next order number. Raises StorageError."""
    contents = read_journal(paths.journal)
    done: dict[Key, Sample] = {}
    for sample in contents.samples:
        if sample.status is Status.OK and not sample.warmup:
            done[sample_key(sample)] = sample
    outputs = {
        (event.data["baseline_id"], event.data["prompt_id"]): tuple(event.data["tokens"])
        for event in contents.events
        if event.kind == "output"
    }
    next_order = max((sample.order for sample in contents.samples), default=-1) + 1
    return Progress(done=done, outputs=outputs, next_order=next_order)


def sample_key(sample: Sample) -> Key:
    """The `Measurement.key` that gave this sample."""
    return (sample.job_id, sample.block, sample.launch, sample.iteration, sample.prompt_id)
