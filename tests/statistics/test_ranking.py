from __future__ import annotations

from dataclasses import replace

import pytest

from tests.reporting import sweeps
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.ranking import best_n_draft, category_speedups, fastest, tied
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


@pytest.mark.parametrize(
    ("alpha", "cost", "n_draft", "speedup"),
    [(0.5, 0.02, 4, 1.79), (0.6, 0.1, 3, 1.67), (0.8, 0.05, 8, 3.09), (0.9, 0.2, 7, 2.37)],
)
def test_the_best_n_draft_is_that_of_the_design_notes_table(
    alpha: float, cost: float, n_draft: int, speedup: float
) -> None:
    best, value = best_n_draft(alpha, cost)

    assert best == n_draft
    assert value == pytest.approx(speedup, abs=0.006)


def test_where_drafting_can_not_pay_no_n_draft_is_advised() -> None:
    assert best_n_draft(0.1, 0.5) == (0, 1.0)
