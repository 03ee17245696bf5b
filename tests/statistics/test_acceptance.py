"""Acceptance, alpha and tokens a round against closed forms; the worked cases are in test_worked_cases.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from velosweep.statistics.acceptance import Counts, estimate, expected_tokens


def _counts(*, drafted, accepted, rounds, drafting_rounds=None, per_position=None):
    drafting_rounds = rounds if drafting_rounds is None else drafting_rounds
    return Counts(
        drafted=drafted, accepted=accepted, rounds=rounds, drafting_rounds=drafting_rounds, per_position=per_position
    )


def _one(n_draft, *, accepted, rounds, drafted=None, drafting_rounds=None, per_position=None):
    drafted = rounds * n_draft if drafted is None else drafted
    counts = _counts(
        drafted=drafted, accepted=accepted, rounds=rounds, drafting_rounds=drafting_rounds, per_position=per_position
    )
    return estimate([counts], n_draft)


@given(st.floats(0.001, 1.0), st.integers(1, 40))
def test_alpha_is_found_again_from_its_own_totals(alpha, n_draft):
    accepted = sum(alpha**i for i in range(1, n_draft + 1))

    # The sum is flat in nothing: its slope is at least 1.
    assert _one(n_draft, accepted=accepted, rounds=1).alpha == pytest.approx(alpha, abs=1e-12)


def test_accepted_over_drafted_is_not_alpha():
    found = _one(8, accepted=sum(0.8**i for i in range(1, 9)), rounds=1)

    assert (found.rate, found.alpha) == (pytest.approx(0.416, abs=0.001), pytest.approx(0.8))


def test_alpha_of_the_extremes():
    assert _one(8, accepted=0, rounds=10).alpha == pytest.approx(0, abs=1e-15)
    assert _one(8, accepted=80, rounds=10).alpha == 1
    assert _one(8, accepted=80, rounds=9, drafted=80).alpha == 1
    assert _one(0, accepted=5, rounds=10, drafted=80).alpha is None  # no draft length: another kind of speculation
    assert _one(1, accepted=5, rounds=10).alpha == pytest.approx(0.5)


def test_alpha_from_positions_counts_a_rejection_unless_the_last_position_was_accepted():
    found = _one(2, accepted=30, rounds=20, per_position=(18, 12))

    assert found.alpha == pytest.approx(30 / (30 + 20 - 12))
    assert found.per_position == (0.9, 0.6)
    assert _one(2, accepted=0, rounds=20, per_position=(0, 0)).alpha == 0


def test_one_round_tells_all_that_many_tell():
    accepted, rejected = (_one(1, accepted=k, rounds=1, per_position=(k,)) for k in (1, 0))

    assert (accepted.alpha, accepted.tokens_per_round, accepted.per_position) == (1.0, 2.0, (1.0,))
    assert (rejected.alpha, rejected.tokens_per_round, rejected.per_position) == (0.0, 1.0, (0.0,))
    assert (accepted.high, rejected.low) == (1.0, 0.0)
    assert 0 < accepted.low < 1
    assert 0 < rejected.high < 1


def test_two_prompts_are_enough_for_an_interval_over_prompts():
    found = estimate([_counts(drafted=10, accepted=k, rounds=10) for k in (8, 4)], 1)

    half = stats.t.ppf(0.975, 1) * math.sqrt(2 * (2**2 + 2**2)) / 20 / (0.6 * 0.4)  # of the logit of 0.6
    expected = [1 / (1 + math.exp(-(math.log(1.5) + sign * half))) for sign in (-1, 1)]
    assert (found.low, found.high) == pytest.approx(expected)


def test_where_every_token_is_accepted_a_round_gives_one_more_than_it_drafts():
    assert expected_tokens(1.0, 4) == 5
    assert expected_tokens(0.5, 1) == pytest.approx(1.5)


def test_without_rounds_there_is_a_rate_and_nothing_a_round():
    found = _one(2, accepted=3, rounds=0, drafted=10, per_position=(2, 1))

    assert found.rate == 0.3
    assert (found.alpha, found.tokens_per_round, found.per_position) == (None,) * 3


def test_one_prompt_has_wilsons_interval_labelled_this_run():
    found = _one(8, accepted=100, rounds=25, drafted=200)

    low, high = stats.binomtest(100, 200).proportion_ci(method="wilson")
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.interval_unit == "95 % this run"
    assert found.tokens_per_round == 5


def test_over_prompts_the_intervals_are_of_the_prompts_not_of_their_tokens():
    accepted, drafted, rounds = (
        np.array([300, 500, 700, 450]),
        np.array([1000, 900, 1100, 1000]),
        np.array([125, 130, 120, 140]),
    )

    found = estimate(
        [_counts(drafted=d, accepted=a, rounds=r) for a, d, r in zip(accepted, drafted, rounds, strict=True)], 8
    )

    t = stats.t.ppf(0.975, 3)
    rate = accepted.sum() / drafted.sum()
    error = math.sqrt(4 / 3 * ((accepted - rate * drafted) ** 2).sum()) / drafted.sum()
    logit, half = math.log(rate / (1 - rate)), t * error / (rate * (1 - rate))
    assert found.rate == rate
    assert (found.low, found.high) == tuple(pytest.approx(1 / (1 + math.exp(-x))) for x in (logit - half, logit + half))
    assert found.interval_unit == "95 % over prompts"
    assert found.tokens_per_round == pytest.approx(1 + accepted.sum() / rounds.sum())


def test_two_prompts_are_enough_for_an_interval():
    found = estimate([_counts(drafted=100, accepted=a, rounds=10) for a in (40, 60)], 10)

    assert found.low < 0.5 < found.high
    assert found.low == pytest.approx(1 - found.high)


def test_prompts_that_accept_all_or_nothing_have_no_interval_of_the_rate():
    everything = estimate([_counts(drafted=80, accepted=80, rounds=10)] * 3, 8)
    nothing = estimate([_counts(drafted=80, accepted=0, rounds=10)] * 3, 8)

    assert (everything.rate, everything.alpha, everything.low, everything.high) == (1.0, 1.0, None, None)
    assert (nothing.rate, nothing.low, nothing.high) == (0.0, None, None)
    assert everything.interval_unit == "95 % over prompts"


def test_nothing_drafted_is_no_acceptance():
    assert estimate([], 8) is None
    assert estimate([_counts(drafted=0, accepted=0, rounds=0)], 8) is None


@pytest.mark.parametrize("accepted", [-1, 101])
def test_counts_that_contradict_each_other_are_no_acceptance(accepted):
    assert _one(10, accepted=accepted, rounds=10) is None


def test_a_prompt_that_drafted_nothing_has_rounds_and_no_acceptance():
    drafted = _counts(drafted=20, accepted=14, rounds=10, per_position=(9, 5))

    alone, found = (
        estimate(prompts, 2) for prompts in ([drafted], [drafted, _counts(drafted=0, accepted=0, rounds=30)])
    )

    assert (found.rate, found.low, found.high, found.alpha) == (alone.rate, alone.low, alone.high, alone.alpha)
    assert found.tokens_per_round == 1 + 14 / 40
    assert found.per_position == (9 / 40, 5 / 40)


def test_rounds_without_a_draft_are_rounds():
    # llama.cpp's own counts of a run with p_min .8: 64 tokens, 52 steps after the prompt, of which 9 had a draft
    found = _one(4, accepted=11, drafted=11, rounds=52, drafting_rounds=9, per_position=(9, 2, 0, 0))

    assert found.tokens_per_round == 63 / 52
    assert found.per_position == (9 / 52, 2 / 52, 0, 0)
    assert found.alpha is None  # which drafts were rejected, and which ended early, is not told


def test_alpha_is_told_where_only_the_ends_of_runs_cut_drafts_short():
    # llama.cpp's own counts without p_min: 15 rounds, the last of fewer than 4 drafted tokens
    found = _one(4, accepted=48, drafted=57, rounds=15, drafting_rounds=15)

    assert found.tokens_per_round == 63 / 15
    assert found.alpha == pytest.approx(0.91, abs=0.01)


def test_positions_are_summed_over_prompts_of_unlike_length():
    long = _counts(drafted=90, accepted=30, rounds=30, per_position=(15, 10, 5))
    short = _counts(drafted=40, accepted=15, rounds=20, per_position=(10, 5))

    found = estimate([long, short], 3)

    assert found.per_position == (25 / 50, 15 / 50, 5 / 50)
    assert estimate([long, _counts(drafted=40, accepted=15, rounds=20)], 3).per_position is None


def test_a_counters_room_for_longer_drafts_is_no_position():
    exact = _one(2, accepted=39, rounds=25, per_position=(20, 19))

    assert _one(2, accepted=39, rounds=25, per_position=(20, 19, 0, 0)) == exact
    assert len(_one(3, accepted=39, rounds=25, drafted=50, per_position=(20, 19, 0, 0)).per_position) == 3
    assert len(_one(2, accepted=40, rounds=25, per_position=(20, 19, 1, 0)).per_position) == 3
    assert len(_one(0, accepted=0, rounds=25, drafted=50, per_position=(0, 0)).per_position) == 1


@pytest.mark.parametrize(("drafted", "told"), [(30, True), (29, False)])
def test_alpha_is_told_as_long_as_one_end_of_a_run_explains_what_was_not_drafted(drafted, told):
    # 10 rounds of 4 are 40 tokens; the last rounds of a run draft 3, 2, 1 and 0 at worst, which is 10 fewer
    found = _one(4, accepted=20, drafted=drafted, rounds=10)

    assert (found.alpha is not None) == told
