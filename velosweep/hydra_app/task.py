"""What Hydra calls for one job: `JobTask`. It also carries a sweep's outcome back to the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velosweep.errors import ExitStatus, VelosweepError
from velosweep.outcome import Outcome

if TYPE_CHECKING:
    from omegaconf import DictConfig


class JobError(VelosweepError):
    """A job of a sweep was not measured; its record says why."""

    exit_status = ExitStatus.SOME_FAILED


class JobTask:
    """Hydra's task function: one job through the pipeline, in the directory that Hydra made for it.

    `command`: what was typed, for the record. The launcher `gpu_lanes` doesn't call it, it leaves its outcome
    in `outcome`; other launchers call it once a job, perhaps in other processes (it can be pickled), and then
    the jobs' statuses come back as what it returns or raises.
    """

    def __init__(self, command: Sequence[str] = ()) -> None:
        self.command = list(command)
        self.outcome: Outcome | None = None
        self.single_error: Exception | None = None

    def __call__(self, cfg: DictConfig) -> Mapping[str, Any] | None:
        """The job's summary; raises what kept it from being measured.

        In a single run the error is kept in `single_error` instead, since Hydra would print it in its own way.
        """
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        if HydraConfig.get().mode != RunMode.RUN:
            outcome = self._measure(cfg)
            if outcome.errors[0] is not None:
                raise JobError(outcome.errors[0])
            return outcome.summaries[0]
        folder = Path(HydraConfig.get().runtime.output_dir)
        try:
            self.outcome = self._measure(cfg)
        except Exception as error:  # noqa: BLE001 (the command line raises it again)
            self.single_error = error
            if getattr(error, "exit_status", None) == ExitStatus.REFUSED:
                _leave_nothing(folder)
            return None
        if cfg.dry_run:
            _leave_nothing(folder)
        return self.outcome.summaries[0]

    def _measure(self, cfg: DictConfig) -> Outcome:
        from hydra.core.hydra_config import HydraConfig

        from velosweep import sweep as pipeline
        from velosweep.config.load import load_job, load_settings

        hydra = HydraConfig.get()
        job = load_job(cfg, num=0, overrides=tuple(hydra.overrides.task), directory="")
        return pipeline.run_sweep(
            [job],
            root=Path(hydra.runtime.output_dir),
            single=True,
            command=self.command,
            settings=load_settings(cfg),
        )


def _leave_nothing(folder: Path) -> None:
    """Remove what Hydra wrote of a job that was not run, and folders that are empty then; results are never touched."""
    saved = [folder / ".hydra" / name for name in ("config.yaml", "hydra.yaml", "overrides.yaml")]
    if {path.name for path in folder.iterdir()} != {".hydra"} or set((folder / ".hydra").iterdir()) != set(saved):
        return
    for path in saved:
        path.unlink()
    remove_empty(folder / ".hydra")


def remove_empty(folder: Path) -> None:
    """Remove `folder` and those above it while they are empty and below the current folder."""
    for empty in (folder, *folder.parents):
        if Path.cwd() not in empty.parents or any(empty.iterdir()):
            return
        empty.rmdir()
