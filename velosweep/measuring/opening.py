"""Opening a sweep's folder: a new one, or one with an earlier sweep, which is resumed where nothing has changed."""

import os
import secrets
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import datetime, timezone
from pathlib import Path

from velosweep.config.settings import Job, RunSettings
from velosweep.errors import MismatchError, StorageError
from velosweep.llama_cpp.selection import server_command_name
from velosweep.llama_cpp.server_command import request_arguments
from velosweep.measuring.prepare import Prepared
from velosweep.measuring.resuming import EarlierResults, earlier_progress
from velosweep.planning.identity import identify, speculative_server, vanilla_server
from velosweep.planning.job_settings import other_settings
from velosweep.records import Environment, JobRecord, SweepRecord
from velosweep.results.journal import read_journal
from velosweep.results.paths import SweepPaths
from velosweep.results.sweep_record import read_record
from velosweep.units import plural


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedSweep:
    """A sweep as it is when measuring begins. `accepted`: differences from earlier runs that `force` allowed."""

    root: Path
    prepared: Prepared
    record: SweepRecord
    progress: EarlierResults
    accepted: tuple[str, ...]


def open_sweep(
    root: Path, prepared: Prepared, settings: RunSettings, *, command: Sequence[str], single: bool
) -> OpenedSweep:
    """Open a new sweep or resume an earlier one. The caller holds the folder's lock.

    Raises MismatchError where the earlier one was measured under other conditions or holds other jobs' results.
    """
    paths = SweepPaths(root)
    before = read_record(paths.record) if paths.record.is_file() else None
    accepted: tuple[str, ...] = ()
    if before:
        for path in paths.root.rglob(".*.part"):  # half-written files that a killed process left
            with suppress(OSError):  # what can't be removed does no harm
                path.unlink()
        prepared, accepted = keep_earlier_ids(before, prepared, force=settings.force)
    record = SweepRecord(
        sweep_id=secrets.token_hex(8),
        created_at=datetime.now(timezone.utc),
        command=tuple(command),
        single=single,
        jobs=tuple(_job_record(job, prepared) for job in prepared.jobs),
        environment=prepared.environment,
        working_directory=str(Path.cwd()),
    )
    if before:
        record = merge_records(before, record, root, accepted=accepted)
    progress = earlier_progress(paths) if before else EarlierResults()
    if accepted:  # another llama.cpp or machine: what the former one answered and refused says nothing of it
        progress = replace(progress, outputs={}, refused={})
    return OpenedSweep(
        root=root,
        prepared=prepared,
        record=replace(record, tuner=settings.tuner, show_paths=settings.report_paths, plots=settings.report_plots),
        progress=progress,
        accepted=accepted,
    )


def refuse_unfit_folder(root: Path) -> None:
    """Raise StorageError for the folder of a sweep that lost its journal or its sweep.json, MismatchError for one that
    other machines measured, each with a vanilla of its own."""
    paths = SweepPaths(root)
    record = read_record(paths.record) if paths.record.is_file() else None
    if record and paths.samples.is_file() and not paths.journal.is_file():
        anew = f"measure anew in another folder: velosweep rerun {shlex.quote(str(root))}"
        raise StorageError(
            f"{root} lacks its {paths.journal.name}: {paths.samples.name} would lose the runs in it",
            remedy=f"put it back from a copy, or {anew}",
        )
    if not record and paths.journal.is_file() and read_journal(paths.journal).samples:
        raise StorageError(
            f"{root} lacks its {paths.record.name}: the runs there would be mixed with new ones",
            remedy="put it back from a copy, or choose another folder; velosweep report shows what was measured",
        )
    if not (record.shared_out if record else paths.groups.is_dir()):
        return
    again = "go on with the same command as before"
    if record:
        words = record.command
        folder = () if any(word.startswith("hydra.sweep.dir=") for word in words) else (f"hydra.sweep.dir={root}",)
        again = f"go on with: {shlex.join((*words, *folder))}"
    raise MismatchError(
        f"{root} can't be measured further on this machine alone. Its groups were measured elsewhere, by SLURM or Dask",
        remedy=f"{again}; for another sweep choose another hydra.sweep.dir",
    )


def refuse_unwritable_names(jobs: Sequence[Job], root: Path, command: Sequence[str]) -> None:
    """Raise StorageError for a name whose bytes are no UTF-8: no file of ours could hold it."""
    names = {"folder for results": str(root), "current folder": os.getcwd(), "command": " ".join(command)}  # noqa: PTH109
    for job in jobs:
        for path in (job.model_pair.main_model, job.model_pair.draft_model, job.engine.program, job.output):
            names[f"file {path}"] = path or ""
    for what, name in names.items():
        try:
            name.encode()
        except UnicodeEncodeError as error:
            byte = ord(name[error.start]) & 0xFF
            raise StorageError(
                f"The {what} has a byte in its name that is no UTF-8 text (0x{byte:02X}): {name}",
                remedy="rename it, or work with another folder",
            ) from None


def _job_record(job: Job, prepared: Prepared) -> JobRecord:
    own, vanilla = (prepared.server_arguments(server(job)) for server in (speculative_server, vanilla_server))
    asked = request_arguments(job)
    return replace(
        job_record(job, own and (*own, *asked)),
        vanilla_arguments=vanilla and (*vanilla, *asked),
        server_program=server_command_name(job.engine, os.environ),
    )


