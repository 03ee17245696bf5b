"""Rounds that began on a slow machine are marked, from the samples alone."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.strategies import sample, samples_to_table, sweep
from velosweep.statistics.comparison import Finding
from velosweep.statistics.summarise import compare_jobs
from velosweep.values import Sample, Verdict


def look(iteration: int, number: int, tps: float, **changes: object) -> Sample:
    """A vanilla warm-up before the round of `iteration`."""
    values = {"iteration": iteration, "order": 100 * iteration + number, "warmup": True, "tps": tps, **changes}
    return sample(**values)


def rounds(**changes: object) -> list[Sample]:
    """Four rounds from iteration 1 on, vanilla at 30 tokens per second in the first and 27 later."""
    taken = sweep(iterations=4, speed=lambda n, p, i: (30.0 if i == 0 else 27.0) * (1 if n == 0 else 2) + 0.01 * i)
    return [
        replace(one, iteration=one.iteration + 1, order=100 * (one.iteration + 1) + 50 + one.order, **changes)
        for one in taken
    ]


def untrusted(samples: list[Sample]) -> list[Finding]:
    found = [row for row in compare_jobs(samples_to_table(samples)) if row.prompt_id is None]
    return [finding for row in found for finding in row.findings if finding.code == "untrusted"]


def test_a_round_after_two_slow_looks_is_untrusted_and_counts_all_the_same() -> None:
    samples = [*rounds(), look(3, 0, 27.5), look(3, 1, 27.0)]
    (finding,) = untrusted(samples)

    assert (finding.severity, finding.subject) == ("warning", "rounds")
    assert finding.evidence == {
        "rounds": 1,
        "iterations": "3",
        "worst_iteration": 3,
        "speed": 27.0,
        "first_speed": 30.0,
        "fall": pytest.approx(0.1),
    }
    (job,) = [row for row in compare_jobs(samples_to_table(samples)) if row.prompt_id is None]
    assert (job.n_pairs, job.verdict) == (4, Verdict.FASTER)


@pytest.mark.parametrize(
    "looks",
    [
        [],
        [look(3, 0, 27.0)],
        [look(3, 0, 27.0), look(3, 1, 29.9)],
        [look(3, 0, 27.0), look(3, 1, 30.5)],
        [look(3, 0, 30.5), look(3, 1, 30.0)],
        [look(1, 0, 27.0), look(1, 1, 27.0)],
        [look(3, 0, 27.0), look(3, 1, 27.0), look(3, 2, 29.9)],
        [look(3, 0, 27.0), look(4, 0, 27.0)],
        [look(3, 0, 27.0, launch=1), look(3, 1, 27.0, launch=1)],
        [look(3, 0, 27.0, job_id="other"), look(3, 1, 27.0, job_id="other")],
        [look(3, 0, 27.0, sweep_id="other"), look(3, 1, 27.0, sweep_id="other")],
    ],
    ids=[
        *("none", "one", "cool again", "faster", "as fast as at first", "before the first round"),
        *("cool after a resume", "one each", "another launch", "another series", "another sweep"),
    ],
)
def test_a_round_that_began_as_fast_as_at_first_is_not(looks: list[Sample]) -> None:
    assert untrusted([*rounds(), *looks]) == []


@pytest.mark.parametrize(("last", "slow"), [(29.39, True), (29.4, False), (29.41, False)])
def test_a_machine_is_slow_below_98_per_cent_of_the_first_round(last: float, slow: bool) -> None:
    assert bool(untrusted([*rounds(), look(3, 0, 29.0), look(3, 1, last)])) == slow


@pytest.mark.parametrize("last", [29.7, 29.8])
def test_a_second_look_that_is_no_faster_is_too_slow_by_whatever_limit_the_first_was(last: float) -> None:
    assert untrusted([*rounds(), look(2, 0, 29.8), look(2, 1, last)])


def test_the_second_round_of_a_sweep_can_be_untrusted() -> None:
    first_is_0 = [replace(one, iteration=one.iteration - 1) for one in rounds()]
    (finding,) = untrusted([*first_is_0, look(1, 0, 27.0), look(1, 1, 27.0)])

    assert finding.evidence["iterations"] == "1"


def test_a_round_after_two_slow_looks_is_untrusted_though_an_earlier_one_needed_a_single_look() -> None:
    (finding,) = untrusted([*rounds(), look(2, 0, 29.9), look(3, 0, 27.0), look(3, 1, 27.0)])

    assert finding.evidence["iterations"] == "3"


SPEEDS_AT_FIRST = {"p0": 30.0, "p1": 60.0}


@pytest.mark.parametrize("rounds_of", [{"p0": 3, "p1": 3}, {"p0": 3, "p1": 2}, {"p0": 2, "p1": 3}])
@pytest.mark.parametrize("falls", [{"p0": 0.9, "p1": 0.8}, {"p0": 0.8, "p1": 0.9}])
@pytest.mark.parametrize("order", [("p0", "p1"), ("p1", "p0")])
def test_the_worst_of_two_prompts_fell_furthest_below_its_own_first_speed(
    rounds_of: dict[str, int], falls: dict[str, float], order: tuple[str, str]
) -> None:
    samples = sweep(
        iterations=4, prompts=("p0", "p1"), speed=lambda n, p, i: SPEEDS_AT_FIRST[p] * (2 if n else 1) + 0.01 * i
    )
    for place, prompt in enumerate(order):
        last = SPEEDS_AT_FIRST[prompt] * falls[prompt]
        samples += [look(rounds_of[prompt], 10 * place + number, last, prompt_id=prompt) for number in (0, 1)]
    (finding,) = untrusted(samples)

    worst = min(falls, key=lambda prompt: falls[prompt])
    assert finding.evidence["worst_iteration"] == rounds_of[worst]
    assert finding.evidence["first_speed"] == SPEEDS_AT_FIRST[worst]
    assert finding.evidence["fall"] == pytest.approx(0.2)


def test_several_rounds_are_one_finding_with_the_worst_and_rows_may_come_in_any_order() -> None:
    samples = [*rounds(), *(look(i, n, 28.0 - i) for i in (2, 4) for n in (0, 1))]
    random.Random(3).shuffle(samples)
    (finding,) = untrusted(samples)

    assert (finding.evidence["rounds"], finding.evidence["iterations"]) == (2, "2, 4")
    assert (finding.evidence["worst_iteration"], finding.evidence["speed"]) == (4, 24.0)
