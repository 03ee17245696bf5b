"""Launcher `gpu_lanes`: all jobs of a sweep go through one pipeline, which plans them together.

Hydra's contract stays: `.hydra/` per job, JobReturns in order, callbacks. A failed job is a JobReturn with status
FAILED; the sweep itself raises only what keeps all of it from running.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from velosweep.config.load import JobLoader, load_settings, load_tuner
from velosweep.config.schema import RUN_KEYS
from velosweep.config.settings import Job, RunSettings, TunerSettings
from velosweep.errors import ConfigError
from velosweep.hydra_app.hydra_folders import Records, dirname
from velosweep.hydra_app.job_configs import Composer, Point
from velosweep.hydra_app.task import JobError, JobTask
from velosweep.outcome import Outcome


class LaneLauncher(Launcher):
    """Hydra's launcher contract. `tune`: search the jobs for the fastest instead of measuring all of them."""

    tune = False

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `launch`."""
        self._context = hydra_context
        self._task = task_function
        self._config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Plan and measure all jobs; returns their JobReturns in order. Raises what refuses the whole sweep."""
        setup_globals()
        HydraConfig.instance().set_config(self._config)
        root = Path(str(self._config.hydra.sweep.dir)).absolute()
        grid = Grid(self._config, self._context, root)
        jobs, settings = grid.load(job_overrides, first=initial_job_idx)
        if self.tune:
            settings = replace(settings, tuner=grid.tuner(job_overrides[0]))
        returns = [grid.job_return(overrides, job) for overrides, job in zip(job_overrides, jobs, strict=True)]
        self._on_jobs("on_job_start", grid, returns)
        command = self._task.command if isinstance(self._task, JobTask) else []
        outcome = self.run(jobs, root=root, command=command, settings=settings)
        if isinstance(self._task, JobTask):
            self._task.outcome = outcome
        _report(returns, outcome)
        self._on_jobs("on_job_end", grid, returns)
        return returns

    def run(self, jobs: Sequence[Job], *, root: Path, command: Sequence[str], settings: RunSettings) -> Outcome:
        """Measure all jobs, here. Raises what refuses the whole sweep."""
        from velosweep import sweep as pipeline

        return pipeline.run_sweep(jobs, root=root, single=False, command=command, settings=settings)

    def _on_jobs(self, event: str, grid: Grid, returns: Sequence[LaneReturn]) -> None:
        """Call the person's own callbacks, where there are any: they need a configuration a job."""
        callbacks = self._context.callbacks
        if not callbacks.callbacks:
            return
        for job_return in returns:
            config = grid.config_of(job_return.job_overrides, job_return.job)
            if event == "on_job_start":
                callbacks.on_job_start(config=config, task_function=self._task)
            else:
                callbacks.on_job_end(config=config, job_return=job_return)


