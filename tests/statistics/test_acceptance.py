"""Acceptance, alpha, tokens a round and costs, against worked cases and closed forms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velosweep.errors import VelosweepError
from velosweep.statistics.acceptance import (
    Counts,
    RoundCost,
    alpha_from_positions,
    alpha_from_totals,
    cluster_interval,
    cost_model,
    estimate,
    expected_speedup,
    geometric_sum,
    hazards,
    leviathan_speedup,
    wilson,
)

WORKED = json.loads((Path(__file__).parent / "statistics_cases.json").read_text())


def _close(value):
    return pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("case", WORKED["wilson_cases"], ids=lambda case: f"{case['k']}of{case['n']}")
def test_wilson_agrees_with_the_worked_case(case):
    if case["expected"] is None:
        with pytest.raises(VelosweepError, match="11 accepted of 10"):
            wilson(case["k"], case["n"])
        return

    assert (_close(case["expected"]["lower"]), _close(case["expected"]["upper"])) == wilson(case["k"], case["n"])


@pytest.mark.parametrize("case", WORKED["acceptance_cases"], ids=["log_line", "near_geometric"])
def test_acceptance_agrees_with_the_worked_case(case):
    expected, counts, rounds = case["expected"], case["accepted_per_position"], case["rounds"]
    accepted, n_draft = sum(counts), case["n_draft"]

    acceptance = estimate(
        [Counts(drafted=rounds * n_draft, accepted=accepted, rounds=rounds, per_position=tuple(counts))], n_draft
    )

    assert _close(expected["naive_rate"]) == acceptance.rate
    assert _close(expected["alpha_mle"]) == acceptance.alpha
    assert _close(expected["tokens_per_round"]) == acceptance.tokens_per_round
    assert _close(expected["survival"]) == list(acceptance.per_position)
    assert _close(expected["hazards"]) == list(hazards(counts, rounds))
    assert _close(expected["alpha_from_totals"]) == alpha_from_totals(accepted / rounds, n_draft)
    cost = case["cost_ratio"]
    assert _close(expected["predicted_speedup"]) == expected_speedup(acceptance.tokens_per_round, n_draft, cost)
    assert _close(expected["leviathan_speedup_at_alpha_mle"]) == leviathan_speedup(acceptance.alpha, n_draft, cost)
    trials = accepted + rounds - counts[-1]
    low, high = wilson(accepted, trials)
    assert (_close(expected["wilson_on_trials"]["lower"]), _close(expected["wilson_on_trials"]["upper"])) == (low, high)


@given(st.floats(0.0, 1.0), st.integers(1, 40))
def test_alpha_is_found_again_from_its_own_totals(alpha, n_draft):
    found = alpha_from_totals(geometric_sum(alpha, n_draft), n_draft)

    # The sum is flat in nothing: its slope is at least 1.
    assert found == pytest.approx(alpha, abs=1e-12)


@pytest.mark.parametrize(
    ("alpha", "c", "best", "speedup"),
    [(0.5, 0.02, 4, 1.79), (0.6, 0.05, 4, 1.92), (0.7, 0.1, 4, 1.98), (0.8, 0.05, 8, 3.09), (0.9, 0.02, 19, 6.37)],
)
def test_the_best_draft_length_is_the_design_notes(alpha, c, best, speedup):
    by_length = {n: leviathan_speedup(alpha, n, c) for n in range(1, 40)}

    assert max(by_length, key=by_length.get) == best
    assert by_length[best] == pytest.approx(speedup, abs=0.006)


def test_accepted_over_drafted_is_not_alpha():
    assert pytest.approx(geometric_sum(0.8, 8), rel=0.01) == 8 * 0.416


def test_one_prompt_has_wilsons_interval_labelled_this_run():
    acceptance = estimate([Counts(drafted=200, accepted=100, rounds=25)], 8)

    assert (acceptance.low, acceptance.high) == wilson(100, 200)
    assert "this run" in acceptance.interval_unit
    assert acceptance.tokens_per_round == 5


def test_over_prompts_the_interval_is_of_the_prompts_not_of_their_tokens():
    prompts = [Counts(drafted=1000, accepted=k, rounds=125) for k in (300, 500, 700, 450)]

    acceptance = estimate(prompts, 8)

    tight = wilson(1950, 4000)
    assert acceptance.low < tight[0] < acceptance.rate < tight[1] < acceptance.high
    assert "prompts" in acceptance.interval_unit
    assert acceptance.tokens_per_round_low < acceptance.tokens_per_round < acceptance.tokens_per_round_high


def test_a_draft_that_is_always_right_has_alpha_1_and_no_interval_over_prompts():
    acceptance = estimate([Counts(drafted=80, accepted=80, rounds=10)] * 3, 8)

    assert (acceptance.rate, acceptance.alpha, acceptance.low) == (1.0, 1.0, None)


def test_nothing_drafted_is_no_acceptance():
    assert estimate([], 8) is None
    assert estimate([Counts(drafted=0, accepted=0, rounds=0)], 8) is None


def test_clusters_that_agree_have_a_narrow_interval():
    low, high = cluster_interval([50, 50, 50], [100, 100, 100])

    assert low == pytest.approx(0.5)
    assert high == pytest.approx(0.5)


def test_alpha_from_positions_of_no_positions_is_none():
    assert alpha_from_positions((), 10) is None


def _rounds(c, batch, *lengths, vanilla=10.0, fixed=0.0):
    return [RoundCost(n_draft=n, drafted=n, ms=vanilla * (n * c + batch(n + 1) + fixed)) for n in lengths]


def test_costs_are_told_apart_where_the_draft_was_measured_by_itself():
    def cliff(k):
        return 1.0 if k <= 8 else 2.0

    model = cost_model(_rounds(0.1, cliff, 4, 8, 12), 10.0, draft_ms_per_token=1.0)

    assert model.cost_ratio == pytest.approx(0.1)
    assert model.batch_cost == pytest.approx({5: 1.0, 9: 2.0, 13: 2.0})
    assert model.source == "draft measured"


def test_from_several_draft_lengths_the_cost_ratio_is_their_slope_and_a_cliff_stays_in_the_batch():
    model = cost_model(_rounds(0.1, lambda k: 1.0, 2, 4, 6, fixed=0.3), 10.0)

    assert model.cost_ratio == pytest.approx(0.1)
    assert model.batch_cost == pytest.approx({3: 1.3, 5: 1.3, 7: 1.3})


def test_the_slope_leaves_no_batch_cheaper_than_a_single_token() -> None:
    # From 5 to 9 tokens a batch costs more by a step: of two arms the slope alone would say that drafting does.
    model = cost_model(_rounds(0.3, {5: 1.2, 9: 2.4}.__getitem__, 4, 8), 10.0)

    assert model is not None
    assert model.cost_ratio == pytest.approx(0.35)  # 0.6 from the slope, of which a round of 2.4 leaves 1.4 / 4
    assert model.batch_cost[5] == pytest.approx(1.0)
    assert min(model.batch_cost.values()) >= 1 - 1e-12


def test_one_draft_length_does_not_tell_draft_cost_from_batch_cost():
    assert cost_model(_rounds(0.1, lambda k: 1.0, 8), 10.0) is None


def test_a_counters_room_for_longer_drafts_is_no_position():
    exact = estimate([Counts(drafted=50, accepted=39, rounds=25, per_position=(20, 19))], 2)

    padded = estimate([Counts(drafted=50, accepted=39, rounds=25, per_position=(20, 19, 0, 0))], 2)

    assert exact == padded
