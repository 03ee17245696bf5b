"""All lanes together: every group once, and how lanes end."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.measuring.standin_lane import RecordedPreload, StandInEngine, StandInSession, good
from tests.planning.jobs import jobs_over_n_draft
from tests.results.made import environment, record
from velosweep.config.settings import Job, Prompt, PromptSet
from velosweep.errors import RequestRefused, StorageError
from velosweep.llama_cpp.engine import Generation, Request
from velosweep.measuring.dispatch import MeasuringOutcome, measure
from velosweep.measuring.interrupts import StopFlag
from velosweep.measuring.opening import OpenedSweep
from velosweep.measuring.prepare import Prepared, engine_key
from velosweep.measuring.resuming import EarlierResults
from velosweep.planning.server_groups import plan_groups
from velosweep.results.journal import Journal, read_journal
from velosweep.values import Device, Lane, Sample

JOBS = tuple(job for n_predict in range(10, 16) for job in jobs_over_n_draft(4, iterations=1, n_predict=n_predict))


def run(
    folder: Path, *, lanes: int, engine: StandInEngine, stop: StopFlag, journal: Journal, jobs: tuple[Job, ...] = JOBS
) -> MeasuringOutcome:
    cpu = Device(kind="cpu", name="test CPU")
    prepared = Prepared(
        jobs=jobs,
        lanes=tuple(Lane(number=number, devices=(cpu,)) for number in range(lanes)),
        environment=environment(),
        engines={engine_key(JOBS[0].engine): engine},
        reasons=(),
    )
    opened = OpenedSweep(root=folder, prepared=prepared, record=record(), progress=EarlierResults(), accepted=())
    return measure(
        plan_groups(jobs, lanes=lanes),
        opened,
        journal=journal,
        observe=lambda event: None,
        stop=stop,
        preload=RecordedPreload([]),
        search_drivers={},
    )


@pytest.mark.parametrize("lanes", [1, 3])
def test_every_job_is_measured_once_over_any_number_of_lanes(tmp_path: Path, lanes: int) -> None:
    journal = Journal(tmp_path / "journal")
    measured = run(tmp_path, lanes=lanes, engine=StandInEngine(), stop=StopFlag(), journal=journal)
    journal.close()
    samples = [sample for sample in read_journal(tmp_path / "journal").samples if not sample.warmup]

    assert measured.states == {job.id: ("done", None) for job in JOBS}
    assert (measured.interrupted, measured.broken) == (False, None)
    assert len(samples) == len({(s.job_id, s.mode) for s in samples}) == 2 * len(JOBS)


def test_objects_that_exist_when_measuring_begins_are_not_garbage_collected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "journal")
    append: Callable[[Sample], None] = journal.append
    frozen: list[int] = []

    def counting(sample: Sample) -> None:
        frozen.append(gc.get_freeze_count())
        append(sample)

    monkeypatch.setattr(journal, "append", counting)
    run(tmp_path, lanes=2, engine=StandInEngine(), stop=StopFlag(), journal=journal)
    journal.close()

    assert len(frozen) >= 2 * len(JOBS)
    assert min(frozen) > len(JOBS)
    assert gc.get_freeze_count() == 0


def test_a_lane_that_cannot_record_ends_the_others_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "journal")
    append: Callable[[Sample], None] = journal.append
    left = iter(range(5))

    def full(sample: Sample) -> None:
        if next(left, None) is None:
            raise StorageError("the disk is full")
        append(sample)

    monkeypatch.setattr(journal, "append", full)
    stop = StopFlag()
    measured = run(tmp_path, lanes=2, engine=StandInEngine(), stop=stop, journal=journal)
    journal.close()

    assert str(measured.broken) == "the disk is full"
    assert stop.requested
    assert not measured.interrupted
    assert len(measured.states) < len(JOBS)


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_left_out_prompt_makes_a_job_partial_and_an_interrupted_one_stays_to_be_resumed(
    interrupted: bool, tmp_path: Path
) -> None:
    def check(request: Request) -> None:
        if request.prompt.id == "b":
            raise RequestRefused("too long")

    stop, engine = StopFlag(), StandInEngine(check=check)
    prompts = PromptSet(name="two", prompts=(Prompt(id="a", text="a"), Prompt(id="b", text="b")))
    jobs = jobs_over_n_draft(4, iterations=3, prompts=prompts)

    def answer(session: StandInSession, request: Request) -> Generation:
        if interrupted and engine.calls.count("n_draft 4") == 1:
            stop.request()
        return good(session.server, request)

    engine.answer = answer
    with Journal(tmp_path / "journal") as journal:
        measured = run(tmp_path, lanes=1, engine=engine, stop=stop, journal=journal, jobs=jobs)

    assert measured.interrupted is interrupted
    left_out = {jobs[0].id: ("partial", "prompt b is left out: too long")}
    assert measured.states == ({} if interrupted else left_out)
