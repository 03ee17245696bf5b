"""Launcher `gpu_lanes`: all jobs of a sweep are planned and measured together.

Hydra's contract is kept: a `.hydra/` folder per job, JobReturns in order, callbacks. A failed job is a JobReturn with
status FAILED; `launch` raises only where the whole sweep can't run.
"""

import os
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from velosweep.config.load import JobLoader, load_settings
from velosweep.config.schema import RUN_KEYS
from velosweep.config.settings import Job, RunSettings
from velosweep.errors import ConfigError
from velosweep.hydra_app.job_configs import HydraFolders, JobConfigs
from velosweep.hydra_app.task import JobError, JobTask
from velosweep.results.paths import SweepPaths
from velosweep.results.sweep_record import SweepOutcome


class LaneLauncher(Launcher):
    """Hydra's launcher contract. `tune`: search the jobs for the fastest instead of measuring all of them."""

    tune = False

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `launch`."""
        self._context = hydra_context
        self._task = task_function if isinstance(task_function, JobTask) else JobTask()
        self._config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Plan and measure all jobs; returns their JobReturns in order. Raises where the whole sweep can't run."""
        setup_globals()
        HydraConfig.instance().set_config(self._config)
        root = Path(str(self._config.hydra.sweep.dir)).absolute()
        configs = JobConfigs(self._config, self._context.config_loader)
        jobs, settings = self._load(configs, job_overrides, initial_job_idx, root)
        returns = [self._job_return(configs, job, root) for job in jobs]
        self._task.outcome = outcome = self.run(jobs, root=root, command=self._task.command, settings=settings)
        for job, job_return, summary, error in zip(jobs, returns, outcome.summaries, outcome.errors, strict=True):
            job_return.status = JobStatus.COMPLETED if error is None else JobStatus.FAILED
            job_return.return_value = summary if error is None else JobError(error)
            if job_return.cfg is not None:
                config = self._whole_config(configs, job, root)
                self._context.callbacks.on_job_end(config=config, job_return=job_return)
        return returns

    def run(self, jobs: Sequence[Job], *, root: Path, command: Sequence[str], settings: RunSettings) -> SweepOutcome:
        """Measure all jobs on this machine. Raises where the whole sweep can't run."""
        return self._task.run_sweep(jobs, root=root, single=False, command=command, settings=settings)

    def _load(
        self, configs: JobConfigs, job_overrides: Sequence[Sequence[str]], first: int, root: Path
    ) -> tuple[list[Job], RunSettings]:
        """The jobs, numbered from `first`, and their run settings; writes their `.hydra/`. Raises our errors."""
        loader, folders, paths = JobLoader(), HydraFolders(root), SweepPaths(root)
        settings: RunSettings | None = None
        measured: dict[Job, Job] = {}
        directories: dict[str, int] = {}
        jobs: list[Job] = []
        for num, overrides in enumerate(job_overrides, start=first):
            config = configs.compose(overrides, num)
            plain, directory = config.unresolved, str(num)
            if any("${hydra" in repr(value) for key, value in plain.items() if key != "hydra"):
                config.number()
                HydraConfig.instance().set_config(config.cfg)  # what ${hydra:job.num} refers to
            if plain["hydra"]["sweep"]["subdir"] != "${hydra.job.num}":
                config.number()
                directory = os.path.normpath(str(OmegaConf.select(config.cfg, "hydra.sweep.subdir")))
            job = loader.load(config.cfg, num=num, overrides=overrides, directory=directory, unresolved=plain)
            jobs.append(job)
            paths.job_directory(job)  # raises StorageError for one outside of the sweep, before anything is written
            own_settings = load_settings(config.cfg, plain, tune=self.tune)
            if own_settings != (settings := settings or own_settings):
                raise ConfigError(
                    f"Jobs {first} and {num} have different run settings",
                    remedy=f"the keys {', '.join(RUN_KEYS)} hold for a whole sweep; give each one value",
                )
            twin = measured.setdefault(replace(job, num=0, overrides=(), directory="", output=None), job)
            if twin is not job:  # the second would overwrite the first's results
                raise ConfigError(
                    f"Jobs {twin.num} ({' '.join(twin.overrides)}) and {num} ({' '.join(overrides)}) are alike",
                    remedy="name each value once; for more runs, raise iterations",
                )
            if directories.setdefault(directory, num) != num:
                raise ConfigError(
                    f"Jobs {directories[directory]} and {num} would both write to {directory!r}",
                    remedy="leave hydra.sweep.subdir at ${hydra.job.num}, or make it differ for each job",
                )
            if not settings.dry_run:
                folders.write(config, directory)
        if settings is None:
            raise ConfigError("The grid is empty: no job to run", remedy="give every swept key at least one value")
        return jobs, settings

    def _job_return(self, configs: JobConfigs, job: Job, root: Path) -> JobReturn:
        """The JobReturn of a job that is about to start; calls on_job_start.

        It holds configurations, 200 kB a job, only where there are callbacks to read them.
        """
        made = JobReturn()
        made.overrides = [line for line in job.overrides if not line.startswith("hydra.")]
        made.working_dir, made.task_name = os.getcwd(), "velosweep"  # noqa: PTH109 (Hydra's is a text)
        callbacks = self._context.callbacks
        if callbacks.callbacks:
            config = self._whole_config(configs, job, root)
            made.cfg = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
            made.hydra_cfg = OmegaConf.masked_copy(config, "hydra")
            callbacks.on_job_start(config=config, task_function=self._task)
        return made

    @staticmethod
    def _whole_config(configs: JobConfigs, job: Job, root: Path) -> DictConfig:
        """A copy of a job's configuration with Hydra's part, as Hydra's `run_job` passes it on."""
        config = configs.compose(job.overrides, job.num)
        config.number()
        cfg = deepcopy(config.cfg)
        with read_write(cfg.hydra.runtime), open_dict(cfg.hydra.runtime):
            cfg.hydra.runtime.output_dir = str(root / job.directory)
        return cfg
