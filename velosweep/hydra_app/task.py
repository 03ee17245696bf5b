"""What Hydra calls for one job: `JobTask`. It also carries a sweep's outcome back to the command line."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velosweep.config.settings import Job, RunSettings
from velosweep.errors import ExitStatus, VelosweepError
from velosweep.hydra_app.refused_folders import remove_unmeasured
from velosweep.results.sweep_record import SweepOutcome

if TYPE_CHECKING:
    from omegaconf import DictConfig


class JobError(VelosweepError):
    """A job of a sweep was not measured; its record says why."""

    exit_status = ExitStatus.SOME_FAILED


class JobTask:
    """Hydra's task function: measures one job in the directory that Hydra made for it.

    `command`: the command line, for the record; `changes`: fields of RunSettings, instead of what the configuration
    says. Our launchers don't call the task: they measure all jobs with `run_sweep` and store its result in `outcome`.
    Other launchers call it once per job, perhaps in other processes (it can be pickled), and get a job's status from
    what it returns or raises.
    """

    def __init__(self, command: Sequence[str] = (), changes: Mapping[str, Any] | None = None) -> None:
        self.command = list(command)
        self.outcome: SweepOutcome | None = None
        self.single_error: Exception | None = None
        self._changes = dict(changes or {})

    def run_sweep(self, jobs: Sequence[Job], *, settings: RunSettings, **how: Any) -> SweepOutcome:
        """As `velosweep.sweep.run_sweep`."""
        from velosweep.sweep import run_sweep

        return run_sweep(jobs, settings=replace(settings, **self._changes), **how)

    def __call__(self, cfg: "DictConfig") -> Mapping[str, Any] | None:
        """Measure the job and return its summary; raises where it can't be measured.

        In a single run the error is stored in `single_error` instead, because Hydra would print it in its own way.
        """
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        folder = Path(HydraConfig.get().runtime.output_dir)
        os.chdir(HydraConfig.get().runtime.cwd)  # paths are relative to where they were typed, also by hydra.job.chdir
        if HydraConfig.get().mode != RunMode.RUN:
            outcome = self._measure(cfg, folder)
            if outcome.errors[0] is not None:
                raise JobError(outcome.errors[0])
            return outcome.summaries[0]
        try:
            self.outcome = self._measure(cfg, folder)
        except Exception as error:  # noqa: BLE001 (the command line raises it again)
            self.single_error = error
        refused = getattr(self.single_error, "exit_status", None) == ExitStatus.REFUSED
        if (refused or cfg.dry_run) and {path.name for path in folder.iterdir()} <= {".hydra"}:
            remove_unmeasured(folder)
        return self.outcome.summaries[0] if self.outcome else None

    def _measure(self, cfg: "DictConfig", root: Path) -> SweepOutcome:
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import OmegaConf

        from velosweep.config.load import JobLoader, load_settings

        overrides: Any = OmegaConf.to_container(HydraConfig.get().overrides.task)  # unresolved, as they were written
        job = JobLoader().load(cfg, overrides=overrides)
        return self.run_sweep([job], root=root, single=True, command=self.command, settings=load_settings(cfg))
