"""<job>/samples.parquet: the rows that a job's summary was computed from, its own and its vanilla series'."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from velosweep.model import JobRecord
from velosweep.storage.atomic import make_folder
from velosweep.storage.paths import SweepPaths
from velosweep.storage.samples import write_samples

if TYPE_CHECKING:
    import pyarrow as pa


def write_job_samples(paths: SweepPaths, jobs: Sequence[JobRecord], table: pa.Table) -> None:
    """Write each job's rows into its directory, atomically. Raises StorageError."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for job in jobs:
        wanted = pc.is_in(table["job_id"], value_set=pa.array([job.id, job.baseline_id]))
        make_folder(paths.job(job).root)
        write_samples(paths.job(job).samples, table.filter(wanted), durable=False)
