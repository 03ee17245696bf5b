"""Cost ratio and expected speed-up, from samples whose rounds cost what the model says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.strategies import samples_to_table, sweep
from velosweep.statistics.rounds_cost import RoundCost, cost_ratio, leviathan_speedup
from velosweep.statistics.summarise import compare_jobs
from velosweep.values import Mode, Status


def _rounds(c, batch, *lengths, fixed=0.0):
    return [RoundCost(drafted=n, ms=10.0 * (n * c + batch(n + 1) + fixed)) for n in lengths]


def test_a_draft_that_was_measured_by_itself_says_its_cost():
    assert cost_ratio(_rounds(0.3, lambda k: 1.0, 4), 10.0, 1.0) == pytest.approx(0.1)


def test_from_several_draft_lengths_the_cost_ratio_is_their_slope():
    assert cost_ratio(_rounds(0.1, lambda k: 1.0, 2, 4, 6, fixed=0.3), 10.0, None) == pytest.approx(0.1)


def test_one_outlying_length_does_not_move_the_slope():
    rounds = [*_rounds(0.1, lambda k: 1.0, 2, 4, 6, 8, fixed=0.3), RoundCost(drafted=10, ms=60.0)]

    assert cost_ratio(rounds, 10.0, None) == pytest.approx(0.1)


def test_the_slope_leaves_no_batch_cheaper_than_a_single_token():
    # From 5 to 9 tokens a batch costs more by a step: of two arms the slope alone would say that drafting does.
    found = cost_ratio(_rounds(0.3, {5: 1.2, 9: 2.4}.__getitem__, 4, 8), 10.0, None)

    assert found == pytest.approx(0.35)  # 0.6 from the slope, of which a round of 2.4 leaves 1.4 / 4


def test_a_round_that_costs_less_than_a_token_leaves_nothing_for_the_draft():
    assert cost_ratio(_rounds(0.0, lambda k: 0.9, 4, 8), 10.0, None) == 0


def test_one_draft_length_does_not_tell_draft_cost_from_batch_cost():
    assert cost_ratio(_rounds(0.1, lambda k: 1.0, 8), 10.0, None) is None
    assert cost_ratio(_rounds(0.1, lambda k: 1.0, 8, 8), 10.0, None) is None


def test_without_vanilla_nothing_is_relative():
    assert cost_ratio(_rounds(0.1, lambda k: 1.0, 4, 8), None, 1.0) is None


def test_leviathans_speedup_in_closed_form_and_at_its_limit():
    assert leviathan_speedup(0.8, 8, 0.05) == pytest.approx((1 - 0.8**9) / (0.2 * 1.4))
    assert leviathan_speedup(1.0, 8, 0.05) == pytest.approx(9 / 1.4)


# ---------------------------------------------------------------- from samples


TOKENS, ROUNDS = 99, 25


def _speed(c, fixed=0.2):
    """Tokens a second of 99 tokens in 25 rounds, where a vanilla token takes 1/30 s."""
    return lambda n, p, i: 30.0 if not n else 30 * TOKENS / ROUNDS / (n * c + 1 + fixed)


def _jobs(samples):
    return {row.job_id: row for row in compare_jobs(samples_to_table(samples)) if row.prompt_id is None}


def test_jobs_of_one_pair_share_the_cost_ratio_and_each_expects_its_own_speedup():
    jobs = _jobs(sweep([2, 4, 8], speed=_speed(0.1)))

    for n in (2, 4, 8):
        tau = 1 + 0.5 * n
        assert jobs[f"j{n}"].cost_ratio == pytest.approx(0.1)
        assert jobs[f"j{n}"].expected_speedup == pytest.approx(tau / (n * 0.1 + 1))
        assert jobs[f"j{n}"].acceptance.tokens_per_round == pytest.approx(tau)


def test_one_draft_length_has_no_cost_ratio():
    job = _jobs(sweep([8], speed=_speed(0.1)))["j8"]

    assert (job.cost_ratio, job.expected_speedup) == (None, None)


def _draft_alone(**changes):
    """The draft model measured as a main model, at a quarter of the cost of the main one."""
    alone = sweep([], iterations=2, speed=lambda n, p, i: 120.0)
    return [replace(s, job_id="alone", main_model="/models/draft-f16.gguf", **changes) for s in alone]


def test_a_draft_measured_alone_on_the_same_machine_says_its_cost():
    assert _jobs([*sweep([8], speed=_speed(0.1)), *_draft_alone()])["j8"].cost_ratio == pytest.approx(0.25)


@pytest.mark.parametrize("field", ["host", "device", "engine", "sweep_id"])
def test_a_draft_measured_elsewhere_says_nothing(field):
    assert _jobs([*sweep([8], speed=_speed(0.1)), *_draft_alone(**{field: "other"})])["j8"].cost_ratio is None


def test_a_draft_whose_runs_failed_says_nothing():
    failed = _draft_alone(status=Status.FAILED)

    assert _jobs([*sweep([8], speed=_speed(0.1)), *failed])["j8"].cost_ratio is None


def test_other_draft_models_and_kinds_of_speculation_have_costs_of_their_own():
    samples = sweep([2, 4, 8], speed=_speed(0.1))

    for changed in ({"draft_model": "/models/other.gguf"}, {"speculation": "ngram-simple"}):
        jobs = _jobs([replace(s, **changed) if s.n_draft == 8 else s for s in samples])
        assert jobs["j2"].cost_ratio == jobs["j4"].cost_ratio == pytest.approx(0.1)
        assert jobs["j8"].cost_ratio is None


def test_drafts_that_are_cut_short_cost_what_they_drafted():
    samples = [
        replace(s, draft_tokens=s.draft_tokens // 2) if s.mode is Mode.SPECULATIVE else s
        for s in sweep([2, 4, 8], speed=_speed(0.1))
    ]
    job = _jobs(samples)["j8"]

    assert job.cost_ratio == pytest.approx(0.2)
    assert job.expected_speedup == pytest.approx(job.acceptance.tokens_per_round / (4 * 0.2 + 1))


def test_runs_without_drafts_or_that_failed_are_no_rounds():
    samples = sweep([2, 4, 8], speed=_speed(0.1))
    first = [s for s in samples if s.mode is Mode.SPECULATIVE and s.iteration == 0]
    for changed in ({"draft_tokens": 0}, {"draft_tokens": None}, {"status": Status.FAILED}):
        odd = [replace(s, **changed, tokens_per_second=5.0) if s in first and s.n_draft == 8 else s for s in samples]
        assert _jobs(odd)["j8"].cost_ratio == pytest.approx(0.1)


def test_a_single_round_has_a_cost():
    samples = [
        replace(s, rounds=1, draft_tokens=s.n_draft, tokens_per_second=TOKENS * 30 / (s.n_draft * 0.1 + 1.2))
        if s.mode is Mode.SPECULATIVE
        else s
        for s in sweep([2, 4], iterations=1)
    ]

    assert _jobs(samples)["j4"].cost_ratio == pytest.approx(0.1)


def test_without_rounds_or_drafts_there_is_no_cost():
    samples = sweep([2, 4, 8], speed=_speed(0.1))
    for changed in ({"draft_tokens": 0}, {"rounds": None, "accepted_tokens": None}, {"rounds": 0}):
        odd = [replace(s, **changed) if s.mode is Mode.SPECULATIVE else s for s in samples]
        assert _jobs(odd)["j8"].cost_ratio is None


def test_rounds_that_were_not_counted_follow_from_tokens():
    samples = [
        replace(s, rounds=None, drafting_rounds=None, accepted_tokens=TOKENS - ROUNDS)
        for s in sweep([8, 16], speed=_speed(0.1))
        if s.n_draft
    ]
    samples += [s for s in sweep([8, 16], speed=_speed(0.1)) if not s.n_draft]

    assert _jobs(samples)["j8"].cost_ratio == pytest.approx(0.1)
