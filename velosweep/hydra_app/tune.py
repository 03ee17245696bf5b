"""Sweeper `tune`: the cells of a grid are candidates, and only what is needed to find the fastest is measured."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from velosweep.errors import ConfigError
from velosweep.hydra_app.grid import GridSweep
from velosweep.hydra_app.launcher import LaneLauncher


class TuneSweep(GridSweep):
    """As the grid sweeper, but the launcher is told to search. Needs the launcher gpu_lanes."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`. Raises ConfigError for a launcher that runs jobs one by one."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        if not isinstance(self._launcher, LaneLauncher):
            raise ConfigError(
                "hydra/sweeper=tune plans all candidates together, and this launcher runs jobs one by one",
                remedy="leave hydra/launcher at gpu_lanes",
            )
        self._launcher.tune = True

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Search the grid that `arguments` span; returns the candidates' JobReturns in one batch."""
        if self.max_batch_size is not None:
            raise ConfigError("hydra.sweeper.max_batch_size splits the candidates", remedy="leave it null")
        return super().sweep(arguments)
