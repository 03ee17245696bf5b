"""Why a job is not faster, by what was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.reporting import sweeps
from velosweep.reporting.speedup_hints import hint_heading, reasons_for_modest_speedup
from velosweep.statistics.acceptance import expected_tokens
from velosweep.statistics.comparison import Acceptance, Comparison, DecodingTime, Finding
from velosweep.values import Verdict


def _job(*, rate: float, alpha: float | None = None) -> Comparison:
    """A job with this acceptance of which no cost is known."""
    job = sweeps.modest().jobs[0]
    acceptance = Acceptance(
        rate=rate, low=None, high=None, interval_unit="prompts", alpha=alpha, tokens_per_round=1 + rate * job.n_draft
    )
    return replace(job, acceptance=acceptance, cost_ratio=None, decoding=None, expected_speedup=None, findings=())


def _costed(
    *, n_draft: int = 4, alpha: float = 0.8, c: float = 0.1, v: float = 1.0, s: float = 0.0, **changes: object
) -> Comparison:
    """A job whose rounds cost n_draft*c + v + s steps of the target, and whose speedup is what follows from that."""
    tokens = expected_tokens(alpha, n_draft)
    total = n_draft * c + v + s
    decoding = DecodingTime(
        batch=n_draft + 1, batch_cost=v, sync_cost=s, draft_share=n_draft * c / total, verify_share=v / total,
        tokens_per_round=tokens,
    )  # fmt: skip
    job = _job(rate=(tokens - 1) / n_draft, alpha=alpha)
    speedup = tokens / total
    verdict = Verdict.FASTER if speedup > 1 else Verdict.SLOWER
    return replace(
        job, job_id=f"n{n_draft}", n_draft=n_draft, cost_ratio=c, cost_source="llama.cpp", decoding=decoding,
        speedup=speedup, speedup_gm=speedup, verdict=verdict, **changes,
    )  # fmt: skip


def _text(job: Comparison, *series: Comparison) -> str:
    return " | ".join(reasons_for_modest_speedup(job, series))


def test_a_slow_draft_is_named_with_its_share_its_cost_and_what_half_of_it_would_give() -> None:
    reasons = reasons_for_modest_speedup(_costed(alpha=0.9, c=0.6, v=1.1, s=0.5))

    assert reasons[0].startswith("A faster draft")
    assert "drafting takes 72 % of the decoding time, 0.60 main-model steps for a drafted token" in reasons[0]
    assert "reading the checked tokens as well 0.5 a check" in reasons[0]
    assert f"{expected_tokens(0.9, 4) / (0.5 * (4 * 0.6 + 0.5) + 1.1):.2f}×" in reasons[0]


def test_dear_verification_is_named_and_not_the_draft_that_costs_little() -> None:
    reasons = reasons_for_modest_speedup(_costed(alpha=0.9, c=0.02, v=3.4))

    assert reasons[0].startswith("Cheaper checks")
    assert "checking 5 tokens takes 3.4 main-model steps, 98 % of the decoding time" in reasons[0]
    assert "faster draft" not in " | ".join(reasons)


def test_where_hardly_anything_was_drafted_checks_are_not_to_blame() -> None:
    job = _costed(c=0.02, v=1.1, speculation="ngram-mod")
    assert job.decoding is not None
    seldom = replace(job, decoding=replace(job.decoding, batch=1.1, tokens_per_round=1.1))

    assert "Cheaper checks" in _text(job)
    assert "Cheaper checks" not in _text(seldom)
    assert "answers repeat text" in _text(seldom)


def test_a_jump_of_the_batch_cost_within_the_series_is_named() -> None:
    reasons = _text(_costed(n_draft=8, c=0.02, v=3.9), _costed(n_draft=7, c=0.02, v=1.7))

    assert "n_draft 7 checks 8 for 1.7: stay below the batch size at which it jumps" in reasons


def test_too_few_accepted_tokens_are_named_with_what_all_would_give() -> None:
    reasons = _text(_costed(alpha=0.2, c=0.05, v=1.2))

    assert "only 6 % of the drafted tokens were accepted, 1.2 tokens a check of up to 5" in reasons
    assert "with all accepted it would be 3.57×" in reasons


def test_impossible_is_said_only_where_the_measured_costs_say_so() -> None:
    lost = _costed(alpha=0.95, c=0.94, v=3.4)
    possible = _costed(alpha=0.5, c=0.55, v=1.2)

    assert "even with every drafted token accepted n_draft 4 could not exceed 0.70×" in _text(lost)
    assert "could not exceed" not in _text(possible)
    above = replace(lost, speedup=0.8, speedup_gm=0.8)  # a noisy run reached more: that is no limit then
    assert "could not exceed" not in _text(above)
    assert "could not exceed" not in _text(replace(lost, decoding=None, cost_source="measured alone"))


def test_what_would_still_be_a_loss_is_no_advice() -> None:
    assert reasons_for_modest_speedup(_costed(alpha=0.2, c=0.99, v=5.2, s=1.1)) == [
        "Another pair or setting: even with every drafted token accepted n_draft 4 could not exceed 0.49× at what "
        "drafting and checking cost here"
    ]


def test_where_only_several_changes_help_they_are_named_together() -> None:
    reasons = reasons_for_modest_speedup(_costed(alpha=0.82, c=0.7, v=2.15))

    assert [words.partition(":")[0] for words in reasons] == ["Both a faster draft and cheaper checks"]


@pytest.mark.parametrize("alpha", [0.2, 0.6, 0.95])
@pytest.mark.parametrize("c", [0.01, 0.5])
@pytest.mark.parametrize("v", [1.0, 4.0])
def test_what_is_promised_is_more_than_what_was_measured(alpha: float, c: float, v: float) -> None:
    job = _costed(alpha=alpha, c=c, v=v)
    promised = [float(words.rsplit("×", 1)[0].rsplit(" ", 1)[1]) for words in reasons_for_modest_speedup(job)
                if "would be" in words]  # fmt: skip

    assert all(value > (job.speedup or 0.0) for value in promised)


def test_an_n_draft_that_was_not_measured_is_advised_by_the_costs_of_those_that_were() -> None:
    series = [_costed(n_draft=n, alpha=0.9, c=0.02, v=1 + 0.02 * n) for n in (2, 4)]

    assert "Increasing n_draft to about 8 (current: 4)" in _text(series[1], series[0])


def test_no_n_draft_is_advised_that_is_longer_than_the_answer() -> None:
    series = [replace(_costed(n_draft=n, alpha=0.99, c=0.005, v=1 + 0.005 * n), n_predict=32) for n in (16, 32)]

    assert "Increasing n_draft to about 64" in _text(*(replace(job, n_predict=200) for job in series[::-1]))
    assert "n_draft to about" not in _text(*series[::-1])


def test_no_n_draft_is_advised_that_the_series_has_measured_or_surpasses() -> None:
    series = [_costed(n_draft=n, alpha=0.9, c=0.02, v=1 + 0.02 * n) for n in (2, 4, 5, 6, 7, 8, 16)]
    slow = _costed(n_draft=4, alpha=0.5, c=0.3, v=1.0)

    assert "n_draft to about" not in _text(series[-1], *series[:-1])
    assert "n_draft to about" not in _text(slow, replace(slow, job_id="other", n_draft=8, speedup_gm=3.0))


def test_of_another_series_nothing_is_concluded() -> None:
    job = _costed(n_draft=8, c=0.02, v=3.9)
    other = replace(_costed(n_draft=7, c=0.02, v=1.7), model_pair="another")

    assert "stay below" not in _text(job, other)


def test_without_costs_only_acceptance_says_why() -> None:
    assert reasons_for_modest_speedup(_job(rate=0.11)) == [
        "A draft of the same model family, or one made for this model: only 11 % of the drafted tokens were accepted, "
        "1.4 tokens a check of up to 5"
    ]
    assert reasons_for_modest_speedup(_job(rate=0.5))[0].startswith("A smaller n_draft")


def test_a_busy_machine_is_named_once() -> None:
    busy = Finding(code="machine_busy", severity="warning", subject="machine", evidence={})
    job = replace(_job(rate=0.9), findings=(busy,))

    assert [reason.partition(":")[0] for reason in reasons_for_modest_speedup(job)] == ["A quieter machine"]
    assert reasons_for_modest_speedup(job, reported={"machine_busy"}) == []


def test_without_any_evidence_the_specifications_list_is_given() -> None:
    job = replace(_job(rate=0.9), acceptance=None)
    longer = replace(job, job_id="n8", n_draft=8, speedup_gm=1.1, verdict=Verdict.FASTER)

    assert reasons_for_modest_speedup(job) == ["Increasing n_draft (current: 4)", "Trying different model pairs"]
    assert reasons_for_modest_speedup(job, [longer]) == ["Trying different model pairs"]


def test_a_loss_is_not_called_a_modest_speedup() -> None:
    job = _job(rate=0.9)

    assert hint_heading(replace(job, verdict=Verdict.FASTER)) == "⚠️ Modest speedup. Consider:"
    assert "Slower than without speculation" in hint_heading(replace(job, verdict=Verdict.SLOWER))
    assert "No sure speedup" in hint_heading(replace(job, verdict=Verdict.NO_RELIABLE_GAIN))


@pytest.mark.parametrize(
    ("speculation", "remedy"),
    [
        ("draft", "A draft of the same model family"),
        ("draft-mtp", "Heads trained with this exact main model"),
        ("draft-eagle3", "A head trained for this exact main model"),
        ("draft-dflash+ngram-mod", "A head trained for this exact main model"),
        ("ngram-mod (synthetic acceptance 1)", "Prompts whose answers repeat text"),
        ("ngram-cache", "Prompts whose answers repeat text"),
        ("ngram-of-next-month", "Another speculation"),
    ],
)
def test_what_would_be_accepted_more_fits_the_kind(speculation: str, remedy: str) -> None:
    for job in (_job(rate=0.07), _costed(alpha=0.1, c=0.01, v=1.2)):
        text = _text(replace(job, speculation=speculation))

        assert remedy in text
        assert ("same model family" in text) is (speculation == "draft")


def test_an_n_gram_kind_has_no_draft_model_to_make_faster() -> None:
    job = _costed(alpha=0.9, c=0.6, v=1.1)

    assert "A faster draft" in _text(job)
    assert "aster" not in _text(replace(job, speculation="ngram-mod"))


def test_n_draft_is_no_remedy_for_a_kind_that_drafts_a_fixed_number() -> None:
    plain = replace(_job(rate=0.9), speculation="ngram-cache")

    assert "n_draft" not in _text(plain)
    assert "A smaller n_draft" not in _text(replace(_job(rate=0.3), speculation="ngram-cache"))
    assert "A smaller n_draft" in _text(_job(rate=0.3))
