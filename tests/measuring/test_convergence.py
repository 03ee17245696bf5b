"""Which runs an adaptive protocol decides from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.planning.jobs import jobs_over_n_draft
from velosweep.config.settings import Adaptive, Prompt, PromptSet, Protocol
from velosweep.measuring.convergence import converged, iteration_speeds
from velosweep.measuring.resuming import CompletedRun
from velosweep.planning.identity import identify
from velosweep.planning.measurements import RunKey
from velosweep.planning.server_groups import ServerGroup, plan_groups

PROMPTS = PromptSet(name="two", prompts=(Prompt(id="a", text="A"), Prompt(id="b", text="B")))
ADAPTIVE = Adaptive(min_pairs=2, look_every=2, max_pairs=6, target=0.01)
(JOB,) = identify(
    [replace(job, protocol=Protocol(adaptive=ADAPTIVE)) for job in jobs_over_n_draft(4, prompts=PROMPTS)], {}
)
(GROUP,) = plan_groups([JOB])


def runs(owner: str, *ms: float, prompts: str = "ab") -> dict[RunKey, CompletedRun]:
    """A run of 101 tokens of each prompt in each iteration, with milliseconds a token."""
    return {
        (owner, 0, 0, iteration, prompt): CompletedRun(101, 100 * each, 100 * each)
        for iteration, each in enumerate(ms, start=1)
        for prompt in prompts
    }


def test_an_iterations_speed_is_all_its_tokens_over_all_their_time() -> None:
    done = runs(JOB.baseline_id, 10.0, prompts="a") | runs(JOB.baseline_id, 30.0, prompts="b")

    assert iteration_speeds(done, GROUP, JOB.baseline_id, launch=0) == [200 / 4.0]


def test_speeds_end_before_the_first_iteration_that_is_not_complete() -> None:
    done = runs(JOB.id, 10.0, 20.0, 10.0)
    del done[JOB.id, 0, 0, 2, "b"]

    assert iteration_speeds(done, GROUP, JOB.id, launch=0) == [100.0]
    assert iteration_speeds(runs(JOB.id, 10.0, 20.0), GROUP, JOB.id, launch=0, before=2) == [100.0]


def test_only_complete_pairs_are_looked_at() -> None:
    vanilla, speculative = runs(JOB.baseline_id, 10.0, 10.0), runs(JOB.id, 5.0, 5.0)

    assert converged(vanilla | speculative, GROUP, JOB.id, 0)
    assert not converged(vanilla | speculative, GROUP, JOB.id, 0, before=2)
    assert not converged(vanilla | runs(JOB.id, 5.0), GROUP, JOB.id, 0)
    assert not converged(vanilla | runs(JOB.id, 5.0, 8.0), GROUP, JOB.id, 0)


def test_a_fixed_protocol_never_converges() -> None:
    (fixed,) = jobs_over_n_draft(4, prompts=PROMPTS)
    (group,) = plan_groups([fixed])

    assert not converged(runs(fixed.baseline_id, 10.0, 10.0) | runs(fixed.id, 5.0, 5.0), group, fixed.id, 0)


def group_with(**rule: Any) -> ServerGroup:
    """The same job with another rule of stopping; its ids stay, so that the same runs count."""
    job = replace(JOB, protocol=Protocol(adaptive=replace(ADAPTIVE, **rule)))
    return replace(GROUP, jobs=(job,))


def test_a_map_stops_as_soon_as_the_interval_does_not_hold_1() -> None:
    clear = runs(JOB.baseline_id, 10.0, 10.2, 10.1, 9.9) | runs(JOB.id, 5.0, 4.5, 5.5, 4.9)
    unclear = runs(JOB.baseline_id, 10.0, 10.2, 10.1, 9.9) | runs(JOB.id, 9.0, 11.5, 9.5, 10.9)

    assert not converged(clear, GROUP, JOB.id, launch=0)
    assert converged(clear, group_with(until_sure=True), JOB.id, launch=0)
    assert not converged(unclear, group_with(until_sure=True), JOB.id, launch=0)


def test_a_budget_ends_a_group_that_has_enough_pairs_for_a_look() -> None:
    group = group_with(budget_s=60.0)
    one = runs(JOB.baseline_id, 10.0) | runs(JOB.id, 9.0)
    two = runs(JOB.baseline_id, 10.0, 10.2) | runs(JOB.id, 9.0, 11.5)

    assert [converged(two, group, JOB.id, launch=0, took_s=s) for s in (59.0, 61.0)] == [False, True]
    assert not converged(one, group, JOB.id, launch=0, took_s=61.0)
