"""A sweep's folder is opened anew or gone on with, and nothing of another sweep is overwritten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tests.planning.jobs import jobs_over_n_draft
from velosweep.config.settings import EngineSettings, Job, RunSettings, Speculation
from velosweep.errors import MismatchError
from velosweep.measuring.opening import job_record, merge_records, open_sweep
from velosweep.measuring.prepare import Prepared
from velosweep.measuring.resuming import EarlierResults
from velosweep.planning.identity import identify
from velosweep.records import Environment, SweepRecord
from velosweep.results.journal import Journal
from velosweep.results.paths import SweepPaths
from velosweep.results.sweep_record import write_record

NOW = datetime(2026, 10, 1, tzinfo=timezone.utc)
HERE = Environment(
    velosweep="1", python="3", host="h", system="s", cpu="c", physical_cores=1, logical_cores=1, memory_bytes=1,
    devices=(), engine="server", program=None, program_sha256=None, llama_cpp_build="b",
)  # fmt: skip


def of_today(*jobs: Job, single: bool = False, environment: Environment = HERE) -> SweepRecord:
    records = tuple(map(job_record, jobs))
    return SweepRecord(sweep_id="s", created_at=NOW, command=(), single=single, jobs=records, environment=environment)


def adopted(
    before: SweepRecord | None, jobs: tuple[Job, ...], here: Environment = HERE, accepted: Sequence[str] = ()
) -> SweepRecord:
    today = of_today(*jobs, environment=here)
    return merge_records(before, today, Path("/r"), accepted=accepted) if before else today


def test_the_same_grid_is_adopted_with_what_is_known_of_it() -> None:
    jobs = jobs_over_n_draft(4, 8)
    record = adopted(None, jobs)
    done = replace(record, jobs=(replace(record.jobs[0], state="failed", error="it died"), record.jobs[1]))
    again = adopted(done, jobs, replace(HERE, host="elsewhere"), accepted=["host was h, is elsewhere"])

    assert again.jobs == done.jobs
    assert again.environment.host == "h"
    assert again.accepted == ("host was h, is elsewhere",)


def test_a_grown_grid_adds_its_new_jobs() -> None:
    jobs = jobs_over_n_draft(4, 8, 12)
    record = adopted(adopted(None, jobs[:2]), jobs)

    assert [job.n_draft for job in record.jobs] == [4, 8, 12]


def test_a_grown_grid_keeps_the_rounds_that_were_added_to_its_earlier_jobs() -> None:
    jobs = jobs_over_n_draft(4, 8, iterations=5)
    longer = adopted(adopted(None, jobs[:1]), (replace(jobs[0], added=(3,)),))
    grown = adopted(longer, jobs)
    again = adopted(
        grown, tuple(replace(job, added=(*saved.added, 2)) for job, saved in zip(jobs, grown.jobs, strict=True))
    )

    assert [(job.added, job.iterations) for job in grown.jobs] == [((3,), 8), ((), 5)]
    assert [(job.added, job.iterations) for job in again.jobs] == [((3, 2), 10), ((2,), 7)]


def test_another_job_in_the_place_of_one_that_stands_is_refused() -> None:
    def overridden(*n_drafts: int) -> tuple[Job, ...]:
        jobs = jobs_over_n_draft(*n_drafts)
        return tuple(replace(job, overrides=("prompt=a", f"n_draft={job.n_draft}")) for job in jobs)

    record = adopted(None, overridden(4, 8))

    with pytest.raises(MismatchError, match=r"^job 1 \(n_draft=12\) would overwrite .* of job 1 \(n_draft=8\) in "):
        adopted(record, overridden(4, 12))


def test_another_single_job_is_told_the_key_of_its_own_folder() -> None:
    (first,), (other,) = jobs_over_n_draft(4), jobs_over_n_draft(12)

    with pytest.raises(MismatchError, match=r"choose another hydra\.run\.dir"):
        merge_records(of_today(first, single=True), of_today(other, single=True), Path("/r"))


def test_a_single_job_joins_no_sweep_without_being_asked_to() -> None:
    record = adopted(None, jobs_over_n_draft(4, 8))
    (other,) = jobs_over_n_draft(12)

    with pytest.raises(MismatchError, match=r"/r holds a sweep of 2 settings, which a single job would join"):
        merge_records(record, of_today(other, single=True), Path("/r"))
    assert merge_records(record, of_today(*jobs_over_n_draft(4), single=True), Path("/r")).jobs == record.jobs


def test_an_earlier_job_that_is_now_known_to_be_another_s_twin_is_not_waited_for() -> None:
    jobs = jobs_over_n_draft(4, 8, speculation=Speculation(kinds=()))
    twice = adopted(None, jobs)
    once = (replace(jobs[0], twins=(1,)),)

    assert [(job.num, job.twins) for job in adopted(twice, once).jobs] == [(0, (1,))]
    measured = replace(twice, jobs=tuple(replace(job, state="done") for job in twice.jobs))
    assert [job.num for job in adopted(measured, once).jobs] == [0, 1]


def test_what_another_llama_cpp_answered_and_refused_says_nothing_of_todays(tmp_path: Path) -> None:
    paths, engine = SweepPaths(tmp_path), EngineSettings(kind="attached", vanilla_url="http://localhost:1")
    jobs = identify([replace(job, engine=engine) for job in jobs_over_n_draft(4)], {})
    prepared = Prepared(jobs=jobs, lanes=(), environment=HERE, engines={}, reasons=())

    def opened(prepared: Prepared, **settings: bool) -> EarlierResults:
        return open_sweep(tmp_path, prepared, RunSettings(**settings), command=(), single=True).progress

    write_record(paths.record, open_sweep(tmp_path, prepared, RunSettings(), command=(), single=True).record)
    with Journal(paths.journal) as journal:
        journal.note("output", baseline_id="v", prompt_id="p", tokens=[1, 2])
        journal.note("refused", prompt_id="q", job_ids=[jobs[0].id], error="too long")
    same, other = opened(prepared), replace(prepared, environment=replace(HERE, llama_cpp_build="other"))

    assert (same.outputs, same.refused) == ({("v", "p"): (1, 2)}, {(jobs[0].id, "q"): "too long"})
    assert (opened(other, force=True).outputs, opened(other, force=True).refused) == ({}, {})
