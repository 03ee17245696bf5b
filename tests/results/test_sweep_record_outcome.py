"""How a sweep ended is read off its record and summaries."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.results.made import record as make_record
from velosweep.config.settings import TunerSettings
from velosweep.errors import ExitStatus
from velosweep.records import SweepRecord
from velosweep.results.sweep_record import Summary, SweepOutcome

GOOD = {"vanilla": {"mode": "Vanilla"}, "speculative": {"mode": "Speculative"}}
ONLY_VANILLA = {"vanilla": {"mode": "Vanilla"}, "speculative": None}


def record_of(*errors: str | None) -> SweepRecord:
    """A record of jobs that ended with these errors."""
    (job, *_) = make_record().jobs
    jobs = tuple(replace(job, id=str(num), num=num, error=error) for num, error in enumerate(errors))
    return replace(make_record(), jobs=jobs)


@pytest.mark.parametrize(
    ("errors", "summaries", "status", "told"),
    [
        ((None, None), [GOOD, GOOD], ExitStatus.OK, (None, None)),
        ((None, "it died"), [GOOD, None], ExitStatus.SOME_FAILED, (None, "it died")),
        ((None, "it died"), [GOOD, GOOD], ExitStatus.SOME_FAILED, (None, "it died")),
        (("a", "b"), [None, None], ExitStatus.NOTHING_MEASURED, ("a", "b")),
        ((None, None), [GOOD, None], ExitStatus.SOME_FAILED, (None, "nothing was measured")),
        ((None, None), [GOOD, ONLY_VANILLA], ExitStatus.SOME_FAILED, (None, "nothing was measured")),
    ],
)
def test_each_job_s_error_and_summary_make_the_exit_status(
    errors: tuple[str | None, ...], summaries: list[Summary | None], status: ExitStatus, told: tuple[str | None, ...]
) -> None:
    outcome = SweepOutcome.of_sweep(record_of(*errors), summaries)

    assert (outcome.exit_status, outcome.errors) == (status, told)


def test_an_interrupted_sweep_says_so_whatever_was_measured() -> None:
    assert SweepOutcome.of_sweep(record_of(None), [GOOD], interrupted=True).exit_status == ExitStatus.INTERRUPTED


def test_candidates_that_a_search_did_not_need_have_not_failed() -> None:
    searched = replace(record_of(None, None), tuner=TunerSettings())

    outcome = SweepOutcome.of_sweep(searched, [GOOD, None])

    assert (outcome.exit_status, outcome.errors) == (ExitStatus.OK, (None, None))


def test_jobs_of_an_earlier_command_in_the_same_folder_are_not_this_one_s() -> None:
    outcome = SweepOutcome.of_sweep(record_of(None, None, "it died"), [GOOD, GOOD, None], asked={"0", "1"})

    assert (outcome.exit_status, len(outcome.summaries)) == (ExitStatus.OK, 2)


def test_numbers_that_came_to_one_run_each_have_its_outcome_in_their_place() -> None:
    first, last = record_of(None, "it died").jobs
    record = replace(record_of(None, "it died"), jobs=(replace(first, num=0, twins=(2,)), replace(last, num=1)))

    assert SweepOutcome.of_sweep(record, [GOOD, None]).errors == (None, "it died", None)
