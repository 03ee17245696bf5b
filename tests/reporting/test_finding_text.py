from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

import velosweep.statistics
from tests.reporting import sweeps
from velosweep.config.settings import TunerSettings
from velosweep.reporting.finding_text import explain, finding_texts, grouped_findings, selected_findings
from velosweep.reporting.wording import failure_sentences, names_of
from velosweep.statistics.comparison import Finding


def test_every_code_that_analysis_can_emit_has_a_sentence_of_its_own() -> None:
    folder = Path(velosweep.statistics.__file__).parent
    source = "\n".join(path.read_text("utf-8") for path in sorted(folder.glob("*.py")))
    codes = set(re.findall(r'code="(\w+)"', source)) | set(re.findall(r'warning\(\s*"(\w+)"', source))

    assert codes
    assert codes <= set(finding_texts())


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

    assert advice.sentence == "vanilla: Speed drifted by -4.1 % over 9 runs (p = 0.003)."
    assert "protocol.cooldown=true" in advice.remedy


def test_an_untrusted_round_is_said_with_both_speeds_and_a_remedy() -> None:
    evidence = {
        "rounds": 2, "iterations": "3, 5", "worst_iteration": 5, "speed": 27.0, "first_speed": 30.0, "fall": 0.1
    }  # fmt: skip

    advice = explain(Finding(code="untrusted", severity="warning", subject="rounds", evidence=evidence))

    assert "In iteration 3, 5 the machine stayed slower" in advice.sentence
    assert "27 tok/s before iteration 5 after two rests, 30 in the first (10.0 % slower)" in advice.sentence
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


def test_findings_are_grouped_worst_first_with_their_jobs() -> None:
    jobs = sweeps.default_sweep().jobs
    info = Finding(code="not_applicable_sampled", severity="info", subject="output")
    error = Finding(code="output_diverged", severity="error", subject="speculative")
    jobs = [replace(job, findings=(info, error)) for job in jobs]

    found = grouped_findings(jobs, names_of(jobs).labels)

    assert [advice.severity for advice, _ in found] == ["error", "info"]
    assert found[0][1] == ["n_draft 4", "n_draft 8", "n_draft 12"]


def test_after_velosweep_run_a_finding_names_flags() -> None:
    record = replace(sweeps.default_sweep().record, command=("velosweep", "run", "--main", "a.gguf"))
    evidence = {"prompts": 1, "of": 3, "names": "long", "reason": "it needs 900 tokens; lower n_predict or depth"}
    left_out = Finding(code="prompts_left_out", severity="warning", subject="prompts", evidence=evidence)

    assert "lower --n-predict or depth" in explain(left_out, record).sentence
    assert "lower n_predict or depth" in explain(left_out, sweeps.default_sweep().record).sentence


def test_runs_that_were_never_begun_are_not_called_failed_in_the_answer() -> None:
    never = Finding(code="failed_runs", severity="warning", subject="context", evidence={"runs": 2, "of": 4})

    assert explain(never).brief == "prompts left out"
    assert explain(replace(never, subject="runs")).brief == "2 of 4 runs failed"


def test_findings_that_a_search_causes_are_left_out() -> None:
    made = sweeps.default_sweep()
    codes = ("not_paired", "too_few_pairs", "drift")
    findings = tuple(Finding(code=code, severity="warning", subject="pairs") for code in codes)
    rows = [replace(row, findings=findings) for row in made.comparisons]
    winner, loser = (row for row in rows if row.prompt_id is None and row.n_draft in (4, 8))
    search = replace(made.record, tuner=TunerSettings(), advised=(winner.job_id,))

    assert [f.code for f in selected_findings(loser, made.record)] == list(codes)
    assert [f.code for f in selected_findings(winner, search)] == ["too_few_pairs", "drift"]
    assert [f.code for f in selected_findings(loser, search)] == ["drift"]
    assert "to confirm the winner" in explain(findings[1], search).remedy
    assert "velosweep more" in explain(findings[1], made.record).remedy
    assert {advice.code for advice, _ in grouped_findings([loser], {}, search)} == {"drift"}


def test_who_measured_by_flags_reads_flags_and_who_set_keys_reads_keys() -> None:
    record = sweeps.default_sweep().record
    failed = tuple(replace(job, state="failed", error="set llama_cpp.path to another") for job in record.jobs)

    for command, said in ((("velosweep", "run", "-m", "x"), "--llama-server"), (("velosweep", "-m"), "llama_cpp.path")):
        told = replace(record, command=command, jobs=failed)
        assert failure_sentences(told)[0].endswith(f"set {said} to another")


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


def test_a_width_that_says_nothing_is_not_said_to_the_digit() -> None:
    wide = Finding(code="wide_interval", severity="warning", subject="", evidence={"half_width": 2.7e12, "ratio": 1.2})

    assert "The interval is ±over 1000 % wide around 1.20×" in explain(wide).sentence
