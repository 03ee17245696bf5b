"""The worked cases, computed with 50 digits by an independent program, from samples to what is reported."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.strategies import samples_to_table, speculative, speeds_table, sweep
from velosweep.statistics.acceptance import expected_tokens
from velosweep.statistics.speculation_cost import expected_speedup
from velosweep.statistics.summarise import compare_jobs
from velosweep.values import Verdict

WORKED = json.loads((Path(__file__).parent / "statistics_cases.json").read_text("utf-8"))
CASES = {case["id"]: case for case in WORKED["cases"]}
# Series with a zero, negative or NaN sample are no measurements of our kind: see the tests of invalid runs below.
SOUND = [
    name for name, case in CASES.items() if case["status"] in ("ok", "degenerate", "insufficient") and name != "empty"
]


def _job(name, **options):
    case = CASES[name]
    return compare_jobs(speeds_table([case["vanilla_samples"]], [case["spec_samples"]], **options))[-1]


def _close(value, rel=1e-9):
    return None if value is None else pytest.approx(value, rel=rel, abs=0)


def _ratio(expected):
    return (None, None) if expected is None else (_close(expected["lower"]), _close(expected["upper"]))


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("mode", ["vanilla", "spec"])
def test_moments_agree_with_the_worked_case(name, mode):
    expected = CASES[name]["expected"][mode]

    job = _job(name, design="apart")
    found = (job.vanilla if mode == "vanilla" else job.speculative).tokens_per_second

    assert _close(expected["mean"]) == found.mean
    assert (expected["min"], expected["max"]) == (found.min, found.max)
    # The worked file asks for 1e-6 only where a huge mean cancels.
    assert _close(expected["stddev"], 1e-6 if name == "cancellation" else 1e-9) == found.stddev
    assert list(found.samples) == CASES[name][f"{mode}_samples"]


@pytest.mark.parametrize("name", SOUND)
def test_the_specifications_speedup_agrees_with_the_worked_case(name):
    expected, job = CASES[name]["expected"], _job(name, design="apart")

    assert _close(expected["speedup"]) == job.speedup
    assert _close(expected["speedup_stddev"]) == job.speedup_stddev


@pytest.mark.parametrize("name", [name for name in SOUND if CASES[name]["paired"]])
def test_paired_intervals_agree_with_the_worked_case(name):
    expected, job = CASES[name]["expected"]["paired_log_t"], _job(name)

    assert _ratio(expected) == (job.ci_low, job.ci_high)
    if expected is not None:
        assert _close(expected["gm_ratio"]) == job.speedup_gm
        assert job.ci_method == "paired log-ratio t, conditional on this launch"


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("design", ["block", "apart"])
def test_welchs_intervals_agree_with_the_worked_case(name, design):
    if design == "block" and not CASES[name]["paired"]:
        return
    expected, job = CASES[name]["expected"]["welch_log"], _job(name, design=design)

    assert _ratio(expected) == (job.ci_low, job.ci_high)
    if expected is not None:
        assert _close(expected["gm_ratio"]) == job.speedup_gm
        assert job.ci_method == "Welch t on logs, assumes no drift between blocks"


@pytest.mark.parametrize("name", ["nan_sample", "negative_sample", "one_zero_sample"])
def test_a_sample_that_is_no_measurement_is_an_invalid_run_and_counts_in_nothing(name):
    case, job = CASES[name], _job(name)
    sound = [
        (v, s)
        for v, s in zip(map(float, case["vanilla_samples"]), map(float, case["spec_samples"]), strict=True)
        if v > 0 and s > 0
    ]

    first = job.findings[0]
    assert (first.code, first.severity, first.evidence["runs"]) == ("invalid_runs", "warning", 1)
    assert job.vanilla.tokens_per_second.samples == tuple(v for v, _ in sound)
    assert job.speculative.tokens_per_second.samples == tuple(s for _, s in sound)


def test_without_a_sound_vanilla_run_there_is_no_speedup():
    job = _job("zero_mean_vanilla")

    assert (job.vanilla, job.speedup, job.speedup_stddev, job.speedup_gm, job.ci_low) == (None,) * 5
    assert job.verdict is Verdict.INVALID


def test_prompts_aggregate_by_geometric_mean_with_t_over_prompts():
    (case,) = WORKED["prompt_aggregate_cases"]
    gain = {f"p{i}": value for i, value in enumerate(case["prompt_speedups"])}

    samples = sweep(iterations=1, prompts=tuple(gain), speed=lambda n, p, i: 30 * (gain[p] if n else 1))
    job = compare_jobs(samples_to_table(samples))[-1]

    assert _close(case["expected"]["geomean"]) == job.speedup_gm
    assert _ratio(case["expected"]) == (job.population_low, job.population_high) == (job.ci_low, job.ci_high)


def test_the_specifications_own_example_fits_n_minus_1():
    speeds = [28.45, 28.32, 28.51, 28.39, 28.47]
    job = compare_jobs(speeds_table([speeds], [speeds]))[-1]

    assert job.vanilla.tokens_per_second.stddev == pytest.approx(0.073, abs=0.002)


def test_several_launches_are_compared_by_their_means():
    vanilla = [10.0] * 6
    speculative_ = [20.0, 20.2, 22.0, 22.2, 21.0, 21.2]
    means = [math.log(math.sqrt(a * b) / 10) for a, b in ((20.0, 20.2), (22.0, 22.2), (21.0, 21.2))]

    job = compare_jobs(speeds_table([vanilla], [speculative_], launches=[0, 0, 1, 1, 2, 2]))[-1]

    middle = sum(means) / 3
    half = 4.302652729749464 * math.sqrt(sum((x - middle) ** 2 for x in means) / 2 / 3)
    assert job.ci_method == "paired log-ratio t over launch means"
    assert (job.ci_low, job.ci_high) == (_close(math.exp(middle - half)), _close(math.exp(middle + half)))
    assert job.speedup_gm == _close(math.exp(middle))
    assert job.n_pairs == 6


# ---------------------------------------------------------------- acceptance


def _drafted(n_draft=8, **counts):
    """Acceptance as it is reported of one run with these counts."""
    run = speculative(n_draft, **({"rounds": None, "drafting_rounds": None, "predicted_tokens": 1000} | counts))
    return compare_jobs(samples_to_table([*sweep([], iterations=1), run]))[-1].acceptance


@pytest.mark.parametrize("case", WORKED["wilson_cases"], ids=lambda case: f"{case['k']}of{case['n']}")
def test_wilson_agrees_with_the_worked_case(case):
    found = _drafted(draft_tokens=case["n"], accepted_tokens=case["k"])

    if case["expected"] is None:
        assert found is None  # more accepted than drafted
        return
    assert _ratio(case["expected"]) == (found.low, found.high)
    assert found.rate == case["k"] / case["n"]
    assert found.interval_unit == "95 % this run"


@pytest.mark.parametrize("case", WORKED["acceptance_cases"], ids=["log_line", "near_geometric"])
def test_acceptance_agrees_with_the_worked_case(case):
    expected, counts, rounds = case["expected"], case["accepted_per_position"], case["rounds"]
    n_draft = case["n_draft"]
    totals = {"draft_tokens": rounds * n_draft, "accepted_tokens": sum(counts), "rounds": rounds}
    totals["drafting_rounds"] = rounds

    found, without_positions = (
        _drafted(n_draft, accepted_per_position=tuple(counts), **totals),
        _drafted(n_draft, **totals),
    )

    assert _close(expected["naive_rate"]) == found.rate
    assert _close(expected["alpha_mle"]) == found.alpha
    assert _close(expected["tokens_per_round"]) == found.tokens_per_round
    assert _close(expected["survival"]) == list(found.per_position)
    assert _close(expected["alpha_from_totals"]) == without_positions.alpha
    assert without_positions.per_position is None
    assert _close(expected["leviathan_speedup_at_alpha_mle"]) == expected_speedup(
        expected_tokens(found.alpha, n_draft), n_draft, case["cost_ratio"]
    )


@pytest.mark.parametrize("case", WORKED["acceptance_cases"], ids=["log_line", "near_geometric"])
def test_the_expected_speedup_agrees_with_the_worked_case(case):
    counts, rounds, n_draft = case["accepted_per_position"], case["rounds"], case["n_draft"]
    run = speculative(
        n_draft,
        draft_tokens=rounds * n_draft,
        accepted_tokens=sum(counts),
        accepted_per_position=tuple(counts),
        rounds=rounds,
    )
    vanilla = sweep([], iterations=1)
    # The draft model measured by itself says what a draft step costs.
    draft = sweep([], iterations=1, speed=lambda n, p, i: 30 / case["cost_ratio"])
    alone = [replace(one, job_id="draft", main_model=run.draft_model) for one in draft]
    samples = [*vanilla, run, *alone]

    job = next(row for row in compare_jobs(samples_to_table(samples)) if row.job_id == run.job_id)

    assert _close(case["cost_ratio"]) == job.cost_ratio
    assert _close(case["expected"]["predicted_speedup"]) == job.expected_speedup
