"""Intervals of settings that share rounds, also where some miss a round: as they are reported."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tests.statistics.test_two_way import least_squares
from tests.strategies import samples_to_table, sweep
from velosweep.statistics.comparison import RoundRatios
from velosweep.statistics.summarise import compare_jobs
from velosweep.statistics.two_way import PRIOR_DF
from velosweep.statistics.within_rounds import ratios_within_rounds
from velosweep.values import Status

NOISE = np.random.default_rng(4).normal(0, 0.01, (4, 5))
ARMS = (0, 2, 4, 8)


def speed(n_draft, prompt, iteration):
    return 30 * (1 + n_draft / 8) * math.exp(NOISE[ARMS.index(n_draft), iteration])


def test_settings_that_miss_a_round_are_judged_in_those_that_they_have():
    samples = sweep(ARMS[1:], speed=speed)
    samples = [replace(s, status=Status.FAILED) if (s.n_draft, s.iteration) in {(4, 1), (8, 4)} else s for s in samples]
    values = np.log([[speed(arm, "", i) for i in range(5)] for arm in ARMS])
    values[2, 1] = values[3, 4] = np.nan
    squares, df = least_squares(values)

    rows = [row for row in compare_jobs(samples_to_table(samples)) if row.prompt_id is None]

    assert [row.n_pairs for row in rows] == [5, 4, 4]
    for row, arm in zip(rows, (1, 2, 3), strict=True):
        d = (values[arm] - values[0])[~np.isnan(values[arm])]
        own, f = ((d - d.mean()) ** 2).sum() / 2, len(d) - 1
        variance = (own + PRIOR_DF * (squares - own) / (df - f)) / (f + PRIOR_DF)
        half = stats.t.ppf(0.975, f + PRIOR_DF) * math.sqrt(2 * variance / len(d))
        assert (math.log(row.ci_low), math.log(row.ci_high)) == pytest.approx((d.mean() - half, d.mean() + half))
        assert row.ci_method == "moderated log-ratio t within rounds, conditional on this launch"


def test_launches_are_compared_by_their_means_with_the_noise_of_all_settings():
    samples = [
        replace(s, launch=s.iteration // 2, iteration=s.iteration) for s in sweep(ARMS[1:3], iterations=4, speed=speed)
    ]
    values = np.log([[speed(arm, "", i) for i in range(4)] for arm in ARMS[:3]])
    means = values.reshape(3, 2, 2).mean(axis=2)
    squares, df = least_squares(means)

    rows = [row for row in compare_jobs(samples_to_table(samples)) if row.prompt_id is None]

    for row, arm in zip(rows, (1, 2), strict=True):
        d = means[arm] - means[0]
        own = ((d - d.mean()) ** 2).sum() / 2
        variance = (own + (squares - own) / (df - 1)) / 2
        half = stats.t.ppf(0.975, 2) * math.sqrt(2 * variance / 2)
        assert (math.log(row.ci_low), math.log(row.ci_high)) == pytest.approx((d.mean() - half, d.mean() + half))
        assert row.ci_method == "moderated log-ratio t within rounds of launch means"


@pytest.mark.filterwarnings("error")
def test_a_table_without_rounds_hides_no_other():
    empty, full = (
        RoundRatios(table=name, launches=False, drawn=False, rounds=tuple(range(len(logs))), logs=logs)
        for name, logs in (("empty", ()), ("full", (0.1, 0.2, 0.3)))
    )

    first, second = ratios_within_rounds([empty, full], {})

    assert first.ratio is None
    assert second.interval is not None
    assert second.interval.standard_error == pytest.approx(stats.sem([0.1, 0.2, 0.3]))


def test_one_round_has_a_ratio_without_an_interval():
    single = RoundRatios(table="t", launches=False, drawn=False, rounds=(3,), logs=(0.2,))
    longer = RoundRatios(table="t", launches=False, drawn=False, rounds=(3, 4, 5), logs=(0.2, 0.3, 0.1))

    one, _ = ratios_within_rounds([single, longer], {})

    assert (one.ratio, one.interval) == (math.exp(0.2), None)


def test_two_settings_are_enough_to_be_judged_together():
    rows = [row for row in compare_jobs(samples_to_table(sweep(ARMS[1:3], speed=speed))) if row.prompt_id is None]

    assert {row.ci_method for row in rows} == {"moderated log-ratio t within rounds, conditional on this launch"}
