"""Launchers `slurm` and `dask` for Hydra, and their settings; the work is in `velosweep.hydra_app`.

Hydra imports its plugins at every start, so what these need is imported when one is used: half of the time that a
refusal, `--cfg` or the completion of a word takes.
"""

from dataclasses import dataclass, field
from typing import Any

from velosweep.config.keys import check_limits, key
from velosweep.config.schema import register
from velosweep.hydra_app.launcher import LaneLauncher


@dataclass
class SlurmConf:
    """Settings of hydra/launcher=slurm."""

    _target_: str = "???"
    cluster: str = key("slurm", "local and debug run the tasks on this machine", choices=("slurm", "local", "debug"))
    tasks: int | None = key(None, "array tasks to split the jobs into; null: one for each vanilla series", least=1)
    array_parallelism: int = key(256, "tasks that run at the same time, at most", least=1)
    timeout_min: int = key(1440, "minutes that a task may take", least=1)
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    gpus_per_node: int | None = key(None, "GPUs of a task; null: gpus_per_lane, where SLURM has GPUs", least=0)
    cpus_per_task: int | None = key(None, "processors of a task", least=1)
    mem_gb: float | None = key(None, "memory of a task; 0: all that its node has", least=0)
    setup: list[str] = field(default_factory=list)  # shell lines before the task, e.g. module load cuda
    additional_parameters: dict[str, Any] = field(default_factory=dict)  # further sbatch parameters


@dataclass
class DaskConf:
    """Settings of hydra/launcher=dask."""

    _target_: str = "???"
    address: str | None = None  # of a scheduler; null: workers on this machine, one for each of gpus=[...]
    tasks: int | None = key(None, "groups to split the jobs into; null: as many as there are workers", least=1)
    workers: int = key(1, "workers on this machine where no GPUs are named", least=1)
    gpu_resource: int | None = key(
        None, "resource GPU that a group asks of a worker; null: 1 where GPUs are named, else 0", least=0
    )
    allowed_failures: int = key(3, "lost workers after which a group has failed", least=0)


class Slurm(LaneLauncher):
    """A group of jobs is one task of a SLURM array."""

    def __new__(cls, **settings: Any) -> LaneLauncher:  # type: ignore[misc]
        from velosweep.hydra_app.slurm import SlurmLanes

        check_limits(SlurmConf, "hydra.launcher", settings)
        return SlurmLanes(**settings)


class Dask(LaneLauncher):
    """A group of jobs is one future on a Dask worker."""

    def __new__(cls, **settings: Any) -> LaneLauncher:  # type: ignore[misc]
        from velosweep.hydra_app.dask import DaskLanes

        check_limits(DaskConf, "hydra.launcher", settings)
        return DaskLanes(**settings)


register("launcher", "slurm", "machines.Slurm", SlurmConf)
register("launcher", "dask", "machines.Dask", DaskConf)
