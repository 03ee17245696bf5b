"""Which jobs go to one SLURM task or Dask worker together."""

from __future__ import annotations

from dataclasses import replace

from tests.planning.jobs import jobs_over_n_draft
from velosweep.config.settings import RunSettings, SyntheticShape
from velosweep.hydra_app.remote import partition


def test_jobs_of_one_load_go_together_and_loads_apart() -> None:
    jobs = [replace(job, concurrency=streams) for streams in (1, 4) for job in jobs_over_n_draft(4, 8)]

    groups = partition(jobs, None, settings=RunSettings(), command=())

    assert [[(job.concurrency, job.n_draft) for job in group.jobs] for group in groups] == [
        [(1, 4), (1, 8)],
        [(4, 4), (4, 8)],
    ]


def test_what_only_a_draft_sees_and_how_long_is_waited_split_no_vanilla_series() -> None:
    first, second, third = jobs_over_n_draft(2, 4, 8)
    second = replace(second, engine=replace(second.engine, draft_cache_type_k="q8_0"))
    third = replace(third, protocol=replace(third.protocol, retries=third.protocol.retries + 1))

    (group,) = partition([first, second, third], None, settings=RunSettings(), command=())

    assert [job.n_draft for job in group.jobs] == [2, 4, 8]


def test_pairs_of_different_shapes_are_measured_apart() -> None:
    small, large = (
        replace(job, model_pair=replace(job.model_pair, synthetic=SyntheticShape(layers=layers)))
        for layers, job in zip((2, 4), jobs_over_n_draft(2, 4), strict=True)
    )

    assert len(partition([small, large], None, settings=RunSettings(), command=())) == 2