class Grid:
    """The jobs of a sweep: loads them, writes their `.hydra/` folders, and composes one again on request."""

    def __init__(self, config: DictConfig, hydra_context: HydraContext, root: Path) -> None:
        self._config = config
        self._loader = hydra_context.config_loader
        self._composer = Composer(config, self._loader)
        self._root = root
        self._subdir = str(OmegaConf.to_container(config.hydra.sweep, resolve=False)["subdir"])  # type: ignore[index, call-overload]

    def load(self, job_overrides: Sequence[Sequence[str]], *, first: int) -> tuple[list[Job], RunSettings]:
        """Jobs numbered from `first`, and how to run them. Raises ConfigError naming the job that can't be run."""
        loader, records = JobLoader(), Records(self._root)
        settings: dict[RunSettings, int] = {}
        known: dict[Job, int] = {}
        places: dict[str, int] = {}
        jobs: list[Job] = []
        for num, overrides in enumerate(job_overrides, start=first):
            point = self._composer.compose(overrides)
            if self._refers_to_hydra(point):
                self._numbered(point, num)
            directory = self._directory(point, num)
            job = loader.load(point.cfg, num=num, overrides=overrides, directory=directory, token=point.token)
            way = self._settings(point)
            settings.setdefault(way, num)
            _refuse_ways(settings)
            _refuse_twin(job, known, jobs, first)
            _refuse_shared_place(directory, num, places)
            jobs.append(job)
            if not way.dry_run:
                records.write(point, num=num, directory=directory)
        return jobs, next(iter(settings))

    def _refers_to_hydra(self, point: Point) -> bool:
        """Whether a value of the job is made of Hydra's (`output=out-${hydra.job.num}.json`)."""
        return any("${hydra" in line for line in point.plain.values()) or self._composer.remember(
            ("refers to hydra", point.selection.overrides),
            lambda: "${hydra" in repr(own_part(OmegaConf.to_container(point.cfg, resolve=False))),
        )

    def _settings(self, point: Point) -> RunSettings:
        return self._composer.remember(
            ("settings", *(point.token(root) for root in RUN_KEYS)), lambda: load_settings(point.cfg)
        )

    def _directory(self, point: Point, num: int) -> str:
        if self._subdir == "${hydra.job.num}":
            return str(num)
        cfg = self._numbered(point, num)
        return os.path.normpath(str(OmegaConf.select(cfg, "hydra.sweep.subdir")))

    def _numbered(self, point: Point, num: int) -> DictConfig:
        """The job's configuration with what only a job has: its number and the directory name of its overrides."""
        cfg = point.cfg
        with read_write(cfg.hydra), open_dict(cfg.hydra):
            cfg.hydra.job.num = num
            cfg.hydra.job.id = str(num)
            if not OmegaConf.is_interpolation(cfg.hydra.job, "override_dirname"):  # one from Hydra 1.4 on
                cfg.hydra.job.override_dirname = dirname(point.overrides, cfg.hydra.job.config.override_dirname)
            cfg.hydra.overrides.task = [o.input_line for o in point.overrides if not o.is_hydra_override()]
        return cfg

    def tuner(self, overrides: Sequence[str]) -> TunerSettings:
        """How the sweep's candidates are searched."""
        return load_tuner(self._composer.compose(overrides).cfg)

    def config_of(self, overrides: Sequence[str], job: Job) -> DictConfig:
        """A job's whole configuration, `hydra` included, as `run_job` would have it; a copy of its own."""
        from copy import deepcopy

        cfg = deepcopy(self._numbered(self._composer.compose(overrides), job.num))
        with read_write(cfg.hydra.runtime), open_dict(cfg.hydra.runtime):
            cfg.hydra.runtime.output_dir = str(self._root / job.directory)
        return cfg

    def job_return(self, overrides: Sequence[str], job: Job) -> LaneReturn:
        """What Hydra gets back for a job, to be filled in when it is done."""
        return LaneReturn(overrides, job, lambda: self.config_of(overrides, job))


def own_part(config: Any) -> dict[Any, Any]:
    """A configuration without Hydra's part."""
    return {key: value for key, value in config.items() if key != "hydra"}


class LaneReturn(JobReturn):
    """A JobReturn that composes its configurations only when somebody looks at them (they take 200 kB a job)."""

    def __init__(self, overrides: Sequence[str], job: Job, compose: Callable[[], DictConfig]) -> None:
        self.job = job
        self.job_overrides = overrides
        self._compose = compose
        self.overrides = [line for line in overrides if not line.startswith("hydra.")]
        self.working_dir = os.getcwd()  # noqa: PTH109 (Hydra's is a text)
        self.task_name = "velosweep"
        self.status = JobStatus.UNKNOWN
        self._return_value = None

    @property
    def cfg(self) -> DictConfig:  # type: ignore[override]
        """The job's own configuration."""
        return OmegaConf.masked_copy(config := self._compose(), [str(key) for key in config if key != "hydra"])

    @property
    def hydra_cfg(self) -> DictConfig:  # type: ignore[override]
        """Hydra's configuration of the job."""
        return OmegaConf.masked_copy(self._compose(), "hydra")


def _report(returns: Sequence[LaneReturn], outcome: Outcome) -> None:
    for job_return, summary, error in zip(returns, outcome.summaries, outcome.errors, strict=True):
        job_return.status = JobStatus.COMPLETED if error is None else JobStatus.FAILED
        job_return.return_value = summary if error is None else JobError(error)


def _refuse_twin(job: Job, known: dict[Job, int], jobs: Sequence[Job], first: int) -> None:
    """Two jobs that are the same measurement: the second would overwrite the first's results."""
    what = replace(job, num=0, overrides=(), directory="", output=None)
    num = known.setdefault(what, job.num)
    if num != job.num:
        raise ConfigError(
            f"Jobs {num} ({' '.join(jobs[num - first].overrides)}) and {job.num} ({' '.join(job.overrides)}) are alike",
            remedy="name each value once; for more runs, raise iterations",
        )


def _refuse_shared_place(directory: str, num: int, places: dict[str, int]) -> None:
    other = places.setdefault(directory, num)
    if other != num:
        raise ConfigError(
            f"Jobs {other} and {num} would both write to {directory!r}",
            remedy="leave hydra.sweep.subdir at ${hydra.job.num}, or make it differ for each job",
        )


def _refuse_ways(settings: dict[RunSettings, int]) -> None:
    if len(settings) > 1:
        nums = list(settings.values())
        raise ConfigError(
            f"Jobs {nums[0]} and {nums[1]} are to run in different ways",
            remedy=f"the keys {', '.join(RUN_KEYS)} hold for a whole sweep; give each one value",
        )
