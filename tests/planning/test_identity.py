"""Ids of jobs: the same from one release to the next, so that a sweep can be resumed after an update."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.planning.jobs import jobs_over_n_draft, of_builds
from velosweep.config.settings import Sampling, Speculation
from velosweep.planning.identity import content_hash, identify, speculative_server, vanilla_server


def test_ids_do_not_change_between_releases() -> None:
    (job,) = jobs_over_n_draft(4)
    other = replace(job, speculation=Speculation(kinds=("ngram-mod",)), engine=replace(job.engine, threads=3))

    ids = [(one.id, one.baseline_id) for each in (job, other) for one in identify([each], {})]

    assert ids == [("750a04e54136cd52", "be441a86baf2f89a"), ("6d07f19b40d2ba91", "57f3d3bc154216f2")]


def test_a_setting_of_after_the_first_release_is_left_out_of_its_own_section_alone() -> None:
    @dataclass(frozen=True)
    class Other:
        system: str | None = None
        top_k: int = 40

    assert content_hash(Other()) == content_hash({"system": None, "top_k": 40})
    assert content_hash(Sampling()) == content_hash({"temperature": 0.0, "seed": 42})


def test_streams_and_depth_are_another_load_with_servers_and_a_baseline_of_its_own() -> None:
    (job,) = jobs_over_n_draft(4)
    loads = [job, replace(job, concurrency=4), replace(job, depth=4096)]
    identified = identify(loads, {})
    servers = [server(one) for one in loads for server in (vanilla_server, speculative_server)]

    assert len({one.id for one in identified}) == len({one.baseline_id for one in identified}) == 3
    assert len({server.id for server in servers if server}) == 6
    assert [server.context for server in servers if server] == [
        tokens for tokens in (4096, 4 * 4096, 2 * 4096) for _ in range(2)
    ]


def test_one_program_under_two_paths_is_two_builds_and_the_first_keeps_its_ids() -> None:
    jobs = of_builds(jobs_over_n_draft(4), "/old", "/new")
    alone = identify([jobs[0]], {"/old": "same"})
    both = identify(jobs, {"/old": "same", "/new": "same"})

    assert both[0] == alone[0]
    assert both[1].id != both[0].id
    assert both[1].baseline_id != both[0].baseline_id
