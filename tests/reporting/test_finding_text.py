from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

import velosweep.statistics
from tests.reporting import sweeps
from velosweep.config.settings import TunerSettings
from velosweep.reporting.finding_text import _TEXTS, explain, grouped_findings, selected_findings
from velosweep.reporting.speedup_hints import reasons_for_modest_speedup
from velosweep.reporting.wording import job_labels
from velosweep.statistics.comparison import Acceptance, Comparison, Finding
from velosweep.statistics.ranking import best_n_draft
from velosweep.values import Verdict


def test_every_code_that_analysis_can_emit_has_a_sentence_of_its_own() -> None:
    folder = Path(velosweep.statistics.__file__).parent
    source = "\n".join(path.read_text("utf-8") for path in sorted(folder.glob("*.py")))
    codes = set(re.findall(r'code="(\w+)"', source)) | set(re.findall(r'warning\(\s*"(\w+)"', source))

    assert codes
    assert codes <= set(_TEXTS)


@pytest.mark.parametrize("name", ["default_sweep", "with_failures", "large_sweep", "skip_vanilla"])
def test_what_analysis_finds_fills_its_sentence(name: str) -> None:
    made: sweeps.MadeUp = getattr(sweeps, name)()

    sentences = [explain(finding).sentence for row in made.comparisons for finding in row.findings]

    assert not [sentence for sentence in sentences if "Finding `" in sentence or "{" in sentence]


def test_a_finding_is_said_with_its_figures_and_a_remedy() -> None:
    finding = Finding(
        code="drift", severity="warning", subject="vanilla", evidence={"drift": -0.041, "p": 0.003, "runs": 9}
    )

    advice = explain(finding)

    assert advice.sentence == "vanilla: Speed drifted by -4.1% over 9 runs (p = 0.003)."
    assert "protocol.cooldown=true" in advice.remedy


def test_an_untrusted_round_is_said_with_both_speeds_and_a_remedy() -> None:
    evidence = {
        "rounds": 2, "iterations": "3, 5", "worst_iteration": 5, "speed": 27.0, "first_speed": 30.0, "fall": 0.1
    }  # fmt: skip

    advice = explain(Finding(code="untrusted", severity="warning", subject="rounds", evidence=evidence))

    assert "In 2 rounds (iteration 3, 5)" in advice.sentence
    assert "27 tok/s before iteration 5 after two rests, 30 in the first round (10.0% slower)" in advice.sentence
    assert "protocol.cooldown_max_s" in advice.remedy


def test_a_finding_with_other_evidence_than_expected_keeps_what_it_has() -> None:
    busy = Finding(
        code="machine_busy", severity="warning", subject="machine", evidence={"load_average": 12.0, "cores": 8}
    )
    drift = Finding(code="drift", severity="warning", subject="vanilla", evidence={"slope": 0.5})

    assert explain(busy).sentence == "Other programs used the machine meanwhile: load average 12, cores 8."
    assert explain(drift).sentence == "vanilla: Finding `drift`: slope 0.5."


def test_an_unknown_finding_is_named_never_dropped() -> None:
    advice = explain(Finding(code="gremlins", severity="warning", subject="pairs", evidence={"seen": 3}))

    assert "gremlins" in advice.sentence
    assert "seen 3" in advice.sentence


def test_findings_are_gathered_once_worst_first_with_their_jobs() -> None:
    jobs = sweeps.default_sweep().jobs
    info = Finding(code="not_applicable_sampled", severity="info", subject="output")
    error = Finding(code="output_diverged", severity="error", subject="speculative")
    jobs = [replace(job, findings=(info, error)) for job in jobs]

    found = grouped_findings(jobs, job_labels(jobs))

    assert [advice.severity for advice, _ in found] == ["error", "info"]
    assert found[0][1] == ["n_draft 4", "n_draft 8", "n_draft 12"]


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


def test_what_a_search_spares_its_candidates_is_no_reproach() -> None:
    made = sweeps.default_sweep()
    codes = ("not_paired", "too_few_pairs", "drift")
    findings = tuple(Finding(code=code, severity="warning", subject="pairs") for code in codes)
    rows = [replace(row, findings=findings) for row in made.comparisons]
    winner, loser = (row for row in rows if row.prompt_id is None and row.n_draft in (4, 8))
    search = replace(made.record, tuner=TunerSettings(), advised=(winner.job_id,))

    assert [f.code for f in selected_findings(loser, made.record)] == list(codes)
    assert [f.code for f in selected_findings(winner, search)] == ["too_few_pairs", "drift"]
    assert [f.code for f in selected_findings(loser, search)] == ["drift"]
    assert "tuner.confirm_pairs" in explain(findings[1], search).remedy
    assert "protocol=standard" in explain(findings[1], made.record).remedy
    assert {advice.code for advice, _ in grouped_findings([loser], {}, search)} == {"drift"}


def test_only_runs_that_were_ordered_in_blocks_are_advised_to_be_interleaved() -> None:
    remedies = {
        subject: explain(Finding(code="not_paired", severity="warning", subject=subject)).remedy
        for subject in ("pairs", "passes", "repeats")
    }

    assert [subject for subject, remedy in remedies.items() if "protocol.order" in remedy] == ["pairs"]


@pytest.mark.parametrize(("pairs", "said"), [(1, "Only 1 usable pair:"), (2, "Only 2 usable pairs:")])
def test_one_is_not_counted_as_several(pairs: int, said: str) -> None:
    finding = Finding(code="too_few_pairs", severity="warning", subject="pairs", evidence={"pairs": pairs})

    assert explain(finding).sentence.startswith(said)
