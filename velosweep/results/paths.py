"""Every file name of a sweep, in one place. No other module spells one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from velosweep.errors import StorageError

SAMPLES = "samples.parquet"
RESULTS = "results.parquet"
RECORD = "sweep.json"

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


class HasDirectory(Protocol):
    """A `Job` or a `JobRecord`."""

    @property
    def directory(self) -> str:
        """Relative to the sweep's root; empty for a single job."""


def safe_name(text: str) -> str:
    """`text` as one harmless component of a path: letters, digits, `._-`, never hidden, at most 100 characters."""
    return _UNSAFE.sub("_", text).lstrip(".")[:100] or "_"


@dataclass(frozen=True, slots=True)
class JobPaths:
    """The files of one job."""

    root: Path

    @property
    def summary(self) -> Path:
        """The specification's object."""
        return self.root / "summary.json"

    @property
    def samples(self) -> Path:
        """The rows that `summary` was computed from."""
        return self.root / SAMPLES

    @property
    def prompts(self) -> Path:
        """Folder of one specification's object for each prompt."""
        return self.root / "prompts"

    def prompt(self, prompt_id: str) -> Path:
        """The specification's object for one prompt."""
        return self.prompts / f"{safe_name(prompt_id)}.json"


@dataclass(frozen=True, slots=True)
class SweepPaths:
    """The files of one sweep. For a single job the sweep is that job and its directory is `root`."""

    root: Path

    @property
    def record(self) -> Path:
        """What was asked, where it ran, how each job ended."""
        return self.root / RECORD

    @property
    def journal(self) -> Path:
        """Each sample as it came; what all derived files are made from."""
        return self.root / "journal.jsonl"

    @property
    def samples(self) -> Path:
        """One row a run, every job."""
        return self.root / SAMPLES

    @property
    def results(self) -> Path:
        """One row a job and prompt, and one a job."""
        return self.root / RESULTS

    @property
    def summaries(self) -> Path:
        """The jobs' summaries, a JSON array."""
        return self.root / "summaries.json"

    @property
    def tuner(self) -> Path:
        """Every decision of `hydra/sweeper=tune`, with its evidence."""
        return self.root / "tuner.parquet"

    @property
    def report(self) -> Path:
        """One page, no network."""
        return self.root / "report.html"

    @property
    def logs(self) -> Path:
        """Folder of the servers' own output."""
        return self.root / "logs"

    def log(self, arm_id: str, launch: int) -> Path:
        """What the server of an arm wrote during one launch."""
        return self.logs / f"{safe_name(arm_id)}-{launch}.log"

    @property
    def lock(self) -> Path:
        """Held by the one process that writes the sweep."""
        return self.root / "lock"

    def job_directory(self, job: HasDirectory) -> Path:
        """Where a job's files go. Raises StorageError for a directory outside the sweep's folder."""
        relative = Path(job.directory)
        if relative.is_absolute() or ".." in relative.parts:
            raise StorageError(
                f"A job's directory {job.directory!r} lies outside its sweep {self.root}",
                remedy="choose hydra.sweep.subdir below hydra.sweep.dir",
            )
        return self.root / relative

    def job(self, job: HasDirectory) -> JobPaths:
        """The files of one job."""
        return JobPaths(self.job_directory(job))


def is_sweep(folder: Path) -> bool:
    """Whether `folder` is the root of a sweep."""
    return (folder / RECORD).is_file()
