"""From samples to comparisons: what is paired, what is averaged, what is said."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy import stats

from tests.made_up import made_up_group
from tests.strategies import START, record, rounds_table, sample, samples_to_table, speculative, sweep, wobble
from velosweep.errors import StorageError
from velosweep.statistics.columns import Columns
from velosweep.statistics.runs import runs_of
from velosweep.statistics.summarise import compare_jobs
from velosweep.values import Mode, Status, Verdict


def _compare(samples, **options):
    return compare_jobs(samples_to_table(samples), **options)


def _job(samples, **options):
    return next(row for row in _compare(samples, **options) if row.prompt_id is None)


def _codes(comparison, *, severity=None):
    return {f.code for f in comparison.findings if severity in (None, f.severity)}


def _noisy(n_draft, prompt, iteration):
    return 30 * (1 + n_draft / 8) * wobble(iteration + n_draft)


def test_a_job_and_its_prompts_have_a_comparison_each_in_order():
    rows = _compare(sweep([8, 4], prompts=("b", "a"), speed=_noisy))

    assert [(row.job_id, row.prompt_id) for row in rows] == [
        *[("j4", "b"), ("j4", "a"), ("j4", None)],
        *[("j8", "b"), ("j8", "a"), ("j8", None)],
    ]


def test_the_specifications_figures_are_those_of_the_counted_runs():
    job = _job(sweep(iterations=3, speed=lambda n, p, i: (30 if n == 0 else 60) + i))

    assert job.vanilla.tokens_per_second.samples == (30.0, 31.0, 32.0)
    assert job.speculative.tokens_per_second.samples == (60.0, 61.0, 62.0)
    assert job.speedup == pytest.approx(61 / 31)
    assert job.speedup_gm == pytest.approx((60 / 30 * 61 / 31 * 62 / 32) ** (1 / 3))
    assert (job.iterations, job.n_pairs, job.verdict) == (3, 3, Verdict.FASTER)


def test_the_order_of_rows_does_not_matter():
    samples = sweep([4, 8], prompts=("a", "b", "c"), speed=_noisy)
    shuffled = samples.copy()
    random.Random(1).shuffle(shuffled)

    assert _compare(samples) == _compare(shuffled)


def test_two_jobs_share_one_vanilla_series():
    rows = [row for row in _compare(sweep([4, 8], speed=_noisy)) if row.prompt_id is None]

    assert rows[0].vanilla == rows[1].vanilla


def test_jobs_of_several_baselines_have_each_the_figures_of_its_own():
    speeds = np.array([[[10.0, 20.0, 30.0]] * 3, [[14.0, 20.0, 30.0]] * 3])

    jobs = [row for row in compare_jobs(rounds_table(speeds)) if row.prompt_id is None]

    assert [(job.n_draft, job.vanilla_speed) for job in jobs] == [(1, 10.0), (1, 14.0), (2, 10.0), (2, 14.0)]


def test_records_name_the_baseline_where_columns_fit_two():
    samples = sweep(speed=_noisy)
    other = [replace(s, job_id="other", tokens_per_second=10.0) for s in samples if s.mode is Mode.VANILLA]

    job = _job(samples + other, jobs={"j8": record()})

    assert job.vanilla.tokens_per_second.mean == pytest.approx(30, rel=0.01)
    assert "ambiguous_baseline" not in _codes(job)


def test_without_records_a_baseline_that_fits_twice_is_said():
    samples = sweep(speed=_noisy)
    other = [replace(s, job_id="zz") for s in samples if s.mode is Mode.VANILLA]

    assert "ambiguous_baseline" in _codes(_job(samples + other))


def test_warm_ups_are_never_averaged():
    samples = sweep(iterations=3)
    warm = [sample(warmup=True, tps=1.0, iteration=0), speculative(warmup=True, tps=1.0, iteration=0)]

    assert _job(samples + warm) == _job(samples)


def test_an_iteration_with_a_failed_half_is_dropped_from_pairs_and_shown():
    samples = sweep(iterations=4, speed=_noisy)
    broken = next(s for s in samples if s.mode is Mode.SPECULATIVE and s.iteration == 1)
    failed = replace(
        broken, status=Status.FAILED, tokens_per_second=None, time_to_first_token_ms=None, total_time_ms=None
    )

    job = _job([failed if s is broken else s for s in samples])

    assert (job.n_pairs, len(job.vanilla.tokens_per_second.samples)) == (3, 3)
    assert "failed_runs" in _codes(job, severity="warning")


def test_a_failed_attempt_never_takes_the_place_of_a_good_one():
    samples = sweep(iterations=3, speed=lambda n, p, i: (30 if n == 0 else 60) + i)
    failed = {"status": Status.FAILED, "error": "it died", "tokens_per_second": None, "predicted_ms": None}
    samples += [
        replace(sample(iteration=0, order=-2), **failed),  # before the good one, in a run that was resumed
        replace(sample(iteration=1, attempt=1, order=90), **failed),  # a repetition that came to nothing
        replace(speculative(iteration=1, attempt=1, order=91), **failed),
        replace(speculative(iteration=2, order=-1), **failed),
    ]
    job = _job(samples)

    assert job.n_pairs == 3
    assert job.vanilla.tokens_per_second.samples == (30.0, 31.0, 32.0)
    assert job.speculative.tokens_per_second.samples == (60.0, 61.0, 62.0)


def test_a_run_repeated_alone_is_paired_with_the_good_run_of_another_attempt():
    samples = sweep(iterations=3, speed=lambda n, p, i: (30 if n == 0 else 60) + i)
    vanilla = next(run for run in samples if run.mode is Mode.VANILLA and run.iteration == 1)
    samples.remove(vanilla)
    samples += [replace(vanilla, status=Status.FAILED, error="it died"), replace(vanilla, attempt=1)]

    assert _job(samples).n_pairs == 3


def test_the_latest_attempt_counts_with_the_vanilla_run_of_its_own_attempt():
    samples = sweep(iterations=3, speed=lambda n, p, i: 60.0 if n else 30.0)
    first = next(s for s in samples if s.mode is Mode.SPECULATIVE and s.iteration == 1)
    failed = replace(first, status=Status.TIMEOUT, tokens_per_second=None)
    again = [
        sample(iteration=1, attempt=1, order=90, tps=20.0),
        speculative(iteration=1, attempt=1, order=91, tps=80.0),
    ]

    job = _job([failed if s is first else s for s in samples] + again)

    assert job.vanilla.tokens_per_second.samples == (30.0, 20.0, 30.0)
    assert job.speculative.tokens_per_second.samples == (60.0, 80.0, 60.0)
    assert "failed_runs" in _codes(job)


def test_an_ok_run_without_figures_is_invalid_not_zero():
    samples = sweep(iterations=3)
    hollow = [
        replace(s, tokens_per_second=None) if s.mode is Mode.SPECULATIVE and s.iteration == 0 else s for s in samples
    ]

    job = _job(hollow)

    assert job.n_pairs == 2
    assert "invalid_runs" in _codes(job)


def test_a_job_of_failures_only_is_invalid_and_has_no_figures():
    samples = [
        replace(s, status=Status.FAILED, tokens_per_second=None) if s.mode is Mode.SPECULATIVE else s for s in sweep()
    ]

    job = _job(samples)

    assert (job.verdict, job.speculative, job.speedup, job.ci_low) == (Verdict.INVALID, None, None, None)
    assert "failed_runs" in _codes(job, severity="error")


def test_one_pair_has_a_speedup_and_no_interval():
    job = _job(sweep(iterations=1))

    assert job.speedup == pytest.approx(2)
    assert (job.speedup_stddev, job.ci_low, job.ci_high, job.vanilla.tokens_per_second.stddev) == (None,) * 4
    assert "too_few_pairs" in _codes(job)


def test_without_vanilla_runs_there_is_nothing_to_compare():
    job = _job([s for s in sweep(speed=_noisy) if s.mode is Mode.SPECULATIVE], jobs={"j8": record(skip_vanilla=True)})

    assert (job.vanilla, job.speedup, job.speedup_gm, job.ci_low) == (None,) * 4
    assert len(job.speculative.tokens_per_second.samples) == 5


def test_a_vanilla_series_that_no_job_refers_to_is_a_job():
    (prompt, job) = _compare([s for s in sweep(speed=_noisy) if s.mode is Mode.VANILLA])

    assert (job.job_id, job.speculative, job.speedup, job.n_draft) == ("base", None, None, 0)
    assert len(job.vanilla.tokens_per_second.samples) == 5
    assert prompt.prompt_id == "p0"


def test_a_vanilla_only_job_may_share_its_baseline_with_others():
    none = record(n_draft=0, id="none", num=0, speculation="none", draft_model=None)

    rows = _compare(sweep(speed=_noisy), jobs={"none": none, "j8": record()})

    assert [(row.job_id, row.job_num) for row in rows if row.prompt_id is None] == [("none", 0), ("j8", 8)]
    assert rows[1].speculative is None


def test_a_job_whose_speculative_runs_never_came_keeps_its_own_parameters():
    vanilla = [sample for sample in sweep(speed=_noisy) if sample.mode is Mode.VANILLA]
    never_ran = {job.id: job for job in (record(), record(n_draft=12))}

    rows = [row for row in _compare(vanilla, jobs=never_ran) if row.prompt_id is None]

    assert [(row.job_id, row.n_draft, row.speculation) for row in rows] == [("j8", 8, "draft"), ("j12", 12, "draft")]
    for row in rows:
        assert row.draft_model == record().draft_model
        assert row.vanilla is not None
        assert (row.speculative, row.speedup, row.acceptance, row.n_pairs) == (None, None, None, 0)
        assert row.verdict is Verdict.INVALID


def test_a_vanilla_series_that_nobody_knows_stands_for_itself():
    vanilla = [sample for sample in sweep(speed=_noisy) if sample.mode is Mode.VANILLA]

    job = _job(vanilla)

    assert (job.n_draft, job.speculative) == (0, None)
    assert job.verdict is not Verdict.INVALID


def test_runs_in_blocks_get_welchs_interval_and_say_so():
    job = _job(sweep(order="block", speed=_noisy))

    assert "assumes no drift between blocks" in job.ci_method
    assert "not_paired" in _codes(job)


def test_why_runs_are_no_pairs_is_told_apart():
    def subject(samples, **options):
        return next(f.subject for f in _job(samples, **options).findings if f.code == "not_paired")

    in_blocks = sweep(order="block", speed=_noisy)
    apart = [replace(s, iteration=s.iteration + 100) if s.mode is Mode.VANILLA else s for s in in_blocks]

    assert subject(in_blocks) == "pairs"
    assert subject(in_blocks, jobs={"j8": record(order="block")}) == "pairs"
    assert subject(in_blocks, jobs={"j8": record(order="abba")}) == "repeats"
    assert subject(apart, jobs={"j8": record(order="abba")}) == "passes"


def test_modes_that_share_no_iteration_are_compared_unpaired():
    samples = [replace(s, iteration=s.iteration + 100) if s.mode is Mode.VANILLA else s for s in sweep(speed=_noisy)]

    job = _job(samples)

    assert job.n_pairs == 0
    assert job.speedup == pytest.approx(2, rel=0.01)
    assert "Welch" in job.ci_method


def test_several_launches_give_an_interval_over_launch_means():
    launches = [
        replace(s, launch=launch, order=s.order + 100 * launch, started_at=s.started_at + timedelta(hours=launch))
        for launch in range(3)
        for s in sweep(
            iterations=2, speed=lambda n, p, i, launch=launch: _noisy(n, p, i) * (1 + 0.05 * launch * (n > 0))
        )
    ]

    job = _job(launches)

    assert "launch means" in job.ci_method
    assert job.speedup_gm == pytest.approx(2 * (1 * 1.05 * 1.1) ** (1 / 3), rel=0.01)
    assert "conditional_on_launch" not in _codes(job)


def test_a_pass_over_several_prompts_is_the_suites_tokens_over_its_time():
    speeds = {"fast": 40.0, "slow": 10.0}

    job = _job(sweep(iterations=2, prompts=("fast", "slow"), speed=lambda n, p, i: speeds[p] * (2 if n else 1)))

    seconds = 99 / 40 + 99 / 10
    assert job.vanilla.tokens_per_second.samples == pytest.approx((198 / seconds,) * 2)
    assert job.vanilla.total_time_ms.mean == pytest.approx(seconds * 1000 + 40)
    assert job.vanilla.time_to_first_token_ms.mean == pytest.approx(20)
    assert job.speedup_gm == pytest.approx(2)


def test_prompts_like_these_vary_more_than_this_suite():
    gain = {"a": 1.2, "b": 2.0, "c": 1.6}

    job = _job(sweep(prompts=tuple(gain), speed=lambda n, p, i: 30 * (gain[p] if n else 1) * wobble(i + n)))

    assert job.speedup_gm == pytest.approx(math.prod(gain.values()) ** (1 / 3), rel=0.01)
    assert job.population_low < job.ci_low < job.speedup_gm < job.ci_high < job.population_high
    assert job.worst_prompt == "a"
    assert job.suite_speedup == pytest.approx(3 / sum(1 / x for x in gain.values()), rel=0.01)


def test_a_single_pass_over_many_prompts_takes_its_interval_from_the_prompts():
    gain = {"a": 1.5, "b": 1.6, "c": 1.7, "d": 1.55}

    job = _job(sweep(iterations=1, prompts=tuple(gain), speed=lambda n, p, i: 30 * (gain[p] if n else 1)))

    assert (job.ci_low, job.ci_high) == (job.population_low, job.population_high)
    assert "prompts" in job.ci_method
    assert job.verdict is Verdict.FASTER


def test_a_pass_that_lacks_a_prompt_is_left_out_and_said():
    samples = sweep(iterations=4, prompts=("a", "b"), speed=_noisy)
    lost = next(s for s in samples if s.mode is Mode.SPECULATIVE and s.iteration == 2 and s.prompt_id == "b")

    rows = _compare([replace(s, status=Status.FAILED) if s is lost else s for s in samples])

    assert [row.n_pairs for row in rows] == [4, 3, 3]
    assert "incomplete_passes" in _codes(rows[-1])


def test_finished_at_is_when_the_last_counted_run_ended():
    samples = sweep(iterations=2)
    last = samples[-1]

    job = _job(samples)

    assert job.finished_at == last.started_at + timedelta(milliseconds=int(last.total_time_ms * 1000) / 1000)
    assert job.finished_at > START


def test_an_adaptive_job_reports_97_per_cent_and_whether_it_converged():
    noisy = _job(
        sweep(iterations=6, speed=lambda n, p, i: 30 * (1 + 0.3 * (i % 2) * (n > 0))),
        jobs={"j8": record(adaptive_target=0.01)},
    )
    plain = _job(sweep(iterations=6, speed=lambda n, p, i: 30 * (1 + 0.3 * (i % 2) * (n > 0))))

    assert noisy.verdict is Verdict.NOT_CONVERGED
    assert "not_converged" in _codes(noisy)
    assert "97 %" in noisy.ci_method
    assert noisy.ci_low < plain.ci_low


@pytest.mark.parametrize("confidence", [0.9, 0.99])
def test_an_adaptive_jobs_interval_is_of_the_confidence_that_its_protocol_stops_by(confidence):
    samples = sweep(iterations=6, speed=lambda n, p, i: 30 * (1 + 0.3 * (i % 2) * (n > 0)))
    d = np.log([1.0, 1.3] * 3)
    expected = stats.ttest_1samp(d, 0).confidence_interval(confidence)

    job = _job(samples, jobs={"j8": record(adaptive_target=0.01, adaptive_confidence=confidence)})

    assert (math.log(job.ci_low), math.log(job.ci_high)) == pytest.approx((expected.low, expected.high))
    assert f"{100 * confidence:g} %" in job.ci_method


def test_an_adaptive_job_is_judged_by_its_own_pairs_beside_others():
    samples = sweep([4, 8], iterations=6, speed=lambda n, p, i: 30 * (1 + 0.1 * ((i * n) % 3) * (n > 0)))
    adaptive = {name: record(int(name[1:]), adaptive_target=0.01) for name in ("j4", "j8")}

    together = compare_jobs(samples_to_table(samples), jobs=adaptive)
    (alone,) = (
        row
        for row in compare_jobs(samples_to_table([s for s in samples if s.n_draft in (0, 8)]), jobs=adaptive)
        if row.job_id == "j8" and row.prompt_id is None
    )

    beside = next(row for row in together if row.job_id == "j8" and row.prompt_id is None)
    assert (beside.ci_low, beside.ci_high, beside.df) == (alone.ci_low, alone.ci_high, 5)


def test_two_sweeps_in_one_table_are_not_mixed():
    first = sweep(iterations=2)
    second = [replace(s, sweep_id="later", tokens_per_second=2 * s.tokens_per_second) for s in first]

    jobs = [row for row in _compare(first + second) if row.prompt_id is None]

    assert [row.vanilla.tokens_per_second.mean for row in jobs] == pytest.approx([60, 30])


def test_only_the_needed_columns_are_needed():
    samples = sweep(speed=_noisy)
    needed = ["job_id", "mode", "iteration", "tokens_per_second", "time_to_first_token_ms", "total_time_ms"]
    rows = [{name: getattr(s, name) for name in needed} for s in samples]
    table = pa.Table.from_pylist([row | {"mode": row["mode"].value} for row in rows])

    job = next(row for row in compare_jobs(table) if row.prompt_id is None)

    whole = _job(samples)
    assert (job.speedup, job.ci_low, job.ci_high) == (whole.speedup, whole.ci_low, whole.ci_high)


def test_a_missing_column_is_named():
    table = samples_to_table(sweep()).drop_columns(["iteration"])

    with pytest.raises(StorageError, match="no column iteration"):
        compare_jobs(table)


@pytest.mark.parametrize(("mode", "named"), [("Turbo", "Turbo"), (None, "null")])
def test_an_unknown_mode_is_named(mode, named):
    table = samples_to_table(sweep())
    modes = pa.array([*table["mode"].to_pylist()[1:], mode], pa.string())
    table = table.set_column(table.column_names.index("mode"), "mode", modes)

    with pytest.raises(StorageError, match=f"Samples of mode {named}"):
        compare_jobs(table)


def test_an_empty_table_has_no_comparisons():
    assert _compare([]) == []


def test_joules_a_token_come_from_the_counted_runs():
    samples = [replace(s, energy_j=200.0 if s.n_draft == 0 else 150.0) for s in sweep()]

    job = _job(samples)

    assert (job.energy_j_per_token_vanilla, job.energy_j_per_token_speculative) == (2.0, 1.5)


def test_a_pair_repeated_for_one_job_leaves_the_other_jobs_pairs_as_they_were():
    samples = sweep([4, 8], iterations=3, speed=lambda n, p, i: 60.0 if n else 30.0)
    first = next(s for s in samples if s.n_draft == 8 and s.iteration == 1)
    again = [
        sample(iteration=1, attempt=1, order=90, tps=20.0),
        speculative(8, iteration=1, attempt=1, order=91, tps=80.0),
    ]
    rows = _compare([replace(s, status=Status.FAILED) if s is first else s for s in samples] + again)

    undisturbed, repeated = (row for row in rows if row.prompt_id is None)
    assert undisturbed.vanilla.tokens_per_second.samples == (30.0, 30.0, 30.0)
    assert repeated.vanilla.tokens_per_second.samples == (30.0, 20.0, 30.0)


@pytest.mark.parametrize("prompts", [1, 3])
def test_a_job_says_the_same_to_the_last_bit_whatever_jobs_are_beside_it(prompts):
    group = made_up_group(0, group=4, prompts=prompts, iterations=31)
    group = group.filter(pa.array([row != 10 * prompts + 1 for row in range(group.num_rows)]))  # a run is missing
    together = [_own_figures(row) for row in compare_jobs(group)]
    alone = []
    for job in range(4):
        owners = pa.array(["base-00000000", f"job-{job:08x}"])
        alone += [_own_figures(row) for row in compare_jobs(group.filter(pc.is_in(group["job_id"], owners)))]
    assert len(together) == 4 * (prompts + 1)
    assert together == alone


def _own_figures(row):
    """Without what is fitted over the jobs that share a baseline: the noise behind intervals."""
    of_all = (
        *("ci_low", "ci_high", "ci_method", "standard_error", "df", "verdict"),
        *("may_be_best", "to_best_low", "to_best_high", "chosen_low"),
    )
    findings = tuple(
        f for f in row.findings if f.code not in {"wide_interval", "hodges_lehmann_disagrees", "slow_prefill"}
    )
    limits = dict.fromkeys(("prefill_low", "prefill_high", "total_low", "total_high"))
    request = row.request and replace(row.request, **limits)
    return replace(row, **dict.fromkeys(of_all), by_round=None, findings=findings, request=request)


def _with_positions(*n_drafts):
    """A sweep over `n_drafts` whose positions are accepted 20, 19, 18… times of 25."""
    found = []
    for run in sweep(n_drafts, speed=_noisy):
        counts = tuple(20 - i for i in range(run.n_draft)) or None
        found.append(replace(run, accepted_per_position=counts, accepted_tokens=sum(counts) if counts else None))
    return found


def test_a_job_measured_beside_longer_drafts_has_no_positions_and_no_alpha_but_its_own():
    alone = _job(_with_positions(2))

    (beside,) = (row for row in _compare(_with_positions(2, 4, 8)) if row.prompt_id is None and row.n_draft == 2)

    assert beside.acceptance.per_position == pytest.approx((0.8, 0.76))
    assert beside.acceptance.alpha == pytest.approx(alone.acceptance.alpha)
    assert beside.acceptance.alpha == pytest.approx((20 + 19) / (20 + 19 + 25 - 19))


def test_a_pass_over_a_set_takes_the_time_of_all_its_prompts_and_waits_as_they_do_on_average():
    def timed(run):
        of_b = run.prompt_id == "b"
        total_ms, first_ms = 1000.0 * (1 + run.iteration) + 50 * of_b, 10.0 * (1 + run.iteration) + 4 * of_b
        return replace(run, total_time_ms=total_ms, time_to_first_token_ms=first_ms)

    vanilla = _job(map(timed, sweep(iterations=3, prompts=("a", "b")))).vanilla

    assert vanilla.total_time_ms.samples == (2050.0, 4050.0, 6050.0)
    assert vanilla.time_to_first_token_ms.samples == (12.0, 22.0, 32.0)


def test_two_runs_have_a_spread():
    job = _job(sweep(iterations=2, speed=lambda n, prompt, iteration: 30.0 + 2 * iteration))

    assert job.vanilla.tokens_per_second.stddev == pytest.approx(2**0.5)


def test_of_two_starts_each_has_the_mean_log_of_its_own_runs():
    runs = sweep(iterations=4, speed=lambda n, prompt, iteration: 30.0 + iteration)
    vanilla = _job([replace(run, launch=run.iteration // 2) for run in runs]).vanilla

    assert vanilla.launch_logs == pytest.approx([math.log(30 * 31) / 2, math.log(32 * 33) / 2])
    assert _job(runs).vanilla.launch_logs == ()


def test_a_set_without_speculation_has_the_figures_of_the_prompts_that_ran():
    runs = [run for run in sweep(iterations=3, prompts=("a", "b", "c")) if run.mode is Mode.VANILLA]
    failing = [
        replace(run, status=Status.FAILED, tokens_per_second=None) if run.prompt_id == "b" else run for run in runs
    ]
    alone = replace(record(), id=runs[0].job_id, baseline_id=runs[0].job_id, speculation="none")
    job = _job(failing, jobs={alone.id: alone})

    assert job.vanilla is not None
    assert job.vanilla.tokens_per_second.samples == pytest.approx((30.0, 30.0, 30.0))


def test_runs_with_fewer_draft_positions_count_as_none_accepted_there():
    lists = [(5, 3, 2), (4,)]
    runs = [
        replace(run, accepted_per_position=lists[run.iteration]) if run.mode is Mode.SPECULATIVE else run
        for run in sweep(iterations=2)
    ]
    table = samples_to_table(runs)
    own = np.array([[place for place, run in enumerate(runs) if run.mode is Mode.SPECULATIVE]])

    (counts,) = runs_of(Columns(table)).counts(own)

    assert counts.per_position == (4.5, 1.5, 1.0)


def test_a_large_model_that_takes_seconds_a_token_has_figures():
    job = _job(sweep(iterations=3, speed=lambda n, prompt, iteration: 0.25 if n == 0 else 0.5))

    assert (job.vanilla.tokens_per_second.mean, job.speedup) == (0.25, 2.0)


def test_energy_is_of_each_token_of_one_stream_and_unknown_of_several():
    runs = [replace(run, energy_j=50.0, predicted_tokens=100) for run in sweep(iterations=3)]

    of_none_named = samples_to_table(runs).drop_columns(["concurrency"])

    assert _job(runs).energy_j_per_token_vanilla == 0.5
    assert compare_jobs(of_none_named)[-1].energy_j_per_token_vanilla == 0.5
    assert _job([replace(run, concurrency=2) for run in runs]).energy_j_per_token_vanilla is None
