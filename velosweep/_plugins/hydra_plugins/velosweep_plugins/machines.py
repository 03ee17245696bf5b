"""Launchers `slurm` and `dask` for Hydra; the work is in `velosweep.hydra_app`. Their packages load when used."""

from velosweep.config.schema import register
from velosweep.hydra_app import dask, slurm


class Slurm(slurm.SlurmLanes):
    """A queue of jobs is one task of a SLURM array."""


class Dask(dask.DaskLanes):
    """A queue of jobs is one future on a Dask worker."""


register("launcher", "slurm", "machines.Slurm", slurm.SlurmConf)
register("launcher", "dask", "machines.Dask", dask.DaskConf)
