"""Waits for tokens, reading a context, memory: of each mode from its own runs, and only where all of them have it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.strategies import sample, samples_to_table, sweep
from velosweep.statistics.summarise import compare_jobs

WAITS = [[10.0, 20.0], [30.0, 90.0], [40.0, 50.0]]


def runs(**of_speculative):
    """Three passes of two streams: vanilla waits as WAITS says, speculation half as long."""
    found = []
    for run in sweep(iterations=3):
        share = 0.5 if run.n_draft else 1.0
        waits = tuple(share * wait for wait in WAITS[run.iteration])
        between = {f"between_tokens_p{p}_ms": share * (p + run.iteration**2) for p in (50, 95, 99)}
        own = {"stream_first_token_ms": waits, **between, "depth_ms": share * 100.0, "memory_bytes": int(share * 2048)}
        found.append(replace(run, **(own | (of_speculative if run.n_draft and run.iteration == 1 else {}))))
    return found


def job(samples):
    return compare_jobs(samples_to_table(samples))[-1]


def test_each_mode_has_the_percentiles_of_its_own_requests_and_the_medians_of_its_runs():
    found = job(runs())

    first = np.percentile(np.concatenate(WAITS), (50, 95, 99))
    expected = [*first.tolist(), 51.0, 96.0, 100.0]
    names = [f"{what}_p{p}_ms" for what in ("first_token", "between_tokens") for p in (50, 95, 99)]
    for latency, share in ((found.vanilla_latency, 1.0), (found.speculative_latency, 0.5)):
        assert [getattr(latency, name) for name in names] == pytest.approx([share * value for value in expected])


def test_each_mode_has_its_own_reading_of_the_context_and_memory():
    found = job(runs())

    assert (found.depth_ms_vanilla, found.depth_ms_speculative) == (100.0, 50.0)
    assert (found.memory_bytes_vanilla, found.memory_bytes_speculative) == (2048, 1024)


def test_each_mode_has_the_mean_length_of_its_answers_which_tokens_of_several_streams_are_not():
    ended = [replace(run, predicted_tokens=40 + run.iteration if run.n_draft else 50) for run in sweep(iterations=3)]
    found = job(ended)

    assert (found.answer_tokens_vanilla, found.answer_tokens_speculative) == (50.0, pytest.approx(41.0))
    assert job([replace(run, concurrency=2) for run in ended]).answer_tokens_vanilla is None


def test_samples_that_do_not_say_how_many_streams_there_were_are_of_one():
    table = samples_to_table([replace(run, predicted_tokens=50) for run in sweep(iterations=3)])

    assert compare_jobs(table.drop_columns(["concurrency"]))[-1].answer_tokens_vanilla == 50


@pytest.mark.parametrize("missing", ["stream_first_token_ms", "between_tokens_p95_ms"])
def test_waits_are_told_only_of_runs_that_all_have_them(missing):
    found = job([replace(run, **{missing: None}) if run.n_draft else run for run in runs()])

    assert found.speculative_latency is None
    assert found.vanilla_latency is not None


def test_a_context_that_one_run_did_not_read_has_no_mean():
    found = job(runs(depth_ms=None))

    assert (found.depth_ms_vanilla, found.depth_ms_speculative) == (100.0, None)


def test_of_vanilla_alone_nothing_is_said_of_drafting():
    found = job([sample(iteration=number, order=number) for number in range(3)])

    assert found.drafted is None
