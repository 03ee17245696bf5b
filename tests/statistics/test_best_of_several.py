"""Which settings may be the best, how far each may be from it, and the limit that holds for the chosen one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.strategies import rounds_table, samples_to_table, sweep
from velosweep.statistics.best_of_several import with_best_marked
from velosweep.statistics.comparison import Statistics
from velosweep.statistics.summarise import compare_jobs
from velosweep.statistics.two_way import TwoWayModel, dunnett_quantile
from velosweep.values import Verdict

FORTY = Statistics(mean=40.0, stddev=1.0, min=39.0, max=41.0, samples=())
ONCE = Statistics(mean=40.0, stddev=None, min=40.0, max=40.0, samples=())
RESIDUALS = np.array([[0.0, 0.01, -0.01], [0.01, -0.02, 0.01], [-0.01, 0.01, 0.0], [0.01, 0.0, -0.01]])


def jobs_of(logs):
    """Whole jobs of one sweep; `logs`: arms x rounds, vanilla first."""
    rows = compare_jobs(rounds_table(30 * np.exp(np.asarray(logs).T[None])))
    return [row for row in rows if row.prompt_id is None]


def with_means(*means):
    return np.array([0.0, *means])[:, None] + RESIDUALS[: len(means) + 1]


def test_intervals_of_the_ratio_to_the_best_other_are_hsus():
    values = with_means(0.30, 0.33, 0.10)
    model = TwoWayModel.of(values[None])
    means = values.mean(axis=1)
    # Two rivals each; the third is far off, so that the best other of each is the other of the first two.
    halves = {}
    for i, j in ((1, 2), (2, 1), (3, 2), (1, 3), (2, 3)):
        found = model.contrasts(j)
        halves[i, j] = dunnett_quantile(2, found.df[0, i], 0.95) * found.standard_error[0, i]

    first, second, third = jobs_of(values)

    assert [job.may_be_best for job in (first, second, third)] == [True, True, False]
    assert math.log(first.to_best_high) == pytest.approx(means[1] - means[2] + halves[1, 2])
    assert math.log(first.to_best_low) == pytest.approx(means[1] - means[2] - halves[1, 2])
    assert math.log(second.to_best_high) == pytest.approx(means[2] - means[1] + halves[2, 1])
    assert math.log(second.to_best_low) == pytest.approx(min(0, means[2] - means[1] - halves[2, 1]))
    assert third.to_best_high == 1.0
    assert math.log(third.to_best_low) == pytest.approx(means[3] - means[2] - halves[3, 2])


def test_a_setting_that_is_surely_the_best_stands_alone():
    best, other = jobs_of(with_means(0.5, 0.3))

    assert (best.may_be_best, other.may_be_best) == (True, False)
    assert best.to_best_low == 1.0
    assert best.to_best_high > 1.2
    assert other.to_best_high == 1.0


def test_of_settings_that_are_exactly_as_fast_each_may_be_the_best():
    jobs = jobs_of(np.array([[0.0] * 4, [0.5] * 4, [0.5] * 4, [0.25] * 4]))

    assert [job.may_be_best for job in jobs] == [True, True, False]


def test_the_limit_that_holds_for_the_chosen_is_dunnetts_over_all_settings():
    for job in jobs_of(with_means(0.30, 0.33, 0.10)):
        expected = math.log(job.speedup_gm) - dunnett_quantile(3, job.df, 0.975) * job.standard_error

        assert math.log(job.chosen_low) == pytest.approx(expected)
        assert job.chosen_low < job.ci_low


def test_a_single_setting_is_the_best_and_its_limit_its_own():
    (job,) = jobs_of(with_means(0.3))

    assert (job.may_be_best, job.to_best_low, job.to_best_high) == (True, None, None)
    assert job.chosen_low == pytest.approx(job.ci_low)


def test_without_an_interval_nothing_is_said_of_the_best():
    jobs = jobs_of(with_means(0.3, 0.33)[:, :1])

    assert {(job.may_be_best, job.to_best_high, job.chosen_low) for job in jobs} == {(None, None, None)}


def test_an_invalid_job_and_those_of_prompts_do_not_compete():
    first, second, third = jobs_of(with_means(0.30, 0.33, 0.32))
    plain = [replace(job, may_be_best=None, to_best_low=None, to_best_high=None) for job in (first, second, third)]

    marked = with_best_marked([replace(plain[0], verdict=Verdict.INVALID), plain[1], replace(plain[2], prompt_id="p")])

    assert [job.may_be_best for job in marked] == [None, True, None]


@pytest.mark.parametrize("changes", [{"main_model": "other"}, {"prompt_set": "other"}, {"n_predict": 7}])
def test_jobs_of_other_models_prompts_or_lengths_do_not_compete(changes):
    worse, better = jobs_of(with_means(0.1, 0.5))

    assert not worse.may_be_best
    assert all(job.may_be_best for job in with_best_marked([replace(worse, **changes), better]))


def test_settings_of_one_baseline_that_share_no_round_are_compared_through_their_speedups():
    (one,), (other,) = (jobs_of(with_means(mean)) for mean in (0.30, 0.31))
    other = replace(other, job_id="other", by_round=replace(other.by_round, rounds=(7, 8, 9)))
    error = math.hypot(one.standard_error, other.standard_error)
    df = error**4 / (one.standard_error**4 / one.df + other.standard_error**4 / other.df)

    marked, _ = with_best_marked([one, other])

    difference = math.log(one.speedup_gm / other.speedup_gm)
    assert math.log(marked.to_best_low) == pytest.approx(difference - dunnett_quantile(1, df, 0.95) * error)
    assert math.log(marked.to_best_high) == pytest.approx(difference + dunnett_quantile(1, df, 0.95) * error)


@pytest.mark.parametrize(("paired", "passes"), [(True, 3), (False, 3), (False, 2)])
def test_settings_of_different_baselines_are_compared_by_their_tokens_per_second(paired, passes):
    (one,), (other,) = ([replace(job, n_pairs=passes) for job in jobs_of(with_means(mean))] for mean in (0.30, 0.31))
    by_round = replace(other.by_round, table="other") if paired else None
    # Twice the speedup of a baseline that is less than half as fast.
    slower = replace(other, job_id="other", speedup_gm=2 * other.speedup_gm, by_round=by_round)
    slower = replace(slower, speculative=replace(slower.speculative, tokens_per_second=FORTY))
    fast = one.speculative.tokens_per_second

    marked, worse = with_best_marked([one, slower])

    variances = [(speed.stddev / speed.mean) ** 2 / passes for speed in (fast, FORTY)]
    df = sum(variances) ** 2 / sum(v**2 / (passes - 1) for v in variances)
    half = dunnett_quantile(1, df, 0.95) * math.sqrt(sum(variances))
    assert math.log(marked.to_best_high) == pytest.approx(math.log(fast.mean / 40) + half)
    assert marked.may_be_best is worse.may_be_best is True
    assert math.log(worse.to_best_high) == pytest.approx(max(0, math.log(40 / fast.mean) + half))


def test_settings_of_each_of_two_baselines_are_compared_within_their_rounds():
    slow, fast = jobs_of(with_means(0.30, 0.32)), jobs_of(1.0 + with_means(0.31, 0.30)[:, ::-1])
    others = [replace(job, job_id=f"other {job.job_id}", by_round=replace(job.by_round, table="other")) for job in fast]
    found = TwoWayModel.of(with_means(0.31, 0.30)[None, :, ::-1]).contrasts(2)
    difference, error = found.difference[0, 1], found.standard_error[0, 1]

    *_, first, second = with_best_marked([*slow, *others])

    half = dunnett_quantile(3, found.df[0, 1], 0.95) * error
    assert math.log(first.to_best_high) == pytest.approx(difference + half)
    assert math.log(second.to_best_low) == pytest.approx(-difference - half)


def test_nothing_bounds_the_ratio_to_a_setting_of_another_baseline_that_ran_once():
    (one,), (other,) = (jobs_of(with_means(mean)) for mean in (0.30, 0.31))
    once = replace(other, by_round=None, speculative=replace(other.speculative, tokens_per_second=ONCE))

    for job in with_best_marked([one, replace(once, job_id="other")]):
        assert (job.may_be_best, job.to_best_low, job.to_best_high) == (True, None, None)


def test_a_half_as_fast_setting_is_told_from_the_best_on_a_disturbed_machine():
    """As it was seen: through two intervals against vanilla both were tied."""
    fast, slow = (17.1, 19.4, 32.3), (7.68, 7.67, 15.27)
    speeds = {0: (17.0, 18.5, 33.0), 1: fast, 2: slow}

    rows = compare_jobs(samples_to_table(sweep([1, 2], iterations=3, speed=lambda n, p, i: speeds[n][i])))
    best, other = (row for row in rows if row.prompt_id is None)

    assert (best.may_be_best, other.may_be_best) == (True, False)
    assert 0.3 < other.to_best_low < 0.47


def test_settings_are_compared_with_the_64_highest_of_many():
    means = np.linspace(0.3, 0.5, 80)
    values = np.array([0.0, *means])[:, None] + np.random.default_rng(1).normal(0, 0.01, (81, 5))

    jobs = jobs_of(values)

    assert len(jobs) == 80
    assert jobs[-1].may_be_best
    assert [job.may_be_best for job in jobs[:60]] == [False] * 60
    assert all(job.to_best_high == 1.0 for job in jobs[:60])
