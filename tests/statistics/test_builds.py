"""Builds of llama.cpp beside the first of a sweep."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tests.reporting import sweeps
from tests.strategies import record, sample, samples_to_table, speculative
from velosweep.records import JobRecord
from velosweep.reporting.baseline_answers import build_answers
from velosweep.reporting.wording import whole_jobs
from velosweep.statistics.builds import RunSeries, SharedRounds, series_of, with_builds_compared
from velosweep.statistics.comparison import BuildComparison, Comparison
from velosweep.statistics.intervals import MODERATED_LAUNCHES, MODERATED_ONE_LAUNCH, WELCH, Interval
from velosweep.statistics.summarise import compare_jobs
from velosweep.statistics.two_way import TwoWayModel
from velosweep.values import Status

BUILDS = ("/old/llama-server", "/new/llama-server")

Speed = Callable[[int, int, int], float]
"""Of a build, n_draft and iteration."""


def of_builds(
    speed: Speed,
    *,
    n_drafts: tuple[int, ...] = (8,),
    iterations: int = 4,
    turns: bool = True,
    launches: int = 1,
    added: int = 0,
    failed: tuple[tuple[int, int], ...] = (),
) -> tuple[list[Comparison], list[JobRecord]]:
    """The whole jobs of a sweep over two builds, with their records. `failed`: launches of builds."""
    arms = [(build, n_draft) for build in range(2) for n_draft in (0, *n_drafts)]
    runs = [(launch, i, arm) for launch in range(launches) for i in range(iterations) for arm in arms]
    runs += [(launch, iterations + i, arm) for launch in range(launches) for i in range(added) for arm in arms]
    if not turns:
        runs.sort(key=lambda run: run[2][0])
    runs = [run for run in runs if (run[0], run[2][0]) not in failed]
    samples = []
    for order, (launch, iteration, (build, n_draft)) in enumerate(runs):
        own = {
            "order": order,
            "launch": launch,
            "iteration": iteration,
            "tps": speed(build, n_draft, iteration + launch * iterations),
            "job_id": f"{build}-{n_draft}",
        }
        samples.append(speculative(n_draft, **own) if n_draft else sample(**own))
    records = [
        record(n_draft, id=f"{build}-{n_draft}", num=number, baseline_id=f"{build}-0", launches=launches,
               settings={"llama_cpp.path": BUILDS[build]})
        for number, (build, n_draft) in enumerate(arms) if n_draft
    ]  # fmt: skip
    table = samples_to_table(samples)
    compared = compare_jobs(table, jobs={job.id: job for job in records})
    found = with_builds_compared(compared, {job.id: job.baseline_id for job in records}, table)
    return whole_jobs(found), records


def beside(jobs: list[Comparison]) -> BuildComparison:
    (found,) = (job.beside_first for job in jobs if job.beside_first is not None)
    return found


def wobbling(factors: dict[tuple[int, int], float]) -> Speed:
    """One machine that all slows and speeds up with, and 1 % of each run's own."""
    rng = np.random.default_rng(3)
    shared = np.exp(rng.normal(0, 0.3, 64))
    return lambda build, n_draft, i: float(
        30 * (1 + n_draft / 8) * factors.get((build, n_draft), 1.0) * shared[i] * np.exp(rng.normal(0, 0.01))
    )


def test_what_all_builds_of_a_round_share_cancels() -> None:
    jobs, _ = of_builds(wobbling({(1, 0): 0.9, (1, 8): 1.2}))

    found = beside(jobs)

    assert found.reference == "0-8"
    assert found.vanilla is not None
    assert found.speculative is not None
    assert (found.vanilla.method, found.vanilla.n) == (MODERATED_ONE_LAUNCH, 4)
    assert found.vanilla.low < 0.9 < found.vanilla.high < 0.95
    assert 1.15 < found.speculative.low < 1.2 < found.speculative.high


def test_builds_that_did_not_take_turns_are_compared_by_welch() -> None:
    jobs, _ = of_builds(lambda build, n_draft, i: 30 + build + n_draft + i / 10, turns=False)

    found = beside(jobs)

    assert found.vanilla is not None
    assert found.vanilla.method == WELCH
    assert found.vanilla.ratio == pytest.approx(
        math.exp(np.mean([math.log((31 + i / 10) / (30 + i / 10)) for i in range(4)]))
    )


