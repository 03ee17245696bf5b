"""Runs that may be averaged, and those that may not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.llama_cpp.servers import request, speculative, vanilla
from velosweep.config.settings import Speculation
from velosweep.llama_cpp.engine import Generation
from velosweep.measuring.sample_rows import invalid_reason

GOOD = Generation(
    tokens=tuple(range(32)),
    text="x" * 32,
    prompt_tokens=12,
    predicted_tokens=32,
    prompt_ms=10.0,
    predicted_ms=124.0,
    time_to_first_token_ms=11.0,
    total_time_ms=136.0,
)
DRAFTED = replace(GOOD, draft_tokens=40, accepted_tokens=20)


def test_a_good_run_of_each_mode_counts() -> None:
    assert invalid_reason(GOOD, vanilla(), request()) is None
    assert invalid_reason(DRAFTED, speculative(), request()) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"truncated": True}, "truncated"),
        ({"predicted_tokens": 31}, "only 31 of 32 tokens"),
        ({"predicted_ms": float("nan")}, "predicted_ms is nan"),
        ({"prompt_ms": float("inf")}, "prompt_ms is inf"),
        ({"predicted_ms": -5.0}, "predicted_ms is -5"),
        ({"predicted_ms": 0.0}, "not believable"),
        ({"predicted_ms": 1e-6}, "not believable"),
        ({"prompt_ms": 1e300}, "of work in a request of"),
        ({"prompt_tokens": 0}, "0 prompt tokens"),
        ({"total_time_ms": 1.0}, "before the first"),
        ({"total_time_ms": 4064.0}, "untrusted: of 4.1 s llama.cpp used 0.1"),
        ({"total_time_ms": 4064.0, "time_to_first_token_ms": 4000.0}, "untrusted: of 4.1 s llama.cpp used 0.1"),
        ({"draft_tokens": 8, "accepted_tokens": 2}, "drafted in a vanilla run"),
    ],
)
def test_what_is_not_what_was_asked_is_invalid(change: dict[str, Any], reason: str) -> None:
    assert reason in (invalid_reason(replace(GOOD, **change), vanilla(), request()) or "")


@pytest.mark.parametrize("change", [{"total_time_ms": 1100.0}, {"predicted_ms": 9000.0, "total_time_ms": 11000.0}])
def test_a_run_that_waited_a_little_counts(change: dict[str, Any]) -> None:
    assert invalid_reason(replace(GOOD, **change), vanilla(), request()) is None


def test_a_speculative_run_without_drafts_is_invalid() -> None:
    silently_vanilla = replace(GOOD, draft_tokens=0, accepted_tokens=0)

    assert "nothing was drafted" in (invalid_reason(silently_vanilla, speculative(), request()) or "")


def test_what_can_not_draft_drafts_nothing_honestly() -> None:
    two = replace(GOOD, predicted_tokens=2, draft_tokens=0, accepted_tokens=0)
    somebodys = speculative()
    somebodys = replace(somebodys, engine=replace(somebodys.engine, kind="attached"))

    assert invalid_reason(two, speculative(), replace(request(), n_predict=2)) is None
    assert invalid_reason(replace(GOOD, draft_tokens=0, accepted_tokens=0), somebodys, request()) is None


def test_an_ngram_kind_that_finds_no_repetition_drafts_nothing_honestly() -> None:
    server = speculative(draft_model=None, speculation=Speculation(kinds=("ngram-simple",)))

    assert invalid_reason(replace(GOOD, draft_tokens=0, accepted_tokens=0), server, request()) is None


def test_a_draft_model_that_is_to_drop_unlikely_drafts_may_draft_nothing() -> None:
    server = speculative(speculation=Speculation(p_min=0.9))

    assert invalid_reason(replace(GOOD, draft_tokens=0, accepted_tokens=0), server, request()) is None


def test_a_text_that_ends_by_itself_counts_where_that_was_asked_for() -> None:
    short = replace(GOOD, predicted_tokens=9, stop_reason="eos")
    asked = replace(request(), stop="natural")

    assert invalid_reason(short, vanilla(), asked) is None
    assert invalid_reason(short, vanilla(), request()) == "only 9 of 32 tokens were generated"
    assert invalid_reason(replace(short, stop_reason=None), vanilla(), asked) is not None
    assert "nothing was decoded" in (invalid_reason(replace(short, predicted_tokens=1), vanilla(), asked) or "")


def test_a_build_that_does_not_tell_is_believed() -> None:
    assert invalid_reason(GOOD, speculative(), request()) is None


def test_more_accepted_than_drafted_is_invalid() -> None:
    assert "not possible" in (invalid_reason(replace(DRAFTED, accepted_tokens=41), speculative(), request()) or "")


def test_another_draft_length_than_the_jobs_is_invalid() -> None:
    shorter = replace(DRAFTED, accepted_per_position=(12, 8))

    assert "drafts 2 tokens at a time" in (invalid_reason(shorter, speculative(4), request()) or "")
    assert invalid_reason(shorter, speculative(2), request()) is None
    own = Speculation(kinds=("ngram-simple",), parameters=(("ngram_simple.size_m", 2),))
    assert invalid_reason(shorter, speculative(4, speculation=own), request()) is None


def test_ngram_cache_drafts_eight_tokens_beside_another_kind_and_that_is_no_fault() -> None:
    server = speculative(4, speculation=Speculation(kinds=("draft", "ngram-cache")))
    eight = replace(DRAFTED, accepted_per_position=(5,) * 4 + (0,) * 4)

    assert invalid_reason(eight, server, request()) is None


def test_what_a_kind_that_we_do_not_know_drafts_is_taken_as_it_comes() -> None:
    server = speculative(4, speculation=Speculation(kinds=("ngram-of-next-month",)))

    assert invalid_reason(replace(DRAFTED, accepted_per_position=(5, 5, 5)), server, request()) is None


def test_an_overshot_run_counts() -> None:
    assert invalid_reason(replace(DRAFTED, predicted_tokens=35), speculative(), request()) is None


@given(
    predicted_ms=st.floats(allow_nan=True, allow_infinity=True),
    prompt_ms=st.floats(allow_nan=True, allow_infinity=True),
)
def test_no_figure_that_is_no_time_is_ever_averaged(predicted_ms: float, prompt_ms: float) -> None:
    verdict = invalid_reason(replace(GOOD, predicted_ms=predicted_ms, prompt_ms=prompt_ms), vanilla(), request())

    assert verdict is not None or (0 < predicted_ms < float("inf") and 0 <= prompt_ms < float("inf"))
