"""Whole requests: prompt processing, total time, and from how many tokens on speculation pays."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.strategies import samples_to_table, sweep
from velosweep.statistics.columns import Columns
from velosweep.statistics.intervals import Ratio
from velosweep.statistics.request_times import breakeven_tokens, mean_of, prefill_findings, request_times
from velosweep.statistics.summarise import compare_jobs
from velosweep.values import Mode


def timed(*, vanilla_ms, speculative_ms, vanilla_rate, speculative_rate, tokens=100, prompt_tokens=50):
    """The whole job of a sweep whose first tokens come after these ms and whose decoding has these rates."""
    samples = []
    for one in sweep([4], iterations=4):
        first, rate = (vanilla_ms, vanilla_rate) if one.mode is Mode.VANILLA else (speculative_ms, speculative_rate)
        first *= 1 + 0.01 * (one.iteration % 2)
        total = first + (tokens - 1) / rate * 1000
        known = {"tokens_per_second": rate, "time_to_first_token_ms": first, "total_time_ms": total}
        samples.append(replace(one, **known, prompt_ms=first, prompt_tokens=prompt_tokens))
    return next(row for row in compare_jobs(samples_to_table(samples)) if row.prompt_id is None)


def test_prompt_processing_and_the_whole_request_are_ratios_of_pairs_with_intervals() -> None:
    found = timed(vanilla_ms=100, speculative_ms=250, vanilla_rate=20, speculative_rate=40).request

    assert found.prefill_ratio == pytest.approx(0.4)
    assert found.prefill_low <= found.prefill_ratio <= found.prefill_high
    assert found.total_ratio == pytest.approx((100 + 4950) / (250 + 2475), rel=1e-3)
    assert found.total_low <= found.total_ratio <= found.total_high
    assert found.prompt_tokens == 50
    assert (found.vanilla_ms, found.speculative_ms) == pytest.approx((100.5 + 4950, 251.25 + 2475))


@pytest.mark.parametrize(("speculative_ms", "rate", "tokens"), [
    (100, 40, 1),  # the first token is no later: from the first one on
    (90, 40, 1),
    (250, 40, 8),  # 150 ms later, 25 ms gained with each further token: at 7 tokens as long, at 8 shorter
    (250, 20, None),
    (250, 10, None),
    (90, 10, None),
])  # fmt: skip
def test_speculation_pays_from_the_token_at_which_a_request_is_shorter(speculative_ms, rate, tokens) -> None:
    job = timed(vanilla_ms=100, speculative_ms=speculative_ms, vanilla_rate=20, speculative_rate=rate)

    assert breakeven_tokens(job.vanilla, job.speculative) == job.request.breakeven_tokens
    if tokens is None:
        assert job.request.breakeven_tokens is None
        return
    first = {100: 100.5, 90: 90.45, 250: 251.25}[speculative_ms]  # the means of both kinds of rounds

    def total(n: int, first_ms: float, rate_: float) -> float:
        return first_ms + (n - 1) * 1000 / rate_

    found = job.request.breakeven_tokens
    assert found == tokens
    assert total(found, first, rate) <= total(found, 100.5, 20)
    assert found == 1 or total(found - 1, first, rate) >= total(found - 1, 100.5, 20)


def test_a_gain_of_a_part_of_a_millisecond_a_token_pays_late():
    job = timed(vanilla_ms=100, speculative_ms=250, vanilla_rate=1000, speculative_rate=2000)

    assert job.request.breakeven_tokens == 2 + math.floor(150.75 / 0.5)
    hardly_later = timed(vanilla_ms=100, speculative_ms=100.5, vanilla_rate=1000, speculative_rate=2000)
    assert hardly_later.request.breakeven_tokens == 2 + math.floor(0.5025 / 0.5)


def test_a_later_first_token_is_a_finding_that_says_by_how_much() -> None:
    (found,) = [one for one in timed(
        vanilla_ms=1000, speculative_ms=2500, vanilla_rate=20, speculative_rate=40
    ).findings if one.code == "slow_prefill"]  # fmt: skip

    assert found.severity == "warning"
    assert found.evidence["slower"] == pytest.approx(2.5)
    assert (found.evidence["vanilla_s"], found.evidence["speculative_s"]) == pytest.approx((1.005, 2.5125))


def test_a_first_token_that_hardly_shows_in_the_request_is_a_remark() -> None:
    job = timed(vanilla_ms=10, speculative_ms=25, vanilla_rate=20, speculative_rate=40)

    assert [one.severity for one in job.findings if one.code == "slow_prefill"] == ["info"]


@pytest.mark.parametrize(("high", "codes"), [(0.99, ["slow_prefill"]), (1.0, []), (1.5, []), (None, [])])
def test_a_first_token_that_may_be_as_early_is_no_finding(high, codes) -> None:
    job = timed(vanilla_ms=100, speculative_ms=250, vanilla_rate=20, speculative_rate=40)
    times = replace(job.request, prefill_high=high)

    assert [one.code for one in prefill_findings(times, job.vanilla, job.speculative)] == codes


@pytest.mark.parametrize(
    ("ratio", "later_ms", "severities"),
    [(0.91, 200.0, []), (0.9, 200.0, []), (0.89, 40.0, ["info"]), (0.89, 50.0, ["info"]), (0.89, 50.5, ["warning"])],
)
def test_prompts_read_at_less_than_nine_tenths_are_told_and_a_twentieth_of_the_request_is_a_warning(
    ratio, later_ms, severities
) -> None:
    job = timed(vanilla_ms=100, speculative_ms=250, vanilla_rate=20, speculative_rate=40)
    before = replace(job.vanilla.time_to_first_token_ms, mean=100.0)
    modes = [
        replace(job.vanilla, time_to_first_token_ms=before),
        replace(job.speculative, time_to_first_token_ms=replace(before, mean=100.0 + later_ms)),
    ]
    times = replace(job.request, prefill_ratio=ratio, prefill_high=0.95, vanilla_ms=1000.0)

    assert [one.severity for one in prefill_findings(times, *modes)] == severities


def test_without_one_of_the_modes_nothing_is_said_of_requests() -> None:
    job = timed(vanilla_ms=1000, speculative_ms=2500, vanilla_rate=20, speculative_rate=40)

    for modes in ((job.vanilla, None), (None, job.speculative)):
        assert prefill_findings(job.request, *modes) == []
        assert request_times(None, {"total": Ratio(ratio=2.0, interval=None)}, *modes, ([], [])) is None


def test_a_first_token_as_early_is_no_finding() -> None:
    job = timed(vanilla_ms=100, speculative_ms=103, vanilla_rate=20, speculative_rate=40)

    assert [one.code for one in job.findings if one.code == "slow_prefill"] == []


def test_without_the_programs_own_times_only_the_whole_request_is_compared() -> None:
    job = timed(vanilla_ms=100, speculative_ms=250, vanilla_rate=20, speculative_rate=40)
    samples = [replace(one, prompt_ms=None) for one in sweep([4], iterations=4)]
    bare = next(row for row in compare_jobs(samples_to_table(samples)) if row.prompt_id is None).request

    assert job.request.prefill_ratio is not None
    assert (bare.prefill_ratio, bare.prefill_low) == (None, None)
    assert bare.total_ratio is not None


def test_the_memory_of_a_mode_is_the_most_that_its_servers_held() -> None:
    samples = [
        replace(one, memory_bytes=(5 if one.mode is Mode.VANILLA else 9) * 2**30 + one.iteration)
        for one in sweep([4], iterations=4)
    ]
    job = next(row for row in compare_jobs(samples_to_table(samples)) if row.prompt_id is None)

    last = max(one.iteration for one in samples)
    assert (job.memory_bytes_vanilla, job.memory_bytes_speculative) == (5 * 2**30 + last, 9 * 2**30 + last)


def test_no_runs_have_no_mean() -> None:
    columns = Columns(samples_to_table(sweep([4], iterations=2)))

    assert mean_of(columns, "total_time_ms", np.arange(2)) is not None
    assert mean_of(columns, "total_time_ms", np.arange(0)) is None
