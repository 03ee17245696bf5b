"""Launcher `slurm`: each group of jobs is a task of one SLURM array, through submitit. Needs velosweep[slurm].

Results are read from the sweep's folder, which tasks and driver share. A killed task loses at most the run in progress,
and the same command resumes it.
"""

import io
import os
import re
import shlex
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from velosweep.config.settings import RunSettings
from velosweep.errors import ConfigError, Interrupted, VelosweepError
from velosweep.hydra_app.remote import RemoteGroup, RemoteLauncher, import_extra, measure_group, sayer
from velosweep.isolation import python_command
from velosweep.llama_cpp.process import ProgramOutput, ask

_ENDS = {
    "CANCELLED": "was cancelled",
    "TIMEOUT": "ran out of time (hydra.launcher.timeout_min)",
    "DEADLINE": "could not end before its deadline",
    "OUT_OF_MEMORY": "ran out of memory (hydra.launcher.mem_gb)",
    "NODE_FAIL": "lost its node",
    "PREEMPTED": "was preempted",
}
"""What SLURM's states say of tasks that it ended."""
_TIMED_OUT = "timed-out too many times"  # in submitit's words, of a task that was put into the queue again each time
_OVER = {*_ENDS, "COMPLETED", "FAILED", "BOOT_FAIL", "GONE"}
_USUAL = {"Resources", "Priority", "JobArrayTaskLimit", "None", "BeginTime", "Dependency"}
"""What tasks wait for when all is well."""
_LOOK_S = 30.0
"""The longest time between two looks at the queue, which many users share."""


class SlurmLanes(RemoteLauncher):
    """Hydra's launcher contract; settings as `SlurmConf` of our Hydra plugins has them."""

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
            reasons = failures_of(jobs, sayer(settings))
        except KeyboardInterrupt:
            raise Interrupted(
                "No longer waiting; the submitted tasks go on",
                remedy="run the same command again, with hydra.sweep.dir at this sweep's folder, to gather them",
            ) from None
        return {group.name: why for group, why in zip(groups, reasons, strict=True) if why is not None}

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


def failures_of(jobs: Sequence[Any], say: Callable[[str], None]) -> list[str | None]:
    """Wait for tasks; the reason why each brought nothing, in words, None where it did."""
    if not isinstance(jobs[0], import_extra("submitit", "slurm").SlurmJob):  # on this machine
        for job in jobs:
            job.wait()
        return [why_failed(job, lambda task: "") for job in jobs]
    queue = TaskQueue(jobs[0].job_id.partition("_")[0], say)
    queue.wait_for(jobs)
    return [why_failed(job, queue.end_of) for job in jobs]


class TaskQueue:
    """What SLURM says of the tasks of one array; `say` is given a sentence whenever what they wait for changes.

    It is asked of `squeue`, and of `sacct` only for what the queue has forgotten: many clusters keep no accounts.
    """

    def __init__(self, array: str, say: Callable[[str], None]) -> None:
        self._array, self._say, self._said = array, say, ""

    def wait_for(self, jobs: Sequence[Any]) -> None:
        """Wait until each task has a result, or SLURM has ended it without one."""
        began, asked = time.monotonic(), float("-inf")
        over: set[str] = set()
        left = list(jobs)
        while left := [job for job in left if not _has_result(job)]:
            now = time.monotonic()
            if now - asked >= min(_LOOK_S, (now - began) / 10):
                asked, states = now, self.states()
                ended = {task for task, (state, _) in states.items() if state in _OVER}
                # twice: a shared file system may show a result a moment after its task's end
                left = [job for job in left if job.job_id not in over & ended]
                over = ended
                self._tell([states[job.job_id] for job in left])
            time.sleep(1)

    def end_of(self, task: str) -> str:
        """The state in which a task ended, once SLURM has cleaned up after it; at most some seconds later."""
        for _ in range(5):
            if (state := self.states()[task][0]) in _OVER:
                break
            time.sleep(1)
        return state

    def states(self) -> Mapping[str, tuple[str, str]]:
        """Each task's state and the reason for it: GONE where nobody knows it, UNKNOWN where SLURM doesn't answer."""
        said = _ask("squeue", "--noheader", "--states=all", "--array", "--format=%i|%T|%r", f"--jobs={self._array}")
        if said.exit_code != 0 and "Invalid job id" not in said.stderr:
            return defaultdict(lambda: ("UNKNOWN", said.stderr.strip()))
        if not said.stdout:
            asked = ("--noheader", "--parsable2", "--allocations", "--format=JobID,State,Reason")
            said = _ask("sacct", *asked, f"--jobs={self._array}")
        rows = (line.split("|", 2) for line in said.stdout.splitlines() if re.match(r"[^|]+\|\w+[^|]*\|", line))
        return defaultdict(lambda: ("GONE", ""), {task: (state.split()[0], reason) for task, state, reason in rows})

    def _tell(self, states: Sequence[tuple[str, str]]) -> None:
        reasons = Counter(reason for state, reason in states if state == "PENDING")
        parts = [f"{count} waiting" + f" ({why})" * (why != "None") for why, count in reasons.items()]
        if running := sum(state == "RUNNING" for state, _ in states):
            parts.insert(0, f"{running} running")
        parts += {f"no answer ({reason})" for state, reason in states if state == "UNKNOWN"}
        text = f"SLURM job {self._array}: {', '.join(parts)}"
        if set(reasons) - _USUAL:
            text += f"; `sinfo -R` may say why, `scancel {self._array}` ends it"
        if parts and text != self._said:
            self._said = text
            self._say(text)


def why_failed(job: Any, end_of: Callable[[str], str]) -> str | None:
    """Why a task that is over brought nothing, in words, None where it did. `end_of`: a task's last state."""
    reason = f"it ended without a result; its log is {job.paths.stderr}"
    if _has_result(job):
        error = job.exception()
        reason = job.result() if error is None else f"{_raised(str(error))}; its log is {job.paths.stderr}"
        if reason is None:
            return None
    end = _ENDS.get("TIMEOUT" if _TIMED_OUT in str(reason) else end_of(job.job_id))
    return f"task {job.job_id} {end}; run the same command again to go on" if end else f"task {job.job_id}: {reason}"


def _raised(text: str) -> str:
    """The exception's own line of what submitit makes of a task's traceback, which it puts between two rules."""
    lines = [line for line in text.splitlines() if line.strip()]
    rules = [number for number, line in enumerate(lines) if set(line) == {"-"}]
    return lines[rules[-1] - 1 if rules else -1]


def _has_result(job: Any) -> bool:
    """Whether a task's result is there. Listing the folder makes a network file system look anew."""
    return job.paths.result_pickle.name in os.listdir(job.paths.folder)  # noqa: PTH208


def _ask(name: str, *arguments: str) -> ProgramOutput:
    """What a program of SLURM's says; status 127 where it can't be run."""
    program = shutil.which(name)
    try:
        return ask([program, *arguments]) if program else ProgramOutput(127, "", f"there is no {name} here")
    except OSError as error:
        return ProgramOutput(127, "", str(error))


def _has_gpus(partition: str | None) -> bool:
    """Whether SLURM's nodes have GPUs to ask for; True where `sinfo` fails."""
    nodes = _ask("sinfo", "--noheader", "--format=%G", *([f"--partition={partition}"] if partition else []))
    return nodes.exit_code != 0 or "gpu" in nodes.stdout
