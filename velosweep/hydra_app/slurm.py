"""Launcher `slurm`: each group of jobs is a task of one SLURM array, through submitit. Needs velosweep[slurm].

Results are read from the sweep's folder, which workers and driver share: a killed task costs at most the run under
way, and the same command again goes on.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from velosweep.config.settings import RunSettings
from velosweep.errors import ConfigError, Interrupted, install_extra
from velosweep.hydra_app.groups import RemoteGroup, in_words, measure_group
from velosweep.hydra_app.remote import RemoteLauncher
from velosweep.isolation import python_command


@dataclass
class SlurmConf:
    """Settings of hydra/launcher=slurm. `cluster`: slurm; local and debug run the tasks on this machine."""

    _target_: str = "???"
    cluster: str = "slurm"
    tasks: int | None = None  # array tasks to share the jobs out over; null: one for each vanilla series
    array_parallelism: int = 256
    timeout_min: int = 1440
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    gpus_per_node: int | None = None  # null: gpus_per_lane
    cpus_per_task: int | None = None
    mem_gb: float | None = None
    setup: list[str] = field(default_factory=list)  # shell lines before the task, e.g. module load cuda
    additional_parameters: dict[str, Any] = field(default_factory=dict)  # further sbatch parameters


class SlurmLanes(RemoteLauncher):
    """Hydra's launcher contract; settings as in SlurmConf."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def tasks(self, settings: RunSettings) -> int | None:
        """How many groups are wanted."""
        wanted: int | None = self._settings["tasks"]
        return wanted

    def run_groups(self, groups: Sequence[RemoteGroup], root: Path, settings: RunSettings) -> dict[str, str]:
        """Submit all groups as one array and wait; returns failures by group name, in words."""
        submitit = _submitit()
        python = shlex.join(python_command())  # submitit appends -u -m submitit.core._submit FOLDER
        executor = submitit.AutoExecutor(
            folder=root / ".submitit", cluster=self._settings["cluster"], slurm_python=python, local_python=python
        )
        executor.update_parameters(**self._parameters(settings))
        jobs = executor.map_array(GroupTask(), list(groups), [str(group.folder(root)) for group in groups])
        failures: dict[str, str] = {}
        try:
            for group, job in zip(groups, jobs, strict=True):
                try:
                    job.wait()
                    error = job.exception()
                except submitit.core.utils.UncompletedJobError as lost:
                    error = lost
                if error is not None:
                    failures[group.name] = f"task {job.job_id}: {in_words(error)}"
        except KeyboardInterrupt:
            raise Interrupted(
                "No longer waiting; the submitted tasks go on",
                remedy="run the same command again, with hydra.sweep.dir at this sweep's folder, to gather them",
            ) from None
        return failures

    def _parameters(self, settings: RunSettings) -> Mapping[str, Any]:
        """submitit's parameters; those of SLURM alone are left out elsewhere."""
        own = self._settings
        gpus = own["gpus_per_node"] if own["gpus_per_node"] is not None else settings.gpus_per_lane
        shared = {
            "name": "velosweep",
            "timeout_min": own["timeout_min"],
            "gpus_per_node": gpus if own["cluster"] == "slurm" else None,
            "cpus_per_task": own["cpus_per_task"],
            "mem_gb": own["mem_gb"],
        }
        slurm = {
            "slurm_array_parallelism": own["array_parallelism"],
            "slurm_partition": own["partition"],
            "slurm_account": own["account"],
            "slurm_qos": own["qos"],
            "slurm_setup": list(own["setup"]) or None,
            "slurm_additional_parameters": dict(own["additional_parameters"]) or None,
        }
        wanted = {**shared, **slurm}
        return {name: value for name, value in wanted.items() if value is not None}


class GroupTask:
    """Measures a group in a folder that the driver can read; submitit sends it to another process."""

    def __call__(self, group: RemoteGroup, folder: str) -> None:
        """As `measure_group`."""
        measure_group(group, Path(folder))

    def checkpoint(self, group: RemoteGroup, folder: str) -> Any:
        """submitit's hook when a task is preempted or out of time: submit it again, it goes on where it was."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, group, folder)


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise ConfigError("hydra/launcher=slurm needs the package submitit", remedy=install_extra("slurm")) from error
    return submitit
