"""Jobs that are through are worked out while servers load, and never while runs count."""

from __future__ import annotations

import threading
from collections import UserDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.planning.jobs import job
from tests.results.made import job_record, sample, speculative
from velosweep.errors import StorageError
from velosweep.measuring import background_collator as module
from velosweep.measuring.background_collator import BackgroundCollator
from velosweep.measuring.preload import Preload
from velosweep.planning.server_groups import plan_groups
from velosweep.records import JobRecord
from velosweep.results.parts import Done
from velosweep.results.precomputed import PrecomputedResults
from velosweep.values import Sample

JOBS = tuple(job(id=f"job{number}", num=number, baseline_id="base", n_draft=4 + number) for number in range(3))
RECORDS = tuple(job_record(number) for number in range(3))
TAKEN = (sample(0), *(speculative(number + 1, number) for number in range(3)))


class Work:
    """Remembers what it was given; waits while `gate` is shut."""

    def __init__(self, *, error: StorageError | None = None) -> None:
        self.error = error
        self.given: list[tuple[list[str], int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.counts = 0

    def __call__(self, jobs: Sequence[JobRecord], samples: Sequence[Sample]) -> PrecomputedResults:
        self.gate.wait(20)
        self.given.append(([job.id for job in jobs], len(samples)))
        if self.error:
            raise self.error
        rows = Rows(self, samples)
        return PrecomputedResults(
            jobs=tuple(jobs), rows=rows, done=Done(comparisons=[], written=[], sizes=[], summaries=[])
        )


class Rows(UserDict[str, int]):
    """The rows of each owner; tells the work how often they are counted."""

    def __init__(self, work: Work, samples: Sequence[Sample]) -> None:
        super().__init__({one.job_id: 1 for one in samples})
        self.work = work

    def values(self) -> Any:
        self.work.counts += 1
        return super().values()


def made(work: Work, *, room: int = 64, records: Sequence[JobRecord] = RECORDS) -> tuple[BackgroundCollator, Any]:
    groups = plan_groups(JOBS, resident_servers=lambda _: room)
    return BackgroundCollator(groups, records, work, Preload(())), groups


def measured(ahead: BackgroundCollator, groups: Any) -> None:
    for one in TAKEN:
        ahead.saw(one)
    for group in groups:
        ahead.ended(group)


def test_a_block_that_ended_is_worked_out_at_the_next_load_and_waited_for() -> None:
    work = Work()
    work.gate.clear()
    ahead, groups = made(work)

    measured(ahead, groups)
    assert not ahead.working
    ahead.begin()
    assert ahead.working
    threading.Timer(0.05, work.gate.set).start()
    ahead.finish()

    assert not ahead.working
    assert work.given == [(["job0", "job1", "job2"], 4)]
    assert [one.jobs for one in ahead.results()] == [RECORDS]


def test_before_runs_that_count_nothing_new_is_begun() -> None:
    work = Work()
    ahead, groups = made(work)
    ahead.begin()
    ahead.finish()

    measured(ahead, groups)
    ahead.finish()

    assert work.given == []
    assert ahead.results() == ()


def test_a_baseline_in_several_blocks_waits_for_the_last() -> None:
    work = Work()
    ahead, groups = made(work, room=2)
    assert len(groups) == 3
    for one in TAKEN:
        ahead.saw(one)

    for group in groups[:2]:
        ahead.ended(group)
        ahead.begin()
        ahead.finish()
    assert work.given == []
    ahead.ended(groups[2])
    ahead.begin()
    ahead.finish()

    assert work.given == [(["job0", "job1", "job2"], 4)]


def test_a_draft_measured_as_a_main_model_leaves_all_to_the_end() -> None:
    work = Work()
    both = replace(RECORDS[2], main_model=RECORDS[0].draft_model)
    ahead, groups = made(work, records=(*RECORDS[:2], both))

    measured(ahead, groups)
    ahead.begin()
    ahead.finish()

    assert work.given == []


@pytest.mark.parametrize("limit", ["MOST_WAITING", "MOST_KEPT"])
def test_more_than_fits_into_memory_is_left_to_the_end(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, limit, 3)
    ahead, groups = made(Work())

    measured(ahead, groups)
    ahead.begin()
    ahead.finish()

    assert ahead.results() == ()


def test_what_is_kept_is_counted_once_however_many_baselines_there_are() -> None:
    jobs = [job(id=f"job{number}", num=number, baseline_id=f"base{number}") for number in range(20)]
    records = [replace(job_record(number), baseline_id=f"base{number}") for number in range(20)]
    work, groups = Work(), plan_groups(jobs)
    ahead = BackgroundCollator(groups, records, work, Preload(()))

    for group in groups:
        ahead.ended(group)
    ahead.begin()
    ahead.finish()

    assert len(ahead.results()) == len(work.given) == work.counts == 20


def test_what_goes_wrong_is_left_to_the_end() -> None:
    work = Work(error=StorageError("No space", remedy="free some"))
    ahead, groups = made(work)

    measured(ahead, groups)
    ahead.begin()
    ahead.finish()

    assert len(work.given) == 1
    assert ahead.results() == ()
    assert ahead.error is work.error
