"""Sweepers `grid` (every combination of the values named) and `tune` (the fastest of them); both launch one batch.

Hydra's basic sweeper composes each job once just for validation and raises after the first failed job. Here only the
launcher composes, and a failed job is a result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from velosweep.config.hydra_errors import translate
from velosweep.config.keys import check_limits, key
from velosweep.errors import ConfigError, ExitStatus
from velosweep.hydra_app.launcher import LaneLauncher
from velosweep.hydra_app.refused_folders import undone_if_refused
from velosweep.hydra_app.task import JobTask
from velosweep.results.sweep_record import SweepOutcome, refuse_job_folder


@dataclass
class GridConf:
    """Settings of the sweeper `grid`."""

    _target_: str = "???"
    max_batch_size: int | None = key(None, "jobs that are handed over at a time, at most; null: all", least=1)
    params: dict[str, str] | None = None
    grids: list[list[str]] | None = None


class GridSweep(Sweeper):
    """Hydra's sweeper contract. `params` are overrides from YAML; the command line wins over them.

    `max_batch_size` hands jobs over in batches; leave it null, since jobs of different batches share nothing.
    `grids`: several grids in one sweep, each a list of overrides that are added to all others.
    """

    def __init__(
        self,
        max_batch_size: int | None = None,
        params: dict[str, str] | None = None,
        grids: Sequence[Sequence[str]] | None = None,
    ) -> None:
        check_limits(GridConf, "hydra.sweeper", {"max_batch_size": max_batch_size})
        self.max_batch_size = max_batch_size
        self.params = dict(params or {})
        self.grids = [list(grid) for grid in grids or ()] or [[]]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`."""
        self._context = hydra_context
        self._task = task_function
        self._config = config
        self._launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Write multirun.yaml and launch all jobs; returns their JobReturns by batch."""
        common = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        jobs = [job for grid in self.grids for job in expand([*common, *grid], self._context)]
        size = self.max_batch_size or len(jobs)
        sweep_dir = Path(str(self._config.hydra.sweep.dir)).absolute()
        refuse_job_folder(sweep_dir)
        batches: list[Sequence[JobReturn]] = []
        outcomes: list[SweepOutcome] = []
        with undone_if_refused(sweep_dir):
            if not OmegaConf.select(self._config, "dry_run"):
                sweep_dir.mkdir(parents=True, exist_ok=True)
                OmegaConf.save(self._config, sweep_dir / "multirun.yaml")
            for first in range(0, len(jobs), size):
                batches.append(self._launcher.launch(jobs[first : first + size], initial_job_idx=first))
                if isinstance(self._task, JobTask) and self._task.outcome is not None:
                    outcomes.append(self._task.outcome)
                    if outcomes[-1].exit_status == ExitStatus.INTERRUPTED:
                        break
        if isinstance(self._task, JobTask):
            self._task.outcome = SweepOutcome.together(outcomes) if outcomes else outcome_of(batches)
        return batches


class TuneSweep(GridSweep):
    """As the grid sweeper, but the launcher searches the jobs for the fastest. Needs the launcher gpu_lanes."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`. Raises ConfigError where the candidates would not be planned together."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        if not isinstance(self._launcher, LaneLauncher):
            raise ConfigError(
                "hydra/sweeper=tune plans all candidates together, and this launcher runs jobs one by one",
                remedy="leave hydra/launcher at gpu_lanes",
            )
        if self.max_batch_size is not None:
            raise ConfigError("hydra.sweeper.max_batch_size splits the candidates", remedy="leave it null")
        self._launcher.tune = True


_MOST_VALUES = 10_000  # of a key: a range with a zero too many would take all memory


def expand(arguments: Sequence[str], hydra_context: HydraContext) -> list[list[str]]:
    """The overrides of each job, later keys varying fastest. Raises ConfigError for an empty or endless grid."""
    parser = OverridesParser.create(config_loader=hydra_context.config_loader)
    parsed = parser.parse_overrides(list(arguments))
    for override in parsed:
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise ConfigError(
                f"{override.input_line!r} has no finite list of values",
                remedy="name them: a,b,c or range(start,stop,step); hydra/sweeper=tune searches",
            )
        values = override.sweep_iterator() if override.is_sweep_override() else iter(())
        if next(islice(values, _MOST_VALUES, None), None) is not None:
            raise ConfigError(
                f"{override.input_line!r} names more than {_MOST_VALUES} values", remedy="name the few that matter"
            )
    jobs = BasicSweeper.split_arguments(parsed, None)[0]
    if not jobs:
        swept = (override for override in parsed if override.is_sweep_override())
        empty = next(
            (one.input_line for one in swept if not any(True for _ in one.sweep_string_iterator())), "the grid"
        )
        raise ConfigError(f"{empty!r} names no value, so there is no job", remedy="range(1,5) is 1, 2, 3, 4")
    return jobs


def outcome_of(batches: Sequence[Sequence[JobReturn]]) -> SweepOutcome:
    """The outcome of jobs that ran one by one under a launcher that isn't ours."""
    errors: list[str | None] = []
    summaries: list[Mapping[str, Any] | None] = []
    for job in (job for batch in batches for job in batch):
        failed = job.status != JobStatus.COMPLETED
        summaries.append(None if failed else job.return_value)
        errors.append(str(translate(job._return_value) or repr(job._return_value)) if failed else None)
    if not any(errors):  # in a dry run there are no summaries and no errors
        return SweepOutcome(exit_status=int(ExitStatus.OK), summaries=tuple(summaries), errors=tuple(errors))
    return SweepOutcome.of(summaries, errors)
