"""A sweep as it was saved: what `resume` and `rerun` start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from velosweep.config.saved_jobs import load_saved
from velosweep.config.settings import Job, RunSettings
from velosweep.errors import StorageError
from velosweep.records import SweepRecord
from velosweep.results.paths import SweepPaths, is_sweep
from velosweep.results.sweep_record import read_record


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedSweep:
    """Jobs and settings as they were asked for, and the record of how that went."""

    root: Path
    record: SweepRecord
    jobs: list[Job]
    settings: RunSettings


def saved_sweep(directory: Path, *, overrides: Sequence[str] = ()) -> SavedSweep:
    """Read a sweep's folder. Raises StorageError where it isn't one or its configuration is gone."""
    root = directory.expanduser().absolute()
    if not is_sweep(root):
        raise StorageError(f"{root} is not the folder of a sweep", remedy="name the folder that holds sweep.json")
    paths = SweepPaths(root)
    record = read_record(paths.record)
    folders = [(job.num, job.directory, paths.job_directory(job)) for job in record.jobs]
    base = Path(record.working_directory) if record.working_directory else None
    jobs, settings = load_saved(folders, overrides=overrides, base=base)
    return SavedSweep(root=root, record=record, jobs=jobs, settings=settings)
