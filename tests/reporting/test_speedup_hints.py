"""Why a speedup is modest, by what was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.reporting import sweeps
from velosweep.reporting.speedup_hints import reasons_for_modest_speedup
from velosweep.statistics.comparison import Acceptance, Comparison, Finding
from velosweep.statistics.ranking import best_n_draft
from velosweep.values import Verdict


def _job(*, rate: float, alpha: float, cost: float) -> Comparison:
    job = sweeps.modest().jobs[0]
    acceptance = Acceptance(
        rate=rate, low=None, high=None, interval_unit="prompts", alpha=alpha, tokens_per_round=1 + rate * job.n_draft
    )
    return replace(job, acceptance=acceptance, cost_ratio=cost, expected_speedup=None, findings=())


def test_low_acceptance_and_dear_drafts_are_named_as_reasons() -> None:
    reasons = " | ".join(reasons_for_modest_speedup(_job(rate=0.11, alpha=0.3, cost=0.3)))

    assert "only 11 % of the drafted tokens were accepted" in reasons
    assert "a draft step costs 0.30 of a main-model step" in reasons


def test_a_busy_machine_is_named_once() -> None:
    busy = Finding(code="machine_busy", severity="warning", subject="machine", evidence={})
    job = replace(_job(rate=0.9, alpha=0.9, cost=0.01), acceptance=None, findings=(busy,))

    assert [reason.partition(":")[0] for reason in reasons_for_modest_speedup(job)] == ["A quieter machine"]
    assert reasons_for_modest_speedup(job, reported={"machine_busy"}) == []


def test_what_was_measured_is_the_figure_of_the_headline() -> None:
    job = replace(_job(rate=0.9, alpha=0.9, cost=0.1), expected_speedup=2.0, speedup=1.33, speedup_gm=1.42)

    assert "promise 2.00×, measured 1.42×" in " | ".join(reasons_for_modest_speedup(job))


def test_a_better_n_draft_is_named_with_what_it_promises() -> None:
    reasons = " | ".join(reasons_for_modest_speedup(_job(rate=0.7, alpha=0.8, cost=0.05)))

    assert "Increasing n_draft to about 8 (current: 4); the formula gives 3.09× there" in reasons


def _measured(job: Comparison, **speedups: float) -> list[Comparison]:
    """Jobs of `job`'s series: n4=1.25 is n_draft 4 measured at 1.25×."""
    return [
        replace(job, job_id=name, n_draft=int(name[1:]), speedup_gm=value, verdict=Verdict.FASTER)
        for name, value in speedups.items()
    ]


def test_no_n_draft_is_advised_that_the_same_series_has_measured() -> None:
    job = replace(_job(rate=0.5, alpha=0.6, cost=0.2), speedup_gm=1.25, expected_speedup=None)
    best, promised = best_n_draft(0.6, 0.2)
    other = replace(job, model_pair="another", job_id="other", n_draft=best, speedup_gm=1.24)

    alone = " | ".join(reasons_for_modest_speedup(job, [other]))
    refuted = " | ".join(reasons_for_modest_speedup(job, _measured(job, **{f"n{best}": 1.24})))
    surpassed = " | ".join(reasons_for_modest_speedup(job, _measured(job, n16=promised + 0.01)))

    assert best == 2
    assert f"n_draft to about {best}" in alone
    assert "n_draft" not in refuted.replace("that even with every draft accepted n_draft", "")
    assert "A draft of the same model family" in refuted
    assert "n_draft to about" not in surpassed


def test_what_the_formula_prefers_by_a_hair_is_not_advised() -> None:
    job = replace(_job(rate=0.8, alpha=0.85, cost=0.37), n_draft=4, speedup_gm=1.25, expected_speedup=1.54)

    assert best_n_draft(0.85, 0.37) == (3, pytest.approx(1.51, abs=0.01))
    assert "n_draft to about" not in " | ".join(reasons_for_modest_speedup(job))


def test_what_a_measurement_surpasses_is_not_called_impossible() -> None:
    job = replace(_job(rate=0.7, alpha=0.3, cost=0.9), n_draft=4, speedup_gm=1.3, expected_speedup=None)

    reasons = " | ".join(reasons_for_modest_speedup(job))

    assert "no n_draft pays" not in reasons
    assert "could not exceed" not in reasons


def test_a_longer_draft_that_was_measured_is_not_in_the_general_list() -> None:
    job = replace(_job(rate=0.9, alpha=0.8, cost=0.05), acceptance=None, cost_ratio=None, expected_speedup=None)

    assert reasons_for_modest_speedup(job, _measured(job, n8=1.1)) == ["Trying different model pairs"]


def test_without_any_evidence_the_specifications_list_is_given() -> None:
    job = replace(_job(rate=0.5, alpha=0.5, cost=0.1), acceptance=None, cost_ratio=None)

    assert reasons_for_modest_speedup(job) == ["Increasing n_draft (current: 4)", "Trying different model pairs"]
