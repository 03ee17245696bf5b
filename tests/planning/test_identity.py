"""Ids of jobs: the same from one release to the next, so that a sweep can be resumed after an update."""

from __future__ import annotations

from dataclasses import replace

from tests.planning.jobs import jobs_over_n_draft
from velosweep.config.settings import Speculation
from velosweep.planning.identity import identify


def test_ids_do_not_change_between_releases() -> None:
    (job,) = jobs_over_n_draft(4)
    other = replace(job, speculation=Speculation(kinds=("ngram-mod",)), engine=replace(job.engine, threads=3))

    ids = [(one.id, one.baseline_id) for each in (job, other) for one in identify([each], {})]

    assert ids == [("750a04e54136cd52", "be441a86baf2f89a"), ("6d07f19b40d2ba91", "57f3d3bc154216f2")]
