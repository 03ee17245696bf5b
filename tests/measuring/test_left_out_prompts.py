"""Prompts that can't be measured are named, where possible before they are run, and the others are measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.measuring.standin_lane import Bench, StandInSession, good
from tests.planning.jobs import jobs_over_n_draft
from tests.strategies import samples_to_table
from tests.tuning.test_search_driver import Truth, search
from velosweep.config.settings import Job, Prompt, PromptSet
from velosweep.errors import RequestRefused, RunFailed
from velosweep.llama_cpp.engine import Generation, Request
from velosweep.measuring.events import GroupEnded, PromptLeftOut, ServerFailed
from velosweep.statistics.summarise import compare_jobs


def jobs(*n_drafts: int, prompts: str = "abcd") -> tuple[Job, ...]:
    """Two iterations over prompts of one letter."""
    some = PromptSet(name="letters", prompts=tuple(Prompt(id=one, text=one) for one in prompts))
    return jobs_over_n_draft(*n_drafts, iterations=2, prompts=some)


def refusing(*prompts: str) -> Callable[[Request], None]:
    def check(request: Request) -> None:
        if request.prompt.id in prompts:
            raise RequestRefused(f"{request.prompt.id} is too long", remedy="shorten it")

    return check


def failing(error: RunFailed, *prompts: str, n_draft: int | None = None) -> Callable[..., Generation]:
    def answer(session: StandInSession, request: Request) -> Generation:
        if request.prompt.id in prompts and n_draft in (None, session.server.n_draft):
            raise error
        return good(session.server, request)

    return answer


def outcomes(bench: Bench) -> dict[tuple[str, str], int]:
    """Counted runs by prompt and status."""
    return dict(Counter((s.prompt_id, s.status.value) for s in bench.samples if not s.warmup))


def left_out(bench: Bench) -> list[tuple[str, str]]:
    return [(event.prompt.id, event.error) for event in bench.events if isinstance(event, PromptLeftOut)]


def test_a_prompt_that_the_server_refuses_beforehand_is_never_run_and_the_others_all_are() -> None:
    bench = Bench()
    bench.engine.check = refusing("c")
    bench.run(jobs(4, 8))

    assert outcomes(bench) == {(one, "ok"): 2 * 3 for one in "abd"}
    assert left_out(bench) == [("c", "c is too long; shorten it")]
    assert bench.failures() == []


def test_the_refusal_is_recorded_once_for_each_server_with_its_reason() -> None:
    bench = Bench()
    bench.engine.check = refusing("c")
    bench.run(jobs(4, 8))

    refused = [sample for sample in bench.recorded if sample.error]

    assert [(s.prompt_id, s.n_draft, s.status.value, s.iteration, s.error) for s in refused] == [
        ("c", n_draft, "failed", 1, "c is too long; shorten it") for n_draft in (0, 4, 8)
    ]


@pytest.mark.parametrize("refused", ["c", "abcd"])
def test_a_sweep_that_goes_on_asks_no_server_again_for_what_was_refused(refused: str) -> None:
    bench = Bench()
    bench.engine.check = refusing(*refused)
    bench.run(jobs(4, 8))
    events, started = bench.events.copy(), len(bench.engine.sessions)
    bench.events.clear()
    bench.run(jobs(4, 8))

    told = [event for event in events if isinstance(event, (PromptLeftOut, ServerFailed))]
    assert [event for event in bench.events if not isinstance(event, GroupEnded)] == told  # the state stays what it was
    assert len([sample for sample in bench.recorded if sample.error]) == 3 * len(refused)
    assert len(bench.engine.sessions) == started


def test_a_prompt_that_was_refused_is_asked_again_for_a_setting_that_was_not_there() -> None:
    bench = Bench()
    bench.engine.check = refusing("c")
    bench.run(jobs(4))
    bench.engine.check = refusing()
    bench.run(jobs(4, 8))

    assert outcomes(bench)["c", "ok"] == 2 * 3


def test_an_attached_server_is_asked_again_because_it_may_be_another_one() -> None:
    attached = [replace(job, engine=replace(job.engine, kind="attached")) for job in jobs(4)]
    bench = Bench()
    bench.engine.check = refusing("c")
    bench.run(attached)
    bench.engine.check = refusing()
    bench.run(attached)

    assert outcomes(bench)["c", "ok"] == 2 * 2


def test_where_every_prompt_is_refused_the_jobs_fail_with_the_reason_and_nothing_is_run() -> None:
    bench = Bench()
    bench.engine.check = refusing(*"abcd")
    bench.run(jobs(4))

    assert outcomes(bench) == {}
    assert {event.error for event in bench.failures()} == {"d is too long; shorten it"}


def test_a_refusal_that_only_the_run_shows_is_not_tried_again() -> None:
    bench = Bench()
    bench.engine.answer = failing(RequestRefused("400"), "b")
    bench.run(jobs(4))

    assert outcomes(bench) == {("b", "failed"): 1} | {(one, "ok"): 4 for one in "acd"}
    assert left_out(bench) == [("b", "400")]


def test_a_prompt_at_which_one_server_keeps_failing_is_left_out_and_the_others_go_on() -> None:
    bench = Bench()
    bench.engine.answer = failing(RunFailed("it died"), "b", n_draft=8)
    bench.run(jobs(4, 8))

    assert left_out(bench) == [("b", "n_draft 8: it died")]
    assert bench.failures() == []
    assert {one: outcomes(bench)[one, "ok"] for one in "acd"} == dict.fromkeys("acd", 6)


def test_a_server_that_fails_at_two_prompts_in_a_row_is_the_trouble_itself() -> None:
    bench = Bench()
    bench.engine.answer = failing(RunFailed("it died"), "b", "c", "d", n_draft=8)
    bench.run(jobs(4, 8))

    assert [(event.server.label, event.error) for event in bench.failures()] == [("n_draft 8", "it died")]
    assert outcomes(bench)["d", "ok"] == 4


def test_the_job_is_compared_over_the_prompts_that_are_left_and_names_the_others() -> None:
    bench = Bench()
    bench.engine.check = refusing("c")
    bench.run(jobs(4))

    rows = compare_jobs(samples_to_table(bench.recorded))
    (job,) = (row for row in rows if row.prompt_id is None)
    (finding,) = (finding for finding in job.findings if finding.code == "prompts_left_out")

    assert (job.n_pairs, job.speedup_gm) == (2, 1.0)
    assert finding.evidence == {"prompts": 1, "of": 4, "names": "c", "reason": "c is too long; shorten it"}


def test_a_search_goes_on_without_the_prompt() -> None:
    truth, bench = Truth(cv=0.005, seed=1), Bench()
    bench.engine.answer, bench.engine.check = truth.answer, refusing("b")
    answer, driver = search(jobs(1, 4, 8, prompts="ab"), bench)

    assert answer.winner is not None
    assert {sample.prompt_id for sample in driver.samples.values()} == {"a"}
