"""Launcher `gpu_lanes` and sweeper `grid` for Hydra; the work is in `velosweep.sweeping`."""

from velosweep.sweeping import grid, launcher, registry


class GpuLanes(launcher.LaneLauncher):
    """All jobs together, one serial queue a GPU."""


class Grid(grid.GridSweep):
    """Every combination of the values named."""


registry.register("launcher", "gpu_lanes", "lanes.GpuLanes", registry.LauncherConf)
registry.register("sweeper", "grid", "lanes.Grid", registry.GridConf)
