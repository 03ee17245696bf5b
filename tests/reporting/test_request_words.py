"""A whole request in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.reporting import sweeps
from velosweep.reporting.recommendation import recommend
from velosweep.reporting.request_words import memory_words, payback_words, request_differs, request_words
from velosweep.statistics.comparison import RequestTimes
from velosweep.values import Verdict

TIMES = RequestTimes(
    prompt_tokens=2300.0, vanilla_ms=31_200.0, speculative_ms=71_300.0, prefill_ratio=0.44, prefill_low=0.43,
    prefill_high=0.45, total_ratio=0.44, total_low=0.42, total_high=0.46, breakeven_tokens=120,
)  # fmt: skip
JOB = sweeps.default_sweep().jobs[0]


def test_first_token_and_whole_request_are_told_with_both_times() -> None:
    text = request_words(replace(JOB, request=TIMES, verdict=Verdict.SLOWER))

    assert text is not None
    assert text.startswith("First token 46 → ")
    assert "whole answer of 100 tokens 31.2 → 71.3 s, 0.44×" in text
    assert text.endswith("never pays at this prompt length (2300 tokens).")


@pytest.mark.parametrize(("verdict", "tokens", "words"), [
    (Verdict.FASTER, 1, "pays from the first tokens on"),
    (Verdict.FASTER, 120, "pays from 120 tokens on at this prompt length (2300 tokens)"),
    (Verdict.SLOWER, None, "never pays at this prompt length (2300 tokens)"),
    (Verdict.NO_RELIABLE_GAIN, 120, ""),
])  # fmt: skip
def test_from_when_on_it_pays_is_said_only_where_that_is_sure(verdict: Verdict, tokens: int | None, words: str) -> None:
    assert payback_words(replace(JOB, verdict=verdict, request=replace(TIMES, breakeven_tokens=tokens))) == words


def test_what_speculation_takes_of_memory_is_told() -> None:
    job = replace(JOB, memory_bytes_vanilla=416 * 10**6, memory_bytes_speculative=700 * 10**6)

    assert memory_words(job) == "memory 416 MB → 700 MB: speculation takes 284 MB more"
    assert memory_words(replace(job, memory_bytes_vanilla=None)) is None


def test_a_request_that_gains_as_decoding_does_from_the_first_token_on_adds_nothing() -> None:
    same = replace(TIMES, total_ratio=JOB.speedup_gm, breakeven_tokens=1)

    assert not request_differs(replace(JOB, request=same))
    assert request_differs(replace(JOB, request=replace(same, breakeven_tokens=40)))
    assert request_differs(replace(JOB, request=replace(same, total_ratio=1.1)))


def test_behind_a_context_its_reading_is_told_too() -> None:
    same = replace(TIMES, total_ratio=JOB.speedup_gm, breakeven_tokens=1)
    job = replace(JOB, request=same, depth=2000, depth_ms_vanilla=14_895.0, depth_ms_speculative=28_258.0)

    assert request_differs(job)
    assert (request_words(job) or "").endswith("; the 2000 tokens before it are read once a launch, in 14.9 → 28.3 s.")
    job = replace(job, depth_ms_vanilla=None, depth_ms_speculative=None)
    assert (request_words(job) or "").endswith("; each run reads the 2000 tokens before it again.")


@pytest.mark.parametrize(("stop", "lengths", "words"), [
    ("natural", (41.2, 38.4), "41 → 38 tokens (means)"),
    ("natural", (41.2, 41.4), "41 tokens"),
    ("natural", (None, None), f"up to {JOB.n_predict} tokens"),  # of several streams
    ("length", (None, None), f"{JOB.n_predict} tokens"),
])  # fmt: skip
def test_answers_that_end_by_themselves_are_told_with_their_lengths(
    stop: str, lengths: tuple[float | None, float | None], words: str
) -> None:
    same = replace(TIMES, total_ratio=JOB.speedup_gm, breakeven_tokens=1)
    job = replace(JOB, request=same, answer_tokens_vanilla=lengths[0], answer_tokens_speculative=lengths[1])
    job = replace(job, settings={"stop": stop})
    (answer,) = recommend([job], sweeps.default_sweep().record)

    assert f"whole answer of {words} " in (request_words(job) or "")
    assert f", {words} each;" in answer.rests_on
    assert request_differs(job) is ("→" in words)


def test_unknown_times_are_not_told() -> None:
    assert request_words(replace(JOB, request=None)) is None
