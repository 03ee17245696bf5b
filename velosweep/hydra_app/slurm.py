"""Launcher `slurm`: each group of jobs is a task of one SLURM array, through submitit. Needs velosweep[slurm].

Results are read from the sweep's folder, which tasks and driver share. A killed task loses at most the run in progress,
and the same command resumes it.
"""

import io
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from velosweep.config.settings import RunSettings
from velosweep.errors import ConfigError, Interrupted, VelosweepError
from velosweep.hydra_app.remote import RemoteGroup, RemoteLauncher, error_text, import_extra, measure_group
from velosweep.isolation import python_command


@dataclass
class SlurmConf:
    """Settings of hydra/launcher=slurm. `cluster`: slurm; local and debug run the tasks on this machine."""

    _target_: str = "???"
    cluster: str = "slurm"
    tasks: int | None = None  # array tasks to split the jobs into; null: one for each vanilla series
    array_parallelism: int = 256
    timeout_min: int = 1440
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    gpus_per_node: int | None = None  # null: gpus_per_lane, where SLURM has GPUs
    cpus_per_task: int | None = None
    mem_gb: float | None = None
    setup: list[str] = field(default_factory=list)  # shell lines before the task, e.g. module load cuda
    additional_parameters: dict[str, Any] = field(default_factory=dict)  # further sbatch parameters


_ENDS = {
    "CANCELLED": "was cancelled",
    "TIMEOUT": "ran out of time (hydra.launcher.timeout_min)",
    "OUT_OF_MEMORY": "ran out of memory (hydra.launcher.mem_gb)",
    "NODE_FAIL": "lost its node",
    "PREEMPTED": "was preempted",
}
"""What SLURM's states say of tasks that it ended."""
_LOOK_S = 5.0


class SlurmLanes(RemoteLauncher):
    """Hydra's launcher contract; settings as in SlurmConf."""

    def tasks(self, settings: RunSettings) -> int | None:
        """How many groups are wanted. Raises ConfigError where this machine can't submit tasks."""
        import_extra("submitit", "slurm")
        if self._settings["cluster"] == "slurm" and shutil.which("srun") is None:
            raise ConfigError(
                "hydra/launcher=slurm needs SLURM's programs, and there is no srun on this machine",
                remedy="start velosweep on a login node of the cluster, or leave hydra/launcher at gpu_lanes",
            )
        return None if self._settings["tasks"] is None else int(self._settings["tasks"])

    def run_groups(self, groups: Sequence[RemoteGroup], root: Path, settings: RunSettings) -> dict[str, str]:
        """Submit all groups as one array and wait; returns failures by group name, in words."""
        submitit = import_extra("submitit", "slurm")
        python = shlex.join(python_command())  # submitit appends -u -m submitit.core._submit FOLDER
        executor = submitit.AutoExecutor(
            folder=root / ".submitit", cluster=self._settings["cluster"], slurm_python=python, local_python=python
        )
        executor.update_parameters(**self._parameters(settings))
        try:
            with redirect_stderr(io.StringIO()):  # submitit prints what it raises
                jobs = executor.map_array(GroupTask(), list(groups), [str(group.folder(root)) for group in groups])
        except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
            raise ConfigError(
                f"SLURM refused the tasks: {str(error).strip().splitlines()[0].removeprefix('sbatch: error: ')}",
                remedy="what they ask for is set by hydra.launcher.partition, .gpus_per_node, .cpus_per_task, .mem_gb",
            ) from error
        try:
            reasons = {group.name: why_failed(job) for group, job in zip(groups, jobs, strict=True)}
        except KeyboardInterrupt:
            raise Interrupted(
                "No longer waiting; the submitted tasks go on",
                remedy="run the same command again, with hydra.sweep.dir at this sweep's folder, to gather them",
            ) from None
        return {name: reason for name, reason in reasons.items() if reason is not None}

    def _parameters(self, settings: RunSettings) -> Mapping[str, Any]:
        """submitit's parameters, without those that are null."""
        own = self._settings
        gpus = own["gpus_per_node"]
        if own["cluster"] == "slurm" and gpus is None:
            gpus = settings.gpus_per_lane if settings.gpus != () and _has_gpus(own["partition"]) else 0
        wanted = {
            "name": "velosweep",
            "timeout_min": own["timeout_min"],
            "gpus_per_node": (gpus or None) if own["cluster"] == "slurm" else None,
            "cpus_per_task": own["cpus_per_task"],
            "mem_gb": own["mem_gb"],
            "slurm_array_parallelism": own["array_parallelism"],
            "slurm_partition": own["partition"],
            "slurm_account": own["account"],
            "slurm_qos": own["qos"],
            "slurm_setup": list(own["setup"]) or None,
            "slurm_additional_parameters": dict(own["additional_parameters"]) or None,
        }
        return {name: value for name, value in wanted.items() if value is not None}


class GroupTask:
    """The function that submitit runs in a task: measures a group in a folder that the driver reads."""

    def __call__(self, group: RemoteGroup, folder: str) -> str | None:
        """The reason why the group could not be measured, None where it was. Bugs are raised."""
        try:
            measure_group(group, Path(folder))
        except VelosweepError as error:
            return str(error)
        return None

    def checkpoint(self, group: RemoteGroup, folder: str) -> Any:
        """submitit calls this when a task is preempted or out of time: submit it again to resume."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, group, folder)


def why_failed(job: Any) -> str | None:
    """Wait for a task; the reason why it has no result, in words, None where it has one."""
    submitit = import_extra("submitit", "slurm")
    ended = _wait_for(job) if isinstance(job, submitit.SlurmJob) else job.wait()
    if ended is not None:
        how = _ENDS.get(ended, "is no longer known to SLURM, and left no result")
        return f"task {job.job_id} {how}; run the same command again to go on"
    error = job.exception()
    reason = error_text(error) if error is not None else job.result()
    if reason is None:
        return None
    end = _ENDS.get(str(job.state).partition(" ")[0])
    return f"task {job.job_id} {end}; run the same command again to go on" if end else f"task {job.job_id}: {reason}"


def _wait_for(job: Any) -> str | None:
    """Wait for a task's result, or its end by SLURM's accounting; without that, its last state, which has no result."""
    seen = 0
    while not job.done():
        state = _state_in_queue(job.job_id)
        seen = 0 if state is None else seen + 1
        if state is not None and seen > 1:  # a shared file system may show its result a moment later
            return state
        time.sleep(_LOOK_S)
    return None


def _state_in_queue(task: str) -> str | None:
    """The state in which a task ended, as far as `squeue` knows; None while it waits or runs, and where that fails."""
    submitit = import_extra("submitit", "slurm")
    command = ["squeue", "--noheader", "--states=all", "--array", "--format=%T", f"--jobs={task}"]
    try:
        states = submitit.helpers.CommandFunction(command, verbose=False)().split()
    except (OSError, submitit.core.utils.FailedJobError) as error:
        return "GONE" if "Invalid job id" in str(error) else None
    return states[0] if states and states[0] in (*_ENDS, "COMPLETED", "FAILED", "BOOT_FAIL", "DEADLINE") else None


def _has_gpus(partition: str | None) -> bool:
    """Whether SLURM's nodes have GPUs to ask for; True where `sinfo` fails."""
    submitit = import_extra("submitit", "slurm")
    command = ["sinfo", "--noheader", "--format=%G", *([f"--partition={partition}"] if partition else [])]
    try:
        return "gpu" in submitit.helpers.CommandFunction(command, verbose=False)()
    except (OSError, submitit.core.utils.FailedJobError):
        return True
