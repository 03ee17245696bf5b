"""Launchers `slurm` and `dask` for Hydra, and their settings; the work is in `velosweep.hydra_app`.

Hydra imports its plugins at every start, so what these need is imported when one is used: half of the time that a
refusal, `--cfg` or the completion of a word takes.
"""

from dataclasses import dataclass, field
from typing import Any

from velosweep.config.schema import register
from velosweep.hydra_app.launcher import LaneLauncher


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


@dataclass
class DaskConf:
    """Settings of hydra/launcher=dask."""

    _target_: str = "???"
    address: str | None = None  # of a scheduler; null: workers on this machine, one for each of gpus=[...]
    tasks: int | None = None  # groups to split the jobs into; null: as many as there are workers
    workers: int = 1  # workers on this machine where no GPUs are named
    gpu_resource: int | None = None  # resource GPU that a group asks of a worker; null: 1 where GPUs are named, else 0
    allowed_failures: int = 3  # lost workers after which a group has failed


class Slurm(LaneLauncher):
    """A group of jobs is one task of a SLURM array."""

    def __new__(cls, **settings: Any) -> LaneLauncher:  # type: ignore[misc]
        from velosweep.hydra_app.slurm import SlurmLanes

        return SlurmLanes(**settings)


class Dask(LaneLauncher):
    """A group of jobs is one future on a Dask worker."""

    def __new__(cls, **settings: Any) -> LaneLauncher:  # type: ignore[misc]
        from velosweep.hydra_app.dask import DaskLanes

        return DaskLanes(**settings)


register("launcher", "slurm", "machines.Slurm", SlurmConf)
register("launcher", "dask", "machines.Dask", DaskConf)
