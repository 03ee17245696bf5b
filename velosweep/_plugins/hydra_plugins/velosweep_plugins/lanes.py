"""Launcher `gpu_lanes` and sweepers `grid` and `tune` for Hydra; the work is in `velosweep.hydra_app`."""

from velosweep.config.schema import register
from velosweep.hydra_app import launcher, sweepers


class GpuLanes(launcher.LaneLauncher):
    """All jobs together, one serial queue a GPU."""


class Grid(sweepers.GridSweep):
    """Every combination of the values named."""


class Tune(sweepers.TuneSweep):
    """The fastest of those combinations, certified, without measuring all of them."""


register("launcher", "gpu_lanes", "lanes.GpuLanes", dict)
register("sweeper", "grid", "lanes.Grid", sweepers.GridConf)
register("sweeper", "tune", "lanes.Tune", sweepers.GridConf)
