from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.reporting import sweeps
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.ranking import best_estimate, category_speedups, fastest, tied
from velosweep.values import Verdict


def measured(value: float, low: float, high: float, verdict: Verdict = Verdict.FASTER) -> Comparison:
    row = sweeps.default_sweep().jobs[0]
    return replace(row, speedup_gm=value, ci_low=low, ci_high=high, verdict=verdict)


def test_jobs_that_the_data_can_not_tell_apart_are_tied() -> None:
    best = measured(1.41, 1.33, 1.49)

    assert tied(measured(1.36, 1.28, 1.44), best)
    assert not tied(measured(1.20, 1.18, 1.22), best)
    assert not tied(measured(1.40, 1.30, 1.50, Verdict.INVALID), best)


def test_a_sure_gain_is_preferred_to_a_larger_unsure_one() -> None:
    unsure = measured(1.6, 0.9, 2.8, Verdict.NO_RELIABLE_GAIN)
    sure = measured(1.4, 1.3, 1.5)

    assert fastest([unsure, sure]) is sure


def test_an_invalid_job_is_never_the_fastest() -> None:
    assert fastest([measured(1.6, 1.5, 1.7, Verdict.INVALID)]) is None


def test_what_drafted_nothing_neither_wins_nor_ties_nor_stands_for_a_category() -> None:
    idle = replace(measured(1.6, 1.5, 1.7), drafted=False)
    other = measured(1.05, 1.01, 1.09)

    assert fastest([idle, other]) is other
    assert fastest([idle]) is None
    assert not tied(idle, replace(idle, drafted=True))
    assert category_speedups([replace(idle, prompt_id="p", prompt_category="code")]) == {}


def test_the_speedup_of_a_category_is_the_geometric_mean_of_its_prompts() -> None:
    row = measured(1.0, 0.9, 1.1)
    prompts = [
        replace(row, prompt_id=str(value), prompt_category=category, speedup_gm=value)
        for value, category in ((1.0, "code"), (4.0, "code"), (3.0, "prose"))
    ]

    assert category_speedups([row, *prompts]) == {
        "code": {row.job_id: pytest.approx(2.0)},
        "prose": {row.job_id: pytest.approx(3.0)},
    }


def test_without_a_geometric_mean_the_ratio_of_means_ranks() -> None:
    plain = replace(measured(1.5, 1.4, 1.6), speedup_gm=None, speedup=1.7)

    assert best_estimate(plain) == 1.7
    assert best_estimate(measured(1.5, 1.4, 1.6)) == 1.5
    assert fastest([plain, measured(1.6, 1.5, 1.7)]) is plain


def test_without_any_estimate_there_is_no_fastest() -> None:
    assert fastest([replace(measured(1.5, 1.4, 1.6), speedup_gm=None, speedup=None)]) is None


def test_where_none_is_surely_faster_the_highest_is_the_fastest() -> None:
    low, high = (measured(value, 0.9, 2.8, Verdict.NO_RELIABLE_GAIN) for value in (1.1, 1.2))

    assert fastest([low, high]) is high


@pytest.mark.parametrize(("share", "tie"), [(0.99, True), (1.01, False)])
def test_a_tie_is_where_the_interval_of_the_ratio_holds_1(share: float, tie: bool) -> None:
    halves = 0.03, 0.04  # logs: independent, they make one of .05
    best = measured(1.5, 1.5 * math.exp(-halves[0]), 1.5 * math.exp(halves[0]))
    value = 1.5 * math.exp(-share * 0.05)

    assert tied(measured(value, value * math.exp(-halves[1]), value * math.exp(halves[1])), best) is tie


@pytest.mark.parametrize(("value", "tie"), [(1.4851, True), (1.4849, False)])
def test_without_an_interval_a_tie_is_within_one_per_cent(value: float, tie: bool) -> None:
    best, job = measured(1.5, 1.4, 1.6), measured(value, 1.3, 1.7)

    for limits in ({"ci_low": None}, {"ci_high": None}):
        assert tied(replace(job, **limits), best) is tie
        assert tied(job, replace(best, **limits)) is tie


def test_what_was_not_measured_is_tied_with_nothing() -> None:
    best = measured(1.5, 1.4, 1.6)
    nothing = replace(best, speedup_gm=None, speedup=None)

    assert not tied(nothing, best)
    assert not tied(best, nothing)


def test_a_prompt_without_category_or_figure_counts_in_none() -> None:
    row = replace(measured(2.0, 1.9, 2.1), prompt_id="p", prompt_category="code")
    others = [replace(row, prompt_category=None), replace(row, speedup_gm=None, speedup=None)]

    assert category_speedups([row, *others]) == {"code": {row.job_id: pytest.approx(2.0)}}