def test_builds_that_share_no_launch_are_not_compared_and_cost_no_report() -> None:
    jobs, _ = of_builds(wobbling({}), launches=2, iterations=2, failed=((0, 0), (1, 1)))

    assert beside(jobs) == BuildComparison(reference="0-8", vanilla=None, speculative=None)


@pytest.mark.parametrize("added", [0, 1])
def test_several_launches_are_judged_by_their_means(added: int) -> None:
    jobs, _ = of_builds(wobbling({}), launches=3, iterations=2, added=added)

    found = beside(jobs)

    assert found.speculative is not None
    assert (found.speculative.method, found.speculative.n) == (MODERATED_LAUNCHES, 3)


def test_launches_that_differ_are_no_certainty() -> None:
    def speed(build: int, n_draft: int, number: int) -> float:
        return 30 * math.exp(0.1 * (number // 2) * build * (n_draft > 0))

    found = beside(of_builds(speed, launches=3, iterations=2)[0])

    means = np.array([[[0.0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0.1, 0.2]]])
    assert found.speculative is not None
    assert found.speculative.ratio == pytest.approx(math.exp(0.1))
    assert found.speculative.standard_error == pytest.approx(TwoWayModel.of(means).contrasts(1).standard_error[0, 3])


def test_a_run_without_speed_is_left_out() -> None:
    jobs, _ = of_builds(lambda build, _, number: 0.0 if (build, number) == (1, 2) else 30.0)

    found = beside(jobs).speculative

    assert found is not None
    assert (found.ratio, found.n) == (1, 3)


def two_series(
    passes: list[tuple[int, int]], *, apart: int = 1, devices: tuple[str, str] = ("CPU", "CPU"), ratio: float = 0.5
) -> tuple[RunSeries, RunSeries]:
    """Runs of one prompt that take turns, or the second series `apart` runs later; `ratio` of the second, as a log."""
    first, second = (
        RunSeries(
            logs={one: {"p": 3 + ratio * place + 0.01 * number} for number, one in enumerate(passes)},
            order={one: [2 * number + apart * place] for number, one in enumerate(passes)},
            places={("here", device)},
        )
        for place, device in enumerate(devices)
    )
    return first, second


def compared(first: RunSeries, second: RunSeries) -> Interval | None:
    return SharedRounds({"first": first, "second": second}).ratio("second", "first")


@pytest.mark.parametrize(
    ("apart", "devices", "method"),
    [(1, ("CPU", "CPU"), MODERATED_ONE_LAUNCH), (9, ("CPU", "CPU"), WELCH), (1, ("GPU0", "GPU1"), WELCH)],
)
def test_two_series_are_compared_by_rounds_where_they_took_turns_on_one_device(
    apart: int, devices: tuple[str, str], method: str
) -> None:
    found = compared(*two_series([(0, 0), (0, 1), (0, 2)], apart=apart, devices=devices))

    assert found is not None
    assert (found.ratio, found.method) == (pytest.approx(math.exp(0.5)), method)


@pytest.mark.parametrize(
    ("passes", "starts"),
    [
        ([(0, 1), (0, 2), (1, 3), (1, 4)], 2),
        ([(0, 1), (1, 2), (0, 3), (1, 4)], 4),
        ([(0, 1), (0, 2), (1, 3), (0, 4)], 3),
    ],
)
def test_what_was_added_to_a_launch_counts_as_starts_of_their_own(passes: list[tuple[int, int]], starts: int) -> None:
    found = compared(*two_series(passes))

    assert found is not None
    assert (found.method, found.n) == (MODERATED_LAUNCHES, starts)


def test_one_round_says_nothing() -> None:
    assert compared(*two_series([(0, 0)])) is None


def test_the_prompts_that_both_have_in_a_pass_count_as_their_mean() -> None:
    first, second = two_series([(0, 0), (0, 1)], ratio=0.1)
    first.logs[0, 0]["q"], second.logs[0, 0]["q"] = 5.0, 5.3
    second.logs[0, 1]["q"] = 9.0

    found = compared(first, second)

    assert found is not None
    assert found.ratio == pytest.approx(math.exp((0.2 + 0.1) / 2))


def test_good_runs_alone_make_a_series() -> None:
    samples = [
        sample(iteration=0, tps=20.0),
        sample(iteration=0, tps=0.5, prompt_id="slow"),
        sample(iteration=1, tps=math.inf),
        sample(iteration=2, tps=None),
        sample(iteration=3, tps=30.0, warmup=True),
        sample(iteration=4, tps=30.0, status=Status.FAILED),
        sample(iteration=5, tps=30.0, job_id="another"),
    ]

    found = series_of(samples_to_table(samples), {samples[0].job_id})

    assert {name: own.logs for name, own in found.items()} == {
        samples[0].job_id: {(0, 0): {samples[0].prompt_id: math.log(20), "slow": math.log(0.5)}}
    }


def test_one_build_has_nothing_beside_it() -> None:
    made = sweeps.default_sweep()

    found = with_builds_compared(made.comparisons, {}, made.samples)

    assert found == made.comparisons


@pytest.mark.parametrize(("rounds", "turns"), [(3, True), (6, True), (6, False)])
def test_builds_that_are_the_same_read_one_in_19_of_20_sweeps(rounds: int, turns: bool) -> None:
    rng, held = np.random.default_rng(17), []
    for _ in range(120):
        noise = np.exp(rng.normal(0, 0.02, (2, 9, rounds)))
        jobs, _ = of_builds(lambda b, n, i, noise=noise: float(30 * noise[b, n, i]), iterations=rounds, turns=turns)
        found = beside(jobs)
        held += [ratio is not None and ratio.low <= 1 <= ratio.high for ratio in (found.vanilla, found.speculative)]

    assert 0.92 <= np.mean(held) <= 0.99


def test_several_starts_that_did_not_take_turns_are_judged_by_their_means_too() -> None:
    rng, held = np.random.default_rng(17), []
    for _ in range(60):
        starts, runs = rng.normal(0, 0.03, (2, 9, 3)), rng.normal(0, 0.01, (2, 9, 15))
        noise = np.exp(starts.repeat(5, axis=2) + runs)
        jobs, _ = of_builds(
            lambda b, n, i, noise=noise: float(30 * noise[b, n, i]), iterations=5, launches=3, turns=False
        )
        found = beside(jobs)
        held += [ratio is not None and ratio.low <= 1 <= ratio.high for ratio in (found.vanilla, found.speculative)]

    assert np.mean(held) >= 0.92


def test_the_answer_says_by_how_much_and_how_sure() -> None:
    jobs, records = of_builds(wobbling({(1, 0): 0.9}), n_drafts=(4, 8))
    made = sweeps.default_sweep().record

    (sentence,) = build_answers(jobs, replace(made, jobs=tuple(records)))

    assert sentence.startswith("Build new against build old: 0.89× [0.8")
    assert "(slower) without speculation" in sentence
    assert "(no change seen) with n_draft 4" in sentence
    assert sentence.endswith("One start of each: protocol.launches=3 shows whether another start does the same.")


def test_of_builds_that_did_not_take_turns_it_is_also_said_that_they_were_started_once() -> None:
    jobs, records = of_builds(lambda build, n_draft, i: 30 + 5 * build + i / 10, turns=False)
    made = sweeps.default_sweep().record

    (sentence,) = build_answers(jobs, replace(made, jobs=tuple(records)))

    assert "The builds did not take turns: a drift of the machine would look the same. One start of each:" in sentence


def test_an_interval_that_says_nothing_has_no_verdict() -> None:
    rng = np.random.default_rng(5)
    jobs, records = of_builds(lambda build, n_draft, i: float(30 * np.exp(rng.normal(0, 2))), iterations=2)
    made = sweeps.default_sweep().record

    (sentence,) = build_answers(jobs, replace(made, jobs=tuple(records)))

    assert "(too few runs) without speculation" in sentence
    assert "no change seen" not in sentence