_PARTS = {"model_pair", "speculation", "protocol"}  # of which a record has the names
_OF_JOB = ({field.name for field in fields(JobRecord)} & {field.name for field in fields(Job)}) - _PARTS


def job_record(job: Job, server_arguments: tuple[str, ...] = ()) -> JobRecord:
    """A job as sweep.json keeps it, pending; n_draft is 0 without speculation."""
    pair, prompts, protocol, adaptive = job.model_pair, job.prompts, job.protocol, job.protocol.adaptive
    values = {name: getattr(job, name) for name in _OF_JOB}
    return JobRecord(
        **values | {"n_draft": job.n_draft if job.speculation.kinds else 0},
        server_arguments=server_arguments,
        model_pair=pair.name,
        main_model=pair.main_model,
        draft_model=pair.draft_model,
        speculation=job.speculation.label,
        prompt_set=prompts.name,
        prompt_ids=tuple(prompt.id for prompt in prompts.prompts),
        iterations=(adaptive.max_pairs if adaptive else protocol.iterations) + sum(job.added),
        launches=protocol.launches,
        protocol=protocol.name,
        order=protocol.order,
        adaptive_target=adaptive.target if adaptive else None,
        adaptive_confidence=adaptive.confidence if adaptive else None,
        synthetic=pair.synthetic is not None,
        settings=other_settings(job),
    )


def merge_records(before: SweepRecord, today: SweepRecord, root: Path, *, accepted: Sequence[str] = ()) -> SweepRecord:
    """The record of an earlier sweep with today's jobs added and the states of those that it knew kept.

    `accepted`: what was unlike its environment when it went on. Raises MismatchError for what would be written over.
    """
    known, own = {job.id: job for job in before.jobs}, "hydra.run.dir" if today.single else "hydra.sweep.dir"
    if today.single and not before.single and any(job.id not in known for job in today.jobs):
        raise MismatchError(
            f"{root} holds a sweep of {plural(len(before.jobs), 'setting')}, which a single job would join",
            remedy="choose another hydra.run.dir; to add a setting to the sweep run it with -m and hydra.sweep.dir",
        )
    together = _others(before.jobs, today.jobs)
    places = {job.directory: job for job in together}
    for job in today.jobs:
        former, other = known.get(job.id), places.get(job.directory)
        if former is not None:
            job = _with_former(job, former)
        elif other is not None:
            raise MismatchError(
                f"{_unlike(job, other)} would overwrite the results of {_unlike(other, job)} in {root}",
                remedy=f"choose another {own}; velosweep resume goes on with this one",
            )
        together.append(job)
    return replace(
        before,
        jobs=tuple(sorted(together, key=lambda job: job.num)),
        accepted=tuple(dict.fromkeys((*before.accepted, *accepted))),
    )


def _unlike(job: JobRecord, other: JobRecord) -> str:
    """`job 0 (n_predict=30)`: its number, and what was set for it alone."""
    own = [override for override in job.overrides if override not in other.overrides]
    return f"job {job.num} ({' '.join(own)})" if own else f"job {job.num}"


def _with_former(job: JobRecord, former: JobRecord) -> JobRecord:
    """A job of today with what is known of it from before."""
    kept = {name: getattr(former, name) for name in ("state", "error", "directory")}
    job = replace(job, **kept, twins=job.twins or former.twins)
    if len(job.added) < len(former.added):  # the first command again, after `velosweep more`
        job = replace(job, added=former.added, iterations=former.iterations)
    return job


def _others(before: Sequence[JobRecord], jobs: Sequence[JobRecord]) -> list[JobRecord]:
    """Earlier jobs that are none of `jobs`, nor left unmeasured because one of them is now known to be the same run."""
    asked = {job.id for job in jobs}
    twins = {(num, job.baseline_id, job.speculation, job.n_draft) for job in jobs for num in job.twins}
    return [
        job
        for job in before
        if job.id not in asked
        and (job.state != "pending" or (job.num, job.baseline_id, job.speculation, job.n_draft) not in twins)
    ]


def keep_earlier_ids(before: SweepRecord, prepared: Prepared, *, force: bool) -> tuple[Prepared, tuple[str, ...]]:
    """`prepared`, changed to resume an earlier sweep, and the differences that were accepted because of `force`.

    Raises MismatchError, naming every difference from the earlier environment, without `force`. With it, jobs keep the
    identity that they had with the earlier files, so that earlier measurements count.
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
        "program": tuple(digest and digest[:12] for digest in (old.program_sha256, new.program_sha256)),
        "devices": tuple(", ".join(one.uuid or one.name for one in where.devices) for where in (old, new)),
    }
    if new.engine == "attached":  # what it runs on is not known, though older versions named this machine's processor
        del named["devices"]
    changed = [f"{name} was {was}, is {now}" for name, (was, now) in named.items() if was != now]
    models = {model.path: model for model in new.models}
    for model in old.models:
        now_there = models.get(model.path)
        if now_there is not None and now_there.fingerprint != model.fingerprint:
            changed.append(f"the file {model.path} is another one (was {model.size_bytes} bytes of other content)")
    return changed
