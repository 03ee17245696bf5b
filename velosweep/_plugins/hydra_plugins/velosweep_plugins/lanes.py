"""Launcher `gpu_lanes` and sweeper `grid` for Hydra; the work is in `velosweep.hydra_app`."""

from velosweep.hydra_app import grid, launcher, registry
from velosweep.hydra_app import tune as tuner


class GpuLanes(launcher.LaneLauncher):
    """All jobs together, one serial queue a GPU."""


class Grid(grid.GridSweep):
    """Every combination of the values named."""


class Tune(tuner.TuneSweep):
    """The fastest of those combinations, certified, without measuring all of them."""


registry.register("launcher", "gpu_lanes", "lanes.GpuLanes", registry.LauncherConf)
registry.register("sweeper", "grid", "lanes.Grid", registry.GridConf)
registry.register("sweeper", "tune", "lanes.Tune", registry.GridConf)
