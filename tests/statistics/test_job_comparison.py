"""What a comparison says of its job: parameters, verdict, which runs it is made of."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from scipy import stats

from tests.strategies import record, sample, samples_to_table, speeds_table, sweep, wobble
from velosweep.reporting.finding_text import explain
from velosweep.statistics.summarise import compare_jobs
from velosweep.values import Mode, Status, Verdict

TEXTS = ("main_model", "prompt_set", "host", "device", "engine", "llama_cpp_build")


def _noisy(n_draft, prompt, iteration):
    return 30 * (1 + n_draft / 8) * wobble(iteration + n_draft)


def _rows(samples, **options):
    return compare_jobs(samples_to_table(samples), **options)


# ---------------------------------------------------------------- parameters


def test_parameters_are_those_of_the_jobs_own_runs():
    samples = [
        replace(s, **{name: f"a {name}" for name in TEXTS}, model_pair="a pair", n_predict=77, prompt_category="code")
        for s in sweep(iterations=2)
    ]

    prompt, job = _rows(samples)

    for row in (prompt, job):
        assert {name: getattr(row, name) for name in TEXTS} == {name: f"a {name}" for name in TEXTS}
        assert (row.job_id, row.job_num, row.model_pair, row.n_draft, row.n_predict) == ("j8", 8, "a pair", 8, 77)
        assert (row.draft_model, row.speculation) == ("/models/draft-f16.gguf", "draft")
        assert (row.prompt, row.prompt_category) == ("text of p0", "code")
    assert (prompt.prompt_id, job.prompt_id) == ("p0", None)


def test_a_records_parameters_come_before_those_of_its_runs():
    asked = record(num=3, model_pair="asked pair", draft_model="/asked.gguf", speculation="ngram-simple", n_draft=5)

    job = _rows(sweep(iterations=2), jobs={"j8": replace(asked, id="j8")})[-1]

    assert (job.job_num, job.model_pair, job.draft_model, job.speculation) == (
        3,
        "asked pair",
        "/asked.gguf",
        "ngram-simple",
    )
    assert job.n_draft == 8  # of the runs themselves


def test_what_a_record_leaves_open_is_of_the_runs():
    job = _rows(sweep(iterations=2), jobs={"j8": record(model_pair="", speculation="")})[-1]

    assert (job.model_pair, job.speculation) == ("pair", "draft")


def test_what_no_one_recorded_is_empty():
    _, job = compare_jobs(speeds_table([[30.0, 30.1]], [[60.0, 60.2]]))

    assert {getattr(job, name) for name in (*TEXTS, "model_pair", "speculation")} == {""}
    assert (job.job_num, job.draft_model, job.prompt, job.prompt_category, job.finished_at) == (None,) * 5
    assert (job.energy_j_per_token_vanilla, job.energy_j_per_token_speculative) == (None, None)
    assert (job.n_draft, job.n_predict, job.concurrency, job.depth) == (0, 0, 1, 0)


def test_job_number_0_is_a_number():
    assert _rows([replace(s, job_num=0) for s in sweep(iterations=1)])[-1].job_num == 0


def test_over_several_prompts_a_job_names_none_of_them():
    a, b, job = _rows([replace(s, prompt_category="code") for s in sweep(iterations=2, prompts=("a", "b"))])

    assert [(row.prompt_id, row.prompt, row.prompt_category) for row in (a, b, job)] == [
        ("a", "text of a", "code"),
        ("b", "text of b", "code"),
        (None, None, None),
    ]


# ---------------------------------------------------------------- verdicts


def _verdict(ratios, **options):
    vanilla = [30.0 * wobble(i) for i in range(len(ratios))]
    speculative = [v * r for v, r in zip(vanilla, ratios, strict=True)]
    return compare_jobs(speeds_table([vanilla], [speculative]), **options)[-1].verdict


def test_verdicts_follow_the_interval():
    assert _verdict([1.01, 1.012, 1.011]) is Verdict.FASTER
    assert _verdict([0.99, 0.988, 0.989]) is Verdict.SLOWER
    assert _verdict([0.99, 1.01, 1.0]) is Verdict.NO_RELIABLE_GAIN
    assert _verdict([1.5]) is Verdict.NO_RELIABLE_GAIN  # no interval


def test_an_interval_that_ends_at_1_is_no_reliable_gain():
    same = [30.0, 30.3, 29.9]

    assert compare_jobs(speeds_table([same], [same]))[-1].verdict is Verdict.NO_RELIABLE_GAIN


def test_an_adaptive_job_converged_not_only_while_its_interval_holds_1():
    wide = {"j8": record(adaptive_target=0.001)}

    assert _verdict([0.99, 1.01, 1.0], jobs=wide) is Verdict.NOT_CONVERGED
    assert _verdict([1.5], jobs=wide) is Verdict.NOT_CONVERGED
    assert _verdict([1.5, 1.52, 1.49], jobs=wide) is Verdict.FASTER
    assert _verdict([0.5, 0.52, 0.49], jobs=wide) is Verdict.SLOWER
    assert _verdict([0.99, 1.01, 1.0], jobs={"j8": record(adaptive_target=0.5)}) is Verdict.NO_RELIABLE_GAIN


def test_without_records_a_job_has_the_number_that_its_runs_have():
    samples = [replace(one, job_num=5 if one.n_draft else None) for one in sweep(iterations=2)]
    table = samples_to_table(samples)

    assert {row.job_num for row in compare_jobs(table)} == {5}
    assert {row.job_num for row in compare_jobs(table.drop_columns(["job_num"]))} == {None}


def test_a_prompt_of_a_conversation_says_which_turn_it_is():
    samples = sweep(prompts=("a", "b"))

    assert [row.turn for row in _rows(samples)] == [None] * 3
    turns = [replace(s, turn=1 if s.prompt_id == "a" else 2) for s in samples]
    assert [row.turn for row in _rows(turns)] == [1, 2, None]
    assert [row.turn for row in _rows([s for s in turns if s.turn == 1])] == [1, None]


@pytest.mark.parametrize(("share", "verdict"), [(1.005, Verdict.NO_RELIABLE_GAIN), (0.995, Verdict.NOT_CONVERGED)])
def test_a_job_converged_by_the_97_per_cent_half_width(share, verdict):
    d = np.log([0.99, 1.01, 1.0])
    low, high = stats.ttest_1samp(d, 0).confidence_interval(0.97)
    target = share * math.sinh((high - low) / 2)

    assert _verdict(np.exp(d), jobs={"j8": record(adaptive_target=target)}) is verdict


@pytest.mark.parametrize("speeds", [([30.0], [60.0, 61.0]), ([30.0, 31.0], [60.0])])
def test_the_specifications_stddev_needs_two_runs_of_each_mode(speeds):
    job = compare_jobs(speeds_table([speeds[0]], [speeds[1]], design="apart"))[-1]

    assert job.speedup == pytest.approx(np.mean(speeds[1]) / np.mean(speeds[0]))
    assert (job.speedup_stddev, job.ci_low) == (None, None)


def test_a_width_that_is_the_target_converged():
    same = [30.0, 30.0, 30.0]
    table = speeds_table([same], [same])

    assert compare_jobs(table, jobs={"j8": record(adaptive_target=0.0)})[-1].verdict is Verdict.NO_RELIABLE_GAIN


def test_an_error_or_nothing_measured_is_invalid():
    samples = sweep(speed=_noisy)
    diverged = [replace(s, output_sha256="bb") if s.mode is Mode.SPECULATIVE else s for s in samples]
    failed = [replace(s, status=Status.FAILED) if s.mode is Mode.SPECULATIVE else s for s in samples]

    assert [row.verdict for row in _rows(diverged)] == [Verdict.INVALID] * 2
    assert [row.verdict for row in _rows(failed)] == [Verdict.INVALID] * 2


def test_vanilla_alone_is_measured_unless_the_job_speculates():
    vanilla = [s for s in sweep(speed=_noisy) if s.mode is Mode.VANILLA]

    assert _rows(vanilla)[-1].verdict is Verdict.NO_RELIABLE_GAIN
    assert _rows(vanilla, jobs={"none": record(0, id="none")})[-1].verdict is Verdict.NO_RELIABLE_GAIN
    assert _rows(vanilla, jobs={"j1": record(1, id="j1")})[-1].verdict is Verdict.INVALID


# ---------------------------------------------------------------- over a prompt set


def test_the_findings_of_the_machine_are_the_jobs_and_of_no_prompt():
    rows = _rows([replace(s, cpu_busy=0.5) for s in sweep(prompts=("a", "b"), speed=_noisy)])

    assert ["machine_busy" in {f.code for f in row.findings} for row in rows] == [False, False, True]


def test_of_one_prompt_the_worst_is_not_named():
    assert _rows(sweep(speed=_noisy))[-1].worst_prompt is None
    assert (
        _rows(sweep(prompts=("a", "b"), speed=lambda n, p, i: 30.0 * (1 + (n > 0) * (p == "a"))))[-1].worst_prompt
        == "b"
    )


def _failed_on(samples, prompt):
    """The speculative runs of a prompt failed."""
    return [
        replace(s, status=Status.FAILED) if s.prompt_id == prompt and s.mode is Mode.SPECULATIVE else s for s in samples
    ]


def test_a_prompt_that_has_no_ratio_is_not_in_the_population():
    samples = sweep(prompts=("a", "b", "c"), speed=_noisy)
    rows = _rows(_failed_on(samples, "c"))

    assert [row.speedup_gm is None for row in rows] == [False, False, True, False]
    assert rows[-1].speedup_gm == pytest.approx((rows[0].speedup_gm * rows[1].speedup_gm) ** 0.5)
    assert rows[-1].n_pairs == 5
    left_out = next(f for f in rows[-1].findings if f.code == "prompts_left_out")
    assert left_out.evidence == {"prompts": 1, "of": 3, "names": "c", "reason": "its runs failed"}
    assert "incomplete_passes" not in {f.code for f in rows[-1].findings}


def test_of_prompts_that_are_left_out_the_last_error_of_the_first_is_told():
    samples = [
        replace(s, status=Status.FAILED, error=None if s.iteration == 2 else f"{s.prompt_id}{s.iteration}")
        if s.mode is Mode.SPECULATIVE and s.prompt_id != "c"
        else s
        for s in sweep(iterations=3, prompts=("a", "b", "c"))
    ]

    left_out = next(f for f in _rows(samples)[-1].findings if f.code == "prompts_left_out")

    assert left_out.evidence == {"prompts": 2, "of": 3, "names": "a, b", "reason": "a1"}


def test_a_prompt_that_failed_once_costs_its_pass_and_not_itself():
    samples = sweep(prompts=("a", "b"), speed=_noisy)
    lost = next(s for s in samples if s.mode is Mode.SPECULATIVE and s.iteration == 2 and s.prompt_id == "b")
    job = _rows([replace(s, status=Status.FAILED) if s is lost else s for s in samples])[-1]

    assert job.n_pairs == 4
    assert "prompts_left_out" not in {f.code for f in job.findings}


def test_of_two_prompts_that_failed_alike_the_last_is_left_out():
    samples = [
        replace(s, status=Status.FAILED) if (s.iteration, s.prompt_id) in {(0, "a"), (1, "b")} else s
        for s in sweep(iterations=2, prompts=("a", "b"), speed=_noisy)
    ]

    a, _, job = _rows(samples)

    assert next(f for f in job.findings if f.code == "prompts_left_out").evidence["names"] == "b"
    assert (job.n_pairs, job.speedup_gm) == (1, pytest.approx(a.speedup_gm))


def test_a_prompt_that_failed_once_is_kept_beside_those_that_always_fail():
    samples = [
        replace(s, status=Status.FAILED)
        if s.mode is Mode.SPECULATIVE and (s.prompt_id in "ab" or (s.prompt_id, s.iteration) == ("e", 1))
        else s
        for s in sweep(iterations=8, prompts=tuple("abcde"), speed=_noisy)
    ]

    job = _rows(samples)[-1]

    assert next(f for f in job.findings if f.code == "prompts_left_out").evidence["names"] == "a, b"
    assert job.n_pairs == 7


@pytest.mark.parametrize("place", [0, -1])
def test_a_prompt_whose_only_run_failed_is_left_out_whatever_the_first_row_is(place):
    first, *others = sweep(iterations=1, prompts=("a", "b"), speed=_noisy)
    others.insert(0, others.pop(place))
    samples = [replace(first, status=Status.FAILED), *others]
    job = _rows(samples if place == 0 else [*others, samples[0]])[-1]

    assert (job.n_pairs, job.worst_prompt) == (1, None)
    assert "prompts_left_out" in {f.code for f in job.findings}


def test_no_figure_comes_of_no_whole_pass():
    samples = sweep(iterations=2, prompts=("a", "b"), speed=_noisy)
    halves = [s for s in samples if s.mode is Mode.VANILLA or (s.iteration == 0) is (s.prompt_id == "a")]
    a, b, job = _rows(halves)

    assert (a.n_pairs, b.n_pairs, job.n_pairs) == (1, 1, 0)
    assert (job.speedup_gm, job.ci_low, job.speedup, job.ci_method, job.suite_speedup) == (None,) * 5


def test_one_prompt_with_a_ratio_is_no_population():
    a, _, job = _rows(_failed_on(sweep(prompts=("a", "b"), speed=_noisy), "b"))

    assert (job.population_low, job.population_high, job.worst_prompt) == (None,) * 3
    assert (job.speedup_gm, job.ci_low) == (a.speedup_gm, a.ci_low)


def test_incomplete_passes_are_counted_where_there_are_pairs_only():
    samples = sweep(iterations=4, prompts=("a", "b"), speed=_noisy)
    lost = next(s for s in samples if s.mode is Mode.SPECULATIVE and s.iteration == 2 and s.prompt_id == "b")
    apart = [replace(s, iteration=s.iteration + 9) if s.mode is Mode.VANILLA else s for s in samples if s is not lost]

    finding = next(
        f for f in _rows([s for s in samples if s is not lost])[-1].findings if f.code == "incomplete_passes"
    )

    assert (finding.subject, finding.evidence) == ("pairs", {"passes": 1, "of": 4})
    assert "incomplete_passes" not in {f.code for f in _rows(apart)[-1].findings}
    assert "incomplete_passes" not in {f.code for f in _rows(samples)[-1].findings}


def test_unpaired_passes_over_a_prompt_set_are_the_whole_ones_of_each_mode():
    samples = sweep(iterations=4, prompts=("a", "b"), speed=lambda n, p, i: (60.0 if n else 30.0) + i)
    apart = [replace(s, iteration=s.iteration + 9) if s.mode is Mode.VANILLA else s for s in samples]
    lost = next(s for s in apart if s.mode is Mode.VANILLA and s.prompt_id == "b" and s.tokens_per_second == 31.0)

    job = _rows([s for s in apart if s is not lost])[-1]

    assert job.vanilla.tokens_per_second.samples == pytest.approx((30.0, 2 / (1 / 31 + 1 / 32), 2 / (1 / 32 + 1 / 33)))
    assert job.speculative.tokens_per_second.samples == pytest.approx((60.0, 61.0, 62.0, 63.0))
    assert (job.n_pairs, job.suite_speedup) == (0, None)


def test_acceptance_over_a_prompt_set_counts_each_prompt_once():
    samples = [
        replace(s, accepted_tokens=50 if s.prompt_id == "a" else 150) if s.mode is Mode.SPECULATIVE else s
        for s in sweep(prompts=("a", "b"), speed=_noisy)
    ]

    a, b, job = _rows(samples)

    assert [row.acceptance.rate for row in (a, b, job)] == [0.25, 0.75, 0.5]
    assert job.acceptance.interval_unit == "95 % over prompts"
    assert [row.acceptance.tokens_per_round for row in (a, b, job)] == [3.0, 7.0, 5.0]


def test_tokens_a_round_count_rounds_without_a_draft_also_in_files_of_older_versions():
    counts = {"draft_tokens": 11, "accepted_tokens": 11, "predicted_tokens": 64}
    new, old, uncounted = (
        [replace(s, **counts, **rounds) if s.mode is Mode.SPECULATIVE else s for s in sweep([4])]
        for rounds in (
            {"rounds": 52, "drafting_rounds": 9},
            {"rounds": 9, "drafting_rounds": None},
            {"rounds": None, "drafting_rounds": None},
        )
    )

    assert [_rows(samples)[-1].acceptance.tokens_per_round for samples in (new, old, uncounted)] == [63 / 52] * 3
    assert [_rows(samples)[-1].acceptance.alpha for samples in (new, old, uncounted)] == [None] * 3


def test_counts_are_a_mean_over_repeats_and_unknown_where_one_run_lacks_them():
    samples = [
        replace(s, accepted_tokens=40 + 20 * s.iteration, accepted_per_position=(10 + s.iteration, 4))
        if s.mode is Mode.SPECULATIVE
        else s
        for s in sweep(iterations=3)
    ]
    partly = [replace(s, accepted_per_position=None) if s.iteration == 1 else s for s in samples]
    unknown = [replace(s, accepted_tokens=None) if s.iteration == 1 else s for s in samples]

    assert _rows(samples)[-1].acceptance.rate == pytest.approx(60 / 200)
    assert _rows(samples)[-1].acceptance.per_position == pytest.approx((11 / 25, 4 / 25))
    assert _rows(partly)[-1].acceptance.per_position is None
    assert _rows(unknown)[-1].acceptance is None


def test_a_job_whose_runs_say_no_positions_leaves_those_of_others():
    samples = [
        replace(s, accepted_per_position=(10,) * s.n_draft if s.n_draft == 2 else None)
        for s in sweep([2, 4], speed=_noisy)
    ]

    two, four = (row for row in _rows(samples) if row.prompt_id is None)

    assert two.acceptance.per_position == (0.4, 0.4)
    assert four.acceptance.per_position is None


# ---------------------------------------------------------------- runs' own figures


def test_energy_is_joules_over_the_tokens_of_all_counted_runs():
    samples = [
        replace(s, energy_j=100.0 * (1 + s.iteration), predicted_tokens=50 + 50 * s.iteration)
        for s in sweep(iterations=2)
    ]

    job = _rows(samples)[-1]

    assert (job.energy_j_per_token_vanilla, job.energy_j_per_token_speculative) == (2.0, 2.0)
    partly = [replace(s, energy_j=None) if s.mode is Mode.VANILLA and s.iteration == 1 else s for s in samples]
    assert _rows(partly)[-1].energy_j_per_token_vanilla is None
    assert _rows(partly)[-1].energy_j_per_token_speculative == 2.0


def test_a_job_is_finished_when_the_last_of_either_mode_ended():
    samples = sweep(iterations=2)
    for mode in Mode:
        late = next(s for s in samples if s.mode is mode)
        moved = replace(late, started_at=late.started_at + timedelta(hours=1))
        expected = moved.started_at + timedelta(microseconds=int(moved.total_time_ms * 1000))
        assert _rows([moved if s is late else s for s in samples])[-1].finished_at == expected
    unknown = [replace(s, started_at=None) for s in samples]
    assert _rows(unknown)[-1].finished_at is None


@pytest.mark.parametrize(
    "changes",
    [
        *[{"tokens_per_second": x} for x in (None, 0.0, -1.0, float("inf"))],
        *[{"time_to_first_token_ms": x} for x in (None, -1.0, float("inf"))],
        *[{"total_time_ms": x} for x in (None, 0.0, float("inf"))],
        {"status": Status.INVALID},
    ],
    ids=str,
)
def test_a_run_with_a_figure_that_can_not_be_is_invalid(changes):
    samples = sweep(iterations=3, speed=_noisy)
    odd = next(s for s in samples if s.mode is Mode.SPECULATIVE and s.iteration == 1)

    job = _rows([replace(s, **changes) if s is odd else s for s in samples])[-1]

    assert job.n_pairs == 2
    assert "invalid_runs" in {f.code for f in job.findings}


def test_a_first_token_in_no_time_is_sound():
    assert _rows([replace(s, time_to_first_token_ms=0.0) for s in sweep(iterations=3)])[-1].n_pairs == 3


def test_where_tokens_were_not_counted_a_run_produced_what_it_was_asked_for():
    gain = {"a": 2.0, "b": 4.0}
    samples = sweep(iterations=2, prompts=("a", "b"), speed=lambda n, p, i: 30.0 * (gain[p] if n else 1))
    counts = {"a": 201, "b": 101}
    counted = [replace(s, predicted_tokens=counts[s.prompt_id]) for s in samples]
    asked = [replace(s, predicted_tokens=None, n_predict=counts[s.prompt_id]) for s in samples]
    unknown = [replace(s, predicted_tokens=1, n_predict=counts[s.prompt_id]) for s in samples]

    expected = (200 + 100) / (200 / 2 + 100 / 4)
    for known in (counted, asked, unknown):
        assert _rows(known)[-1].suite_speedup == pytest.approx(expected)
        assert _rows(known)[-1].speculative.tokens_per_second.samples == pytest.approx((30 * expected,) * 2)


def test_without_times_runs_are_in_their_recorded_order_and_without_that_in_passes():
    drifting = sweep(iterations=12, speed=lambda n, p, i: _noisy(n, p, i) * (1 - 0.005 * i))

    for samples in (drifting, [replace(s, started_at=None) for s in drifting]):
        assert "drift" in {f.code for f in _rows(samples)[-1].findings}
    table = samples_to_table(drifting).drop_columns(["started_at", "order"])
    assert "drift" in {f.code for f in compare_jobs(table)[-1].findings}
    backwards = [replace(s, order=1000 - s.order, started_at=None) for s in drifting]
    (before, after) = (
        next(f for f in _rows(samples)[-1].findings if f.code == "drift").evidence["drift"]
        for samples in (drifting, backwards)
    )
    assert before < 0 < after


def test_warm_ups_and_their_failures_are_no_runs_of_the_job():
    warm = [sample(warmup=True, status=Status.FAILED, tokens_per_second=None, order=-1)]

    assert "failed_runs" not in {f.code for f in _rows([*sweep(speed=_noisy), *warm])[-1].findings}


# ---------------------------------------------------------------- designs


@pytest.mark.parametrize("swapped", [False, True])
def test_two_runs_of_each_mode_in_blocks_are_no_pairs(swapped):
    samples = [
        replace(s, order=-s.order if swapped else s.order) for s in sweep(iterations=2, order="block", speed=_noisy)
    ]
    samples = [replace(s, started_at=None) for s in samples]

    assert _rows(samples)[-1].ci_method == "Welch t on logs, assumes no drift between blocks"


def test_runs_that_overlap_in_time_are_pairs():
    table = speeds_table([[30.0, 30.1, 30.2]], [[60.0, 60.3, 60.5]], design="block")
    order = table["order"].to_pylist()
    order[2], order[3] = order[3], order[2]
    overlapping = table.set_column(table.column_names.index("order"), "order", [order])

    job = compare_jobs(overlapping)[-1]

    assert job.ci_method == "paired log-ratio t, conditional on this launch"
    assert "not_paired" not in {f.code for f in job.findings}


def test_in_blocks_the_findings_are_of_no_pairs():
    vanilla, speculative = [30.0 * wobble(i) for i in range(8)], [60.0 * wobble(i) for i in range(8)]
    speculative[3] *= 0.8

    of = {
        design: [
            (f.code, f.subject)
            for f in compare_jobs(speeds_table([vanilla], [speculative], design=design))[-1].findings
        ]
        for design in ("abba", "block")
    }

    assert ("outlier", "pairs") in of["abba"]
    assert [subject for code, subject in of["block"] if code == "outlier"] == ["speculative"]
    assert ("not_paired", "pairs") in of["block"]


def test_an_adaptive_jobs_several_launches_keep_the_97_per_cent():
    vanilla, speculative = [30.0] * 6, [60.0, 60.2, 61.0, 61.3, 59.0, 59.5]
    table = speeds_table([vanilla], [speculative], launches=[0, 0, 1, 1, 2, 2])

    plain, adaptive = (compare_jobs(table, jobs={"j8": record(adaptive_target=t)})[-1] for t in (None, 0.01))

    assert adaptive.ci_method == plain.ci_method == "paired log-ratio t over launch means"
    assert adaptive.ci_low < plain.ci_low < plain.ci_high < adaptive.ci_high


def test_jobs_of_one_baseline_share_its_figures():
    one, other = (row for row in _rows(sweep([4, 8], speed=_noisy)) if row.prompt_id is None)

    assert one.vanilla is other.vanilla
    assert one.speculative is not other.speculative


# ---------------------------------------------------------------- nothing drafted


@pytest.mark.parametrize(("drafted", "known"), [(0, False), (1, True), (8, True), (None, None)])
def test_a_job_says_whether_anything_was_drafted(drafted, known):
    samples = [s if s.mode is Mode.VANILLA else replace(s, draft_tokens=drafted, accepted_tokens=0)
               for s in sweep(prompts=("a", "b"), iterations=3)]  # fmt: skip

    rows = _rows(samples)

    assert [row.drafted for row in rows] == [known] * 3


def test_a_ratio_of_runs_that_drafted_nothing_is_no_gain():
    """The speculative runs here are far faster, as a machine that got quieter makes them."""
    samples = [s if s.mode is Mode.VANILLA else replace(s, draft_tokens=0, accepted_tokens=0, speculation="ngram-mod")
               for s in sweep(iterations=5)]  # fmt: skip

    job = _rows(samples)[-1]

    assert job.ci_low > 1
    assert job.verdict is Verdict.NO_RELIABLE_GAIN
    assert [f.subject for f in job.findings if f.code == "nothing_drafted"] == ["ngram-mod"]


@pytest.mark.parametrize(("tokens", "told"), [(2, "short"), (3, "draft")])
def test_two_tokens_leave_none_to_draft_which_is_said(tokens, told):
    samples = [s if s.mode is Mode.VANILLA else replace(s, draft_tokens=0, accepted_tokens=0, rounds=1)
               for s in sweep(iterations=5)]  # fmt: skip
    samples = [replace(s, n_predict=tokens, predicted_tokens=tokens) for s in samples]

    (found,) = [f for f in _rows(samples)[-1].findings if f.code == "nothing_drafted"]

    assert found.subject == told
    assert ("Set n_predict=100" in explain(found).remedy) is (told == "short")


def test_one_prompt_that_drafted_is_enough_for_the_whole():
    samples = [s if s.mode is Mode.VANILLA or s.prompt_id == "a" else replace(s, draft_tokens=0, accepted_tokens=0)
               for s in sweep(prompts=("a", "b"), iterations=3)]  # fmt: skip

    assert [(row.prompt_id, row.drafted) for row in _rows(samples)] == [("a", True), ("b", False), (None, True)]


def test_a_comparison_has_the_mean_speed_of_each_mode_that_ran():
    samples = sweep(iterations=2)
    speeds = [
        (job.vanilla_speed, job.speculative_speed)
        for job in (
            _rows([s for s in samples if s.mode in modes])[-1] for modes in (Mode, [Mode.VANILLA], [Mode.SPECULATIVE])
        )
    ]

    assert speeds == [(30.0, 60.0), (30.0, None), (None, 60.0)]
