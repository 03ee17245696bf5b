"""Which runs belong together: baselines, passes, attempts, prompts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tests.strategies import record, sample, samples_to_table, speculative, sweep, wobble
from velosweep.statistics.summarise import compare_jobs
from velosweep.values import Mode, Status


def _noisy(n_draft, prompt, iteration):
    return 30 * (1 + n_draft / 8) * wobble(iteration + n_draft)


def _jobs(samples, **options):
    return [row for row in compare_jobs(samples_to_table(samples), **options) if row.prompt_id is None]


def _speeds(mode):
    return None if mode is None else mode.tokens_per_second.samples


def _apart(changes):
    """A sweep and another vanilla series, which differs by `changes` and is twice as fast."""
    samples = sweep(iterations=2, speed=lambda n, p, i: 60.0 if n else 30.0)
    other = [replace(s, job_id="other", tokens_per_second=15.0, **changes) for s in samples if s.mode is Mode.VANILLA]
    return [*other, *samples]


@pytest.mark.parametrize(
    "changes",
    [
        *[{"main_model": "/m/other.gguf"}, {"prompt_set": "other"}, {"device": "other"}, {"host": "other"}],
        *[{"engine": "other"}, {"llama_cpp_build": "b2"}, {"n_predict": 7}, {"temperature": 0.5}, {"sweep_id": "z"}],
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_without_records_the_baseline_is_of_the_same_model_prompts_and_machine(changes):
    job = next(row for row in _jobs(_apart(changes)) if row.job_id == "j8")

    assert _speeds(job.vanilla) == (30.0, 30.0)
    assert "ambiguous_baseline" not in {finding.code for finding in job.findings}


def test_of_two_baselines_that_fit_the_one_that_shares_passes_is_taken_with_a_warning():
    samples = sweep(iterations=3, speed=lambda n, p, i: 60.0 if n else 30.0)
    fewer = [replace(s, job_id="a", tokens_per_second=15.0) for s in samples if s.mode is Mode.VANILLA][:2]

    (job,) = (row for row in _jobs([*samples, *fewer]) if row.job_id == "j8")

    assert _speeds(job.vanilla) == (30.0, 30.0, 30.0)
    assert [f.subject for f in job.findings if f.code == "ambiguous_baseline"] == ["vanilla"]


def test_runs_without_a_pass_in_common_are_held_against_vanilla_of_their_own_server_group():
    samples = sweep(iterations=3, speed=lambda n, p, i: 60.0 if n else 30.0)
    own = [replace(s, block=1, iteration=s.iteration + 9 * (s.mode is Mode.VANILLA)) for s in samples]
    hours_before = [
        replace(s, block=0, iteration=s.iteration + 20, tokens_per_second=15.0) for s in own if not s.n_draft
    ]

    (job,) = (row for row in _jobs([*hours_before, *own]) if row.job_id == "j8")

    assert _speeds(job.vanilla) == (30.0, 30.0, 30.0)
    assert job.speedup == pytest.approx(2.0)


def test_vanilla_runs_under_the_jobs_own_id_come_before_its_records_baseline():
    samples = _apart({})
    own = [replace(s, job_id="j8") if s.job_id == "other" else s for s in samples]

    jobs = _jobs(own, jobs={"j8": record()})
    assert [(job.job_id, _speeds(job.vanilla)) for job in jobs] == [("j8", (15.0, 15.0)), ("base", (30.0, 30.0))]
    assert _speeds(_jobs(samples, jobs={"j8": record(baseline_id="other")})[0].vanilla) == (15.0, 15.0)


def test_a_record_that_skips_vanilla_takes_no_series_that_happens_to_fit():
    job = next(
        row
        for row in _jobs(_apart({}), jobs={"j8": record(skip_vanilla=True, baseline_id="gone")})
        if row.job_id == "j8"
    )

    assert job.vanilla is None
    assert "ambiguous_baseline" not in {finding.code for finding in job.findings}


def test_a_record_whose_baseline_has_no_runs_takes_the_one_that_fits():
    samples = sweep(iterations=2, speed=lambda n, p, i: 60.0 if n else 30.0)

    assert _speeds(_jobs(samples, jobs={"j8": record(baseline_id="gone")})[0].vanilla) == (30.0, 30.0)


@pytest.mark.parametrize("field", ["host", "device", "engine", "block", "launch"])
def test_runs_of_another_machine_block_or_launch_are_other_passes(field):
    moved = 1 if field in ("block", "launch") else "other"
    samples = sweep(iterations=4, speed=lambda n, p, i: 60.0 + i if n else 30.0 + i)
    job = next(
        row
        for row in _jobs(
            [replace(s, **{field: moved}) if s.mode is Mode.SPECULATIVE and s.iteration > 1 else s for s in samples],
            jobs={"j8": record()},
        )
        if row.job_id == "j8"
    )

    assert job.n_pairs == 2
    assert _speeds(job.speculative) == (60.0, 61.0)
    assert job.iterations == 4


def test_passes_are_in_the_order_of_block_launch_and_iteration():
    samples = [
        replace(s, block=block, launch=launch, tokens_per_second=100.0 * (1 + (s.n_draft > 0)) + 10 * block + launch)
        for block in (1, 0)
        for launch in (1, 0)
        for s in sweep(iterations=1)
    ]

    (job,) = _jobs(samples, jobs={"j8": record()})

    assert _speeds(job.vanilla) == (100.0, 101.0, 110.0, 111.0)
    assert _speeds(job.speculative) == (200.0, 201.0, 210.0, 211.0)


def test_jobs_are_in_the_order_of_their_numbers_then_ids():
    samples = sweep([2, 4, 8], iterations=1)
    numbers = {"j2": 5, "j4": 1, "j8": 5}

    by_column = _jobs([replace(s, job_num=numbers.get(s.job_id)) for s in samples])
    by_record = _jobs(samples, jobs={f"j{n}": record(n, num=numbers[f"j{n}"]) for n in (2, 4, 8)})
    some_unnumbered = _jobs([replace(s, job_num=None if s.n_draft == 2 else s.job_num) for s in samples])

    assert [job.job_id for job in by_column] == [job.job_id for job in by_record] == ["j4", "j2", "j8"]
    assert [job.job_num for job in by_column] == [1, 5, 5]
    assert [(job.job_id, job.job_num) for job in some_unnumbered] == [("j4", 4), ("j8", 8), ("j2", None)]


def test_prompts_are_in_the_records_order_with_unknown_ones_last():
    samples = sweep(iterations=1, prompts=("c", "a", "b", "d"))

    rows = compare_jobs(samples_to_table(samples), jobs={"j8": record(prompt_ids=("b", "c"))})

    assert [row.prompt_id for row in rows] == ["b", "c", "a", "d", None]


def test_without_a_record_prompts_are_in_the_order_they_were_measured():
    samples = sweep(iterations=2, prompts=("c", "a", "b"))
    swapped = [replace(s, order=100 - s.order) for s in samples]

    assert [row.prompt_id for row in compare_jobs(samples_to_table(samples))] == ["c", "a", "b", None]
    assert [row.prompt_id for row in compare_jobs(samples_to_table(swapped))] == ["b", "a", "c", None]
    assert [row.prompt_id for row in compare_jobs(samples_to_table([replace(s, order=0) for s in samples]))] == [
        *("a", "b", "c", None)
    ]


def test_runs_without_a_prompt_are_one_prompt():
    (prompt, job) = compare_jobs(
        samples_to_table([replace(s, prompt_id=None, prompt=None) for s in sweep(iterations=2)])
    )

    assert (prompt.prompt_id, job.n_pairs) == ("", 2)


def test_the_partner_is_the_good_run_of_the_same_attempt_else_the_latest_good_one():
    samples = sweep(iterations=1, speed=lambda n, p, i: 60.0 if n else 30.0)
    samples += [sample(attempt=1, order=10, tps=31.0), sample(attempt=2, order=11, tps=32.0)]
    failed = {"status": Status.FAILED, "tokens_per_second": None}

    (latest,) = _jobs(samples)
    (same,) = _jobs([*samples, speculative(attempt=1, order=12, tps=61.0)])
    (without,) = _jobs([*samples, speculative(attempt=3, order=12, tps=63.0)])
    (broken,) = _jobs(
        [replace(s, **failed) if s.attempt == 2 else s for s in samples] + [speculative(attempt=2, order=13, tps=62.0)]
    )

    assert (_speeds(latest.vanilla), _speeds(latest.speculative)) == ((30.0,), (60.0,))
    assert (_speeds(same.vanilla), _speeds(same.speculative)) == ((31.0,), (61.0,))
    assert (_speeds(without.vanilla), _speeds(without.speculative)) == ((32.0,), (63.0,))
    assert (_speeds(broken.vanilla), _speeds(broken.speculative)) == ((31.0,), (62.0,))


def test_a_partner_is_of_the_same_prompt_and_pass():
    samples = sweep(iterations=3, prompts=("a", "b"), speed=lambda n, p, i: (60.0 if n else 30.0) + i + 10 * (p == "b"))
    samples = [s for s in samples if not (s.mode is Mode.VANILLA and s.iteration == 1 and s.prompt_id == "a")]

    a, b, whole = compare_jobs(samples_to_table(samples))

    assert (_speeds(a.vanilla), _speeds(a.speculative)) == ((30.0, 32.0), (60.0, 62.0))
    assert (_speeds(b.vanilla), _speeds(b.speculative)) == ((40.0, 41.0, 42.0), (70.0, 71.0, 72.0))
    assert (a.n_pairs, b.n_pairs, whole.n_pairs, whole.iterations) == (2, 3, 2, 3)


def test_the_last_of_equal_attempts_counts():
    samples = sweep(iterations=1, speed=lambda n, p, i: 60.0 if n else 30.0)
    again = speculative(order=9, tps=66.0)

    assert _speeds(_jobs([again, *samples])[0].speculative) == (66.0,)


@pytest.mark.parametrize("step", [2**29, 2**19 - 1])  # beyond what a code has room for, and beyond all three together
def test_numbers_of_any_size_are_passes(step):
    samples = [
        replace(s, **dict.fromkeys(("block", "launch", "iteration"), step * s.iteration))
        for s in sweep(iterations=3, speed=_noisy)
    ]
    again = [replace(s, attempt=2, order=s.order + 100) for s in samples[-1:]]

    (job,) = _jobs([*samples, *again], jobs={"j8": record()})

    assert job.n_pairs == 3


def test_without_records_the_baseline_has_the_settings_of_the_job_as_far_as_vanilla_has_any():
    samples = sweep(iterations=2)
    other = [replace(s, job_id="a", tokens_per_second=15.0) for s in samples if s.mode is Mode.VANILLA]
    threads = {"a": "4", "base": "8", "j8": "8"}
    table = samples_to_table([*other, *samples])
    owners = table["job_id"].to_pylist()
    for name, values in (("engine.threads", threads), ("draft.cache", {"j8": "q8_0"})):
        table = table.append_column(name, pa.array([values.get(owner) for owner in owners], pa.string()))

    (job,) = (row for row in compare_jobs(table) if row.job_id == "j8" and row.prompt_id is None)

    assert _speeds(job.vanilla) == (30.0, 30.0)
    assert "ambiguous_baseline" not in {finding.code for finding in job.findings}


def test_vanilla_only_jobs_have_the_first_of_their_baselines_that_has_runs():
    vanilla = [s for s in sweep(iterations=2) if s.mode is Mode.VANILLA]
    none = record(0, id="none", num=3, speculation="none", draft_model=None)

    by_baseline = _jobs(vanilla, jobs={"none": none})
    by_own_id = _jobs(
        [*vanilla, *(replace(s, job_id="none", tokens_per_second=9.0) for s in vanilla)],
        jobs={"none": replace(none, baseline_id="gone")},
    )

    assert [(job.job_id, job.job_num, job.n_draft, job.speculative) for job in by_baseline] == [("none", 3, 0, None)]
    assert "ambiguous_baseline" not in {finding.code for finding in by_baseline[0].findings}
    assert [(job.job_id, _speeds(job.vanilla)) for job in by_own_id] == [("none", (9.0, 9.0)), ("base", (30.0, 30.0))]


def test_speculative_runs_without_a_baseline_stand_alone():
    (job,) = _jobs([s for s in sweep(iterations=2) if s.mode is Mode.SPECULATIVE])

    assert (job.vanilla, job.n_pairs, job.iterations) == (None, 0, 2)
    assert np.mean(_speeds(job.speculative)) == 60.0


def test_a_job_without_runs_is_not_listed_beside_jobs_that_use_its_baseline():
    jobs = _jobs(sweep([4], iterations=2), jobs={"j4": record(4), "j8": record(8)})

    assert [job.job_id for job in jobs] == ["j4"]


def test_a_run_without_a_partner_is_held_against_vanilla_wherever_its_row_is():
    vanilla = [s for s in sweep(iterations=2) if s.mode is Mode.VANILLA]
    alone = speculative(tps=60.0, iteration=9, order=20)

    for samples in ([alone, *vanilla], [*vanilla, alone]):
        (job,) = _jobs(samples)
        assert (_speeds(job.vanilla), _speeds(job.speculative), job.n_pairs) == ((30.0, 30.0), (60.0,), 0)
