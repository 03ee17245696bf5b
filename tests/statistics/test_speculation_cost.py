"""Where decoding time goes, from samples whose rounds cost what the model says."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from tests.strategies import samples_to_table, sweep
from velosweep.statistics.comparison import DecodingTime
from velosweep.statistics.summarise import compare_jobs
from velosweep.values import Mode, Status

STEP_MS = 1000 / 30  # of vanilla
TOKENS, ROUNDS = 99, 25


def told(*n_drafts, c, v, s=0.0, drafted=None, **changes):
    """A sweep whose rounds cost n*c + v(n + 1) + s steps, and whose runs say how long drafting and batches took."""
    samples = []
    for one in sweep([*n_drafts]):
        n = one.n_draft
        if one.mode is Mode.VANILLA:
            sizes = tuple(n_draft + 1 for n_draft in n_drafts)
            one = replace(one, batch_tokens=sizes, batch_ms=tuple(v(size) * STEP_MS for size in sizes))
        else:
            made = n if drafted is None else drafted
            ms = ROUNDS * (made * c + v(n + 1) + s) * STEP_MS
            one = replace(
                one, tokens_per_second=TOKENS / ms * 1000, rounds=ROUNDS, drafting_rounds=ROUNDS,
                draft_tokens=made * ROUNDS, accepted_tokens=TOKENS - ROUNDS, draft_ms=ROUNDS * made * c * STEP_MS,
                batch_tokens=(n + 1,), batch_ms=((v(n + 1) + s) * STEP_MS,), **changes,
            )  # fmt: skip
        samples.append(one)
    return samples


def _jobs(samples):
    return {row.job_id: row for row in compare_jobs(samples_to_table(samples)) if row.prompt_id is None}


def test_a_round_costs_its_batch_and_what_the_draft_model_reads_and_shares_are_never_negative():
    known = DecodingTime(batch=5, batch_cost=1.5, sync_cost=0.25, draft_share=0.4, verify_share=0.5, tokens_per_round=3)
    unknown = replace(known, sync_cost=None, draft_share=0.6)

    assert (known.round_cost, unknown.round_cost) == (1.75, 1.5)
    assert (known.other_share, unknown.other_share) == (pytest.approx(0.1), 0)


def test_the_costs_of_drafting_and_verifying_and_their_shares_are_what_llama_cpp_says():
    job = _jobs(told(4, c=0.5, v=lambda k: 2.0, s=0.4))["j4"]
    found = job.decoding

    assert (job.cost_ratio, job.cost_source) == (pytest.approx(0.5), "llama.cpp")
    assert (found.batch, found.batch_cost, found.sync_cost) == pytest.approx((5.0, 2.0, 0.4))
    assert (found.draft_share, found.verify_share, found.other_share) == pytest.approx((2 / 4.4, 2 / 4.4, 0.4 / 4.4))
    assert job.expected_speedup == pytest.approx(job.acceptance.tokens_per_round / (4 * 0.5 + 1))


def test_one_run_of_each_mode_is_enough_for_the_costs():
    job = _jobs([s for s in told(4, c=0.5, v=lambda k: 2.0, s=0.4) if s.iteration == 0])["j4"]

    assert (job.cost_ratio, job.decoding.sync_cost) == pytest.approx((0.5, 0.4))


def test_the_measured_speedup_follows_from_the_costs():
    for n, job in _jobs(told(2, 4, 8, c=0.1, v=lambda k: 1 + k / 10, s=0.2)).items():
        found = job.decoding

        assert job.speedup == pytest.approx(found.tokens_per_round / (int(n[1:]) * job.cost_ratio + found.round_cost))


def test_what_larger_batches_cost_is_not_the_drafts():
    # From 5 to 9 tokens a batch costs more by a step: the slope over both would say that drafting does.
    jobs = _jobs(told(4, 8, c=0.05, v={5: 1.2, 9: 2.4}.__getitem__))

    assert [jobs[name].cost_ratio for name in ("j4", "j8")] == pytest.approx([0.05, 0.05])
    assert [jobs[name].decoding.batch_cost for name in ("j4", "j8")] == pytest.approx([1.2, 2.4])


def test_drafts_that_are_cut_short_cost_what_they_drafted():
    job = _jobs(told(8, c=0.2, v=lambda k: 1.5, drafted=4))["j8"]

    assert job.cost_ratio == pytest.approx(0.2)
    assert job.decoding.batch == pytest.approx(5.0)
    assert job.expected_speedup == pytest.approx(job.acceptance.tokens_per_round / (4 * 0.2 + 1))


def test_reading_along_costs_the_draft_no_more_than_drafting_as_many_tokens():
    # Single batches are noisy: one that was disturbed must not make verification look free.
    job = _jobs(told(4, c=0.01, v=lambda k: 2.0, s=1.5))["j4"]

    assert job.decoding.sync_cost == pytest.approx(5 * 0.01)


def test_shorter_drafts_are_read_along_for_less():
    (job,) = _jobs(told(8, c=0.1, v=lambda size: 1 + 0.1 * size, s=0.4, drafted=4)).values()

    assert job.decoding.sync_cost == pytest.approx(0.4 * 5 / 9)


def test_a_batch_that_was_disturbed_does_not_move_the_cost_of_reading_along():
    samples = told(4, c=0.5, v=lambda k: 2.0, s=0.4)
    odd = next(one for one in samples if one.n_draft == 4)
    samples = [replace(one, batch_ms=(one.batch_ms[0] * 9,)) if one is odd else one for one in samples]

    assert _jobs(samples)["j4"].decoding.sync_cost == pytest.approx(0.4)


def test_without_timed_batches_reading_along_is_not_told_from_verifying():
    samples = [replace(s, batch_tokens=None, batch_ms=None) for s in told(4, c=0.5, v=lambda k: 2.0, s=0.4)]
    found = _jobs(samples)["j4"].decoding

    assert (found.batch_cost, found.sync_cost) == (pytest.approx(2.4), None)


def test_a_kind_without_a_model_of_its_own_reads_nothing_along():
    samples = [replace(s, batch_tokens=None, batch_ms=None) for s in told(4, c=0.001, v=lambda k: 2.0)]
    samples = [replace(s, speculation="ngram-simple") if s.n_draft else s for s in samples]

    assert _jobs(samples)["j4"].decoding.sync_cost == 0


def test_batches_of_sizes_between_those_that_vanilla_timed_are_interpolated():
    samples = told(2, 4, 8, c=0.5, v=lambda k: float(k), s=0.4)
    samples = [
        replace(s, batch_tokens=(3, 9), batch_ms=(3 * STEP_MS, 9 * STEP_MS)) if s.mode is Mode.VANILLA else s
        for s in samples
    ]

    assert _jobs(samples)["j4"].decoding.sync_cost == pytest.approx(0.4)


@pytest.mark.parametrize("mode", Mode)
def test_where_one_mode_timed_no_batches_reading_along_is_not_known(mode):
    samples = [
        replace(s, batch_tokens=None, batch_ms=None) if s.mode is mode else s
        for s in told(4, c=0.5, v=lambda k: 2.0, s=0.4)
    ]

    assert _jobs(samples)["j4"].decoding.sync_cost is None


@pytest.mark.parametrize(("size", "ms", "sync_cost"), [(5, 1.9, 0.0), (3, 2.4, 0.4)])
def test_reading_along_costs_no_less_than_nothing_and_longer_drafts_no_more_than_the_longest_batch(size, ms, sync_cost):
    samples = [
        replace(s, batch_tokens=(size,), batch_ms=((ms if s.n_draft else 2.0) * STEP_MS,))
        for s in told(4, c=0.5, v=lambda k: 2.0, s=0.4)
    ]

    assert _jobs(samples)["j4"].decoding.sync_cost == pytest.approx(sync_cost)


def test_without_a_good_vanilla_run_there_is_no_step_to_count_costs_in():
    samples = [
        replace(s, status=Status.FAILED) if s.mode is Mode.VANILLA else s for s in told(4, c=0.5, v=lambda k: 2.0)
    ]

    assert (_jobs(samples)["j4"].cost_ratio, _jobs(samples)["j4"].decoding) == (None, None)


def test_drafting_that_took_longer_than_decoding_leaves_nothing_for_the_rest():
    samples = [replace(s, draft_ms=1e5) if s.n_draft else s for s in told(4, c=0.5, v=lambda k: 2.0)]

    found = _jobs(samples)["j4"].decoding
    assert (found.batch_cost, found.sync_cost, found.verify_share) == (0.0, 0.0, 0.0)


def test_a_job_without_speculation_hides_the_costs_of_no_other():
    first = [replace(s, job_num=0) for s in _draft_alone()]

    assert list(jobs := _jobs([*first, *told(4, c=0.5, v=lambda k: 2.0)])) == ["alone", "j4"]
    assert jobs["j4"].cost_ratio == pytest.approx(0.5)


@pytest.mark.parametrize("missing", [{"draft_ms": None}, {"draft_tokens": 0}, {"status": Status.FAILED}])
def test_of_runs_that_say_nothing_nothing_is_claimed(missing):
    samples = [replace(s, **missing) if s.n_draft == 8 else s for s in told(4, 8, c=0.1, v=lambda k: 1.5)]
    job = _jobs(samples)["j8"]

    assert (job.cost_ratio, job.cost_source, job.decoding, job.expected_speedup) == (None, None, None, None)


@pytest.mark.parametrize("unknown", [{"draft_tokens": None}, {"rounds": None}])
def test_a_run_that_leaves_rounds_or_drafts_open_is_in_no_cost(unknown):
    known = told(4, c=0.5, v=lambda k: 2.0, s=0.4)
    wrong = {"draft_ms": 1.0, "tokens_per_second": 7.0, **unknown}
    samples = [replace(s, **wrong) if s.n_draft and s.iteration == 1 else s for s in known]

    found = _jobs(samples)["j4"]
    assert found.cost_ratio == pytest.approx(0.5)
    assert asdict(found.decoding) == pytest.approx(asdict(_jobs(known)["j4"].decoding))


def _draft_alone(**changes):
    """The draft model measured as a main model, at a quarter of the cost of the main one."""
    alone = sweep([], iterations=2, speed=lambda n, p, i: 120.0)
    return [replace(s, job_id="alone", main_model="/models/draft-f16.gguf", **changes) for s in alone]


def test_a_draft_measured_alone_on_the_same_machine_says_its_cost():
    job = _jobs([*sweep([8]), *_draft_alone()])["j8"]

    assert (job.cost_ratio, job.cost_source, job.decoding) == (pytest.approx(0.25), "measured alone", None)


def test_what_llama_cpp_says_of_its_own_runs_comes_before_the_draft_alone():
    job = _jobs([*told(8, c=0.1, v=lambda k: 1.5), *_draft_alone()])["j8"]

    assert (job.cost_ratio, job.cost_source) == (pytest.approx(0.1), "llama.cpp")


@pytest.mark.parametrize("field", ["host", "device", "engine", "sweep_id"])
def test_a_draft_measured_elsewhere_says_nothing(field):
    assert _jobs([*sweep([8]), *_draft_alone(**{field: "other"})])["j8"].cost_ratio is None


def test_a_draft_whose_runs_failed_says_nothing():
    assert _jobs([*sweep([8]), *_draft_alone(status=Status.FAILED)])["j8"].cost_ratio is None


def test_two_draft_lengths_alone_do_not_tell_draft_cost_from_batch_cost():
    jobs = _jobs(sweep([4, 8], speed=lambda n, p, i: 30.0 if not n else 30 * TOKENS / ROUNDS / (n * 0.1 + 1.2)))

    assert [jobs[name].cost_ratio for name in ("j4", "j8")] == [None, None]
