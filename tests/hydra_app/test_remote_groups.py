"""Which jobs go to one SLURM task or Dask worker together."""

from __future__ import annotations

from dataclasses import replace

from tests.planning.jobs import jobs_over_n_draft
from velosweep.config.settings import RunSettings
from velosweep.hydra_app.remote import partition


def test_jobs_of_one_load_go_together_and_loads_apart() -> None:
    jobs = [replace(job, concurrency=streams) for streams in (1, 4) for job in jobs_over_n_draft(4, 8)]

    groups = partition(jobs, None, settings=RunSettings(), command=())

    assert [[(job.concurrency, job.n_draft) for job in group.jobs] for group in groups] == [
        [(1, 4), (1, 8)],
        [(4, 4), (4, 8)],
    ]
