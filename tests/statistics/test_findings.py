"""Findings beside those of the series: each is raised by what it is about, at its threshold, with its figures."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.strategies import samples_to_table, speeds_table, sweep, wobble
from velosweep.reporting.finding_text import explain
from velosweep.statistics.comparison import warning
from velosweep.statistics.findings import (
    acceptance_findings,
    confirmed_findings,
    interval_findings,
    is_cpu,
    is_quantised,
)
from velosweep.statistics.intervals import (
    MODERATED_ONE_LAUNCH,
    PAIRED_LAUNCHES,
    PAIRED_ONE_LAUNCH,
    WELCH,
    Interval,
    sequential,
)
from velosweep.statistics.summarise import compare_jobs
from velosweep.values import Mode, Status


def _interval(low, high, ratio=None, method=PAIRED_LAUNCHES):
    ratio = math.sqrt(low * high) if ratio is None else ratio
    return Interval(ratio=ratio, low=low, high=high, method=method, n=5, df=4, standard_error=0.1)


def _of_interval(interval, target=None):
    found = interval_findings(interval, adaptive_target=target, not_paired="repeats")
    return [(f.code, f.severity, f.subject, f.evidence) for f in found]


def _around(ratio, half_width):
    half = math.asinh(half_width)
    return _interval(ratio * math.exp(-half), ratio * math.exp(half), ratio)


def test_an_interval_wider_than_five_per_cent_is_wide():
    assert _of_interval(_around(1.07, 0.0499)) == []
    assert _of_interval(_around(1.07, 0.0501)) == [
        ("wide_interval", "warning", "pairs", {"half_width": pytest.approx(0.0501), "ratio": 1.07})
    ]


def test_an_interval_that_leaves_most_of_the_gain_is_not_too_wide_to_tell_it():
    assert _of_interval(_around(2.36, 0.064)) == []
    assert _of_interval(_around(1.5, 0.16)) == []
    assert _of_interval(_around(1.5, 0.17)) != []
    assert _of_interval(_around(0.57, 0.45)) != []


@pytest.mark.parametrize(
    ("low", "high", "ratio", "wide"),
    [
        (0.99, 1.06, 1.0201, True),
        (0.99, 1.06, 1.0199, False),
        (0.95, 1.01, 0.9799, True),
        (0.95, 1.01, 0.9801, False),
        (1.0, 1.06, 1.03, True),
        (1.0001, 1.06, 1.03, False),
        (0.94, 1.0, 0.97, True),
        (0.94, 0.9999, 0.97, False),
    ],
)
def test_an_interval_that_holds_1_is_too_wide_for_a_ratio_that_claims_a_gain(low, high, ratio, wide):
    assert bool(_of_interval(_interval(low, high, ratio))) == wide


def test_an_interval_above_the_target_did_not_converge():
    assert _of_interval(_around(1.5, 0.0099), target=0.01) == []
    assert _of_interval(_interval(1.5, 1.5), target=0.0) == []
    assert _of_interval(_around(1.5, 0.0101), target=0.01) == [
        ("not_converged", "warning", "pairs", {"half_width": pytest.approx(0.0101), "target": 0.01})
    ]


def test_an_interval_says_what_it_is_conditional_on():
    assert _of_interval(_interval(1.5, 1.51, method=WELCH)) == [("not_paired", "warning", "repeats", {})]
    for method in (PAIRED_ONE_LAUNCH, sequential(0.97), MODERATED_ONE_LAUNCH):
        assert _of_interval(_interval(1.5, 1.51, method=method)) == [("conditional_on_launch", "info", "pairs", {})]


@pytest.mark.parametrize(("pairs", "few"), [(2, True), (3, False), (4, False)])
def test_fewer_than_three_fresh_pairs_are_too_few_whatever_was_said_of_all_pairs(pairs, few):
    found = [warning("too_few_pairs", "pairs", {"pairs": 1}), warning("heat", "gpu", {})]

    told = confirmed_findings(found, ratio=1.5, low=None, high=None, pairs=pairs)

    own = [("too_few_pairs", "pairs", {"pairs": pairs})] if few else []
    assert [(one.code, one.subject, one.evidence) for one in told] == [("heat", "gpu", {}), *own]


@pytest.mark.parametrize(("low", "high", "wide"), [(0.99, 1.06, True), (1.025, 1.035, False), (None, None, False)])
def test_the_interval_of_fresh_pairs_is_judged_in_place_of_that_of_all_pairs(low, high, wide):
    found = [warning("wide_interval", "pairs", {"half_width": 0.3, "ratio": 1.2})]

    told = confirmed_findings(found, ratio=1.03, low=low, high=high, pairs=5)

    half = pytest.approx(math.sinh(math.log(1.06 / 0.99) / 2))
    expected = [("wide_interval", {"half_width": half, "ratio": 1.03})] if wide else []
    assert [(one.code, one.evidence) for one in told] == expected


def test_a_finding_in_words_has_its_figures():
    assert str(warning("outlier", "vanilla", {"z": 12.51234, "runs": 5})) == "outlier(vanilla: z=12.51, runs=5)"
    assert str(warning("few", "pairs", {})) == "few(pairs)"


# ---------------------------------------------------------------- acceptance


def test_two_passes_are_enough_for_a_jump_of_acceptance_and_one_is_not():
    (found,) = acceptance_findings(np.array([[100, 100]]), np.array([[45, 80]]))

    assert [(one.code, one.severity) for one in found] == [("acceptance_jump", "warning")]
    assert acceptance_findings(np.array([[100]]), np.array([[45]])) == [[]]


def test_acceptance_that_jumps_to_all_is_an_error():
    (finding,), none = acceptance_findings(
        np.array([[100, 100, 100], [100, 100, 100]]), np.array([[45, 99, 99], [45] * 3])
    )

    assert (finding.code, finding.severity, finding.subject) == ("acceptance_jump", "error", "speculative")
    assert finding.evidence == {"first_acceptance": 0.45, "later_acceptance": 0.99}
    assert none == []


@pytest.mark.parametrize(
    ("later", "severity"), [([60, 60], None), ([60, 60.2], "warning"), ([99, 98], "warning"), ([20, 20], None)]
)
def test_acceptance_that_jumps_by_more_than_15_points_is_said(later, severity):
    found = acceptance_findings(np.array([[100, 100, 100]]), np.array([[45, *later]]))[0]

    assert [finding.severity for finding in found] == ([severity] if severity else [])


@pytest.mark.parametrize(("later", "jumps"), [(15, False), (15.1, True)])
def test_a_jump_of_acceptance_by_15_points_exactly_is_none(later, jumps):
    assert bool(acceptance_findings(np.array([[100, 100, 100]]), np.array([[0, later, later]]))[0]) == jumps


@pytest.mark.filterwarnings("error")
def test_acceptance_of_one_pass_jumps_nowhere():
    assert acceptance_findings(np.array([[100]]), np.array([[45]])) == [[]]


def test_acceptance_that_is_not_known_jumps_nowhere():
    nan = float("nan")

    assert acceptance_findings(np.array([[nan, nan], [0.0, 0.0]]), np.array([[nan, 1.0], [0.0, 0.0]])) == [[], []]


def test_over_a_prompt_set_acceptance_is_of_all_prompts_together():
    samples = [
        replace(s, accepted_tokens=(20 if s.prompt_id == "a" else 100) if s.iteration == 0 else 150)
        if s.mode is Mode.SPECULATIVE
        else s
        for s in sweep(iterations=3, prompts=("a", "b"), speed=_noisy)
    ]

    finding = _findings(samples)["acceptance_jump"]

    assert finding.evidence == {"first_acceptance": pytest.approx(120 / 400), "later_acceptance": pytest.approx(0.75)}


# ---------------------------------------------------------------- outputs


def _noisy(n, p, i):
    return 30 * (1 + n / 8) * wobble(i + n)


def _findings(samples, **options):
    return {f.code: f for f in compare_jobs(samples_to_table(samples), **options)[-1].findings}


def _changed(samples, at=(), **changes):
    """The samples with other values in the speculative runs of some iterations (all, where none is named)."""
    return [
        replace(s, **changes) if s.mode is Mode.SPECULATIVE and (not at or s.iteration in at) else s for s in samples
    ]


@pytest.mark.parametrize(
    ("device", "model", "severity"),
    [
        ("AMD EPYC 9R14 96-Core Processor", "/m/llama-f16.gguf", "error"),
        ("AMD EPYC 9R14 96-Core Processor", "/m/llama-Q4_K_M.gguf", "warning"),
        ("NVIDIA H100 80GB HBM3", "/m/llama-f16.gguf", "warning"),
        ("NVIDIA RTX A6000 + NVIDIA RTX A6000", "/m/llama-iq3_xs.gguf", "warning"),
    ],
)
def test_other_output_is_a_fault_only_where_rounding_cannot_explain_it(device, model, severity):
    samples = [replace(s, device=device, main_model=model) for s in sweep(speed=_noisy)]

    finding = _findings(_changed(samples, at=(2, 3), output_sha256="bb"))["output_diverged"]

    assert (finding.severity, finding.subject, finding.evidence) == (severity, "speculative", {"runs": 2, "of": 5})


@pytest.mark.parametrize(("on_gpu", "severity"), [(33, "warning"), (1, "warning"), (0, "error"), (None, "error")])
def test_a_gpu_named_after_its_processor_is_known_by_the_layers_on_it(on_gpu, severity):
    named = {"device": "AMD Ryzen 7 8840U w/ Radeon 780M Graphics", "main_model": "/m/llama-f16.gguf"}
    samples = [replace(s, **named, layers_on_gpu=on_gpu, layers=33) for s in sweep(speed=_noisy)]

    assert _findings(_changed(samples, at=(2, 3), output_sha256="bb"))["output_diverged"].severity == severity


@pytest.mark.parametrize("hashed", ["00", "bb"])
def test_other_output_is_told_wherever_its_hash_stands_in_the_alphabet(hashed):
    samples = _changed(sweep(speed=_noisy), at=(2,), output_sha256=hashed)

    assert _findings(samples)["output_diverged"].evidence == {"runs": 1, "of": 5}


def test_the_output_of_a_single_run_is_compared():
    samples = [replace(s, device="AMD EPYC", main_model="/m/llama-f16.gguf") for s in sweep(iterations=1)]

    finding = _findings(_changed(samples, output_sha256="bb"))["output_diverged"]

    assert (finding.severity, finding.evidence) == ("error", {"runs": 1, "of": 1})


def test_the_first_token_that_differs_is_the_earliest_of_all_runs():
    samples = _changed(_changed(sweep(speed=_noisy), at=(1,), first_divergence=17), at=(3,), first_divergence=12)

    assert _findings(samples)["output_diverged"].evidence == {"runs": 2, "of": 5, "first_token": 12}


def test_outputs_that_were_not_recorded_are_not_compared():
    assert "output_diverged" not in _findings(_changed(sweep(speed=_noisy), output_sha256=None))
    assert "output_diverged" not in _findings([replace(s, output_sha256=None) for s in sweep(speed=_noisy)])
    vanilla = [replace(s, output_sha256=None) if s.mode is Mode.VANILLA else s for s in sweep(speed=_noisy)]
    assert "output_diverged" not in _findings(vanilla)


def test_without_pairs_outputs_are_not_compared_but_a_recorded_divergence_counts():
    apart = [replace(s, iteration=s.iteration + 100) if s.mode is Mode.VANILLA else s for s in sweep(speed=_noisy)]

    assert "output_diverged" not in _findings(_changed(apart, output_sha256="bb"))
    assert _findings(_changed(apart, at=(1,), first_divergence=3))["output_diverged"].evidence["first_token"] == 3


def test_sampled_decoding_says_that_equality_does_not_apply():
    samples = [replace(s, temperature=0.8, output_sha256=str(i)) for i, s in enumerate(sweep())]

    found = _findings(samples)

    assert (found["not_applicable_sampled"].severity, found["not_applicable_sampled"].subject) == ("info", "output")
    assert "output_diverged" not in found


@pytest.mark.parametrize(
    ("name", "quantised"),
    [
        ("/a/Llama-3.1-8B-Instruct-Q4_K_M.gguf", True),
        ("C:\\m\\x.q8_0.gguf", True),
        ("gpt-oss-20b-mxfp4.gguf", True),
        ("x-nvfp4.gguf", True),
        ("x-TQ1_0.gguf", True),
        ("IQ2_XXS.gguf", True),
        ("/q4/model-f16.gguf", False),
        ("C:\\q4\\model-f16.gguf", False),
        ("qwen2.5-7b-bf16.gguf", False),
    ],
)
def test_a_file_name_says_whether_weights_are_quantised(name, quantised):
    assert is_quantised(name) is quantised


@pytest.mark.parametrize(
    ("device", "cpu"),
    [
        *[(name, True) for name in ("CPU", "Intel(R) Xeon(R)", "AMD Ryzen 9", "ARM Neoverse-V2", "Cortex-A76")],
        *[(name, True) for name in ("Threadripper", "Intel(R) Core(TM) i7", "AMD EPYC", "Some Processor", "a 96-Core")],
        *[(name, False) for name in ("NVIDIA H100 80GB HBM3", "Apple M3 Max", "Tensor Core GPU", "")],
    ],
)
def test_a_device_name_says_whether_it_is_a_processor(device, cpu):
    assert is_cpu(device) is cpu


# ---------------------------------------------------------------- runs that are not averaged


def test_failed_and_invalid_runs_are_counted_of_all_attempts():
    samples = _changed(sweep(iterations=6, speed=_noisy), at=(1, 2), status=Status.FAILED, tokens_per_second=None)
    samples = _changed(samples, at=(3,), status=Status.TIMEOUT, tokens_per_second=None)
    samples = _changed(samples, at=(4,), tokens_per_second=None)

    found = _findings(samples)

    assert (found["failed_runs"].severity, found["failed_runs"].subject) == ("warning", "runs")
    assert found["failed_runs"].evidence == {"runs": 3, "of": 12}
    assert found["invalid_runs"].evidence == {"runs": 1, "of": 12}


TOO_LONG = "2001 tokens of the prompt and 8 to generate need a context of 2010, and the server has 512"


@pytest.mark.parametrize(("errors", "subject"), [((TOO_LONG, TOO_LONG), "context"), ((TOO_LONG, "it died"), "runs")])
def test_a_prompt_that_can_never_fit_is_not_to_be_tried_again(errors, subject):
    samples = sweep(iterations=6, speed=_noisy)
    for iteration, error in enumerate(errors, start=1):
        samples = _changed(samples, at=(iteration,), status=Status.FAILED, tokens_per_second=None, error=error)

    finding = _findings(samples)["failed_runs"]

    assert finding.subject == subject
    assert ("velosweep resume" in explain(finding).remedy) == (subject == "runs")


@pytest.mark.parametrize("mode", Mode)
def test_a_mode_with_no_usable_run_is_an_error(mode):
    samples = [replace(s, tokens_per_second=None) if s.mode is mode else s for s in sweep(speed=_noisy)]

    assert _findings(samples)["invalid_runs"].severity == "error"


def test_an_unused_attempt_is_a_failed_run_of_its_prompt_alone():
    samples = sweep(iterations=3, prompts=("a", "b"), speed=_noisy)
    again = next(s for s in samples if s.mode is Mode.SPECULATIVE and s.prompt_id == "b")
    samples.append(replace(again, attempt=-1, status=Status.FAILED, tokens_per_second=None, order=99))

    a, b, whole = compare_jobs(samples_to_table(samples))

    assert "failed_runs" not in {f.code for f in a.findings}
    assert next(f for f in b.findings if f.code == "failed_runs").evidence == {"runs": 1, "of": 7}
    assert next(f for f in whole.findings if f.code == "failed_runs").evidence == {"runs": 1, "of": 13}


# ---------------------------------------------------------------- the machine


def _machine(**columns):
    """Findings of a job of six pairs whose runs have these figures in the order of time."""
    samples = sorted(sweep(iterations=6, speed=_noisy), key=lambda s: s.order)
    rows = [replace(s, **{name: values[i] for name, values in columns.items()}) for i, s in enumerate(samples)]
    return _findings(rows[::-1])


@pytest.mark.parametrize(("busiest", "busy"), [(0.1, False), (0.1005, True)])
def test_others_on_a_tenth_of_the_cores_make_a_busy_machine(busiest, busy):
    found = _machine(cpu_busy=[0.02, busiest, None, *[0.0] * 9]).get("machine_busy")

    assert bool(found) == busy
    if found:
        assert (found.severity, found.subject) == ("warning", "machine")
        assert found.evidence == {"busy_share": busiest, "mean_busy_share": pytest.approx((busiest + 0.02) / 11)}


def test_a_quota_that_stopped_the_processes_is_no_throttled_gpu():
    found = _machine(throttle_reasons=["CPU quota", None, "CPU quota, hw_slowdown", *[None] * 9])

    assert found["quota_throttled"].evidence == {"runs": 2, "of": 12}
    assert found["throttled"].evidence == {"reasons": "hw_slowdown"}
    assert "throttled" not in _machine(throttle_reasons=["CPU quota", *[None] * 11])


def test_throttle_reasons_are_named_once():
    found = _machine(throttle_reasons=["hw_slowdown", "", None, "hw_slowdown", "sw_power_cap", *[None] * 7])[
        "throttled"
    ]

    assert (found.subject, found.evidence) == ("gpu", {"reasons": "hw_slowdown, sw_power_cap"})
    assert "throttled" not in _machine(throttle_reasons=[""] * 12)
    assert _machine(throttle_reasons=["hw_slowdown", *[None] * 11])["throttled"].evidence == {"reasons": "hw_slowdown"}


def test_a_reason_to_throttle_of_another_job_is_not_this_one_s():
    samples = [replace(s, throttle_reasons="hw_slowdown" if s.n_draft == 8 else None) for s in sweep([4, 8])]
    told = {
        job.n_draft: [one.evidence for one in job.findings if one.code == "throttled"]
        for job in compare_jobs(samples_to_table(samples))
        if job.prompt_id is None
    }

    assert told == {4: [], 8: [{"reasons": "hw_slowdown"}]}


@pytest.mark.parametrize(("last", "throttled"), [(1900, False), (1899, True)])
def test_clocks_that_end_five_per_cent_lower_are_throttling(last, throttled):
    found = _machine(gpu_clock_mhz=[2000, 2000, 1990, 2010, *[None] * 4, 1500, 2100, last, last]).get("throttled")

    # Of eight readings the first and the last two are compared.
    assert bool(found) == throttled
    if found:
        assert (found.subject, found.evidence) == ("gpu", {"clock_mhz_before": 2000.0, "clock_mhz_after": last})


def test_two_clocks_are_too_few():
    assert "throttled" not in _machine(gpu_clock_mhz=[2000, *[None] * 10, 100])
    assert "throttled" in _machine(gpu_clock_mhz=[2000, 2000, *[None] * 9, 100])


@pytest.mark.parametrize(
    ("first", "hottest", "hot"), [(40, 55, False), (40, 55.1, True), (80, 84, False), (80, 85, True)]
)
def test_a_gpu_that_heats_up_or_is_hot_is_said(first, hottest, hot):
    found = _machine(gpu_temperature_c=[first, hottest, *[first + 1] * 10]).get("heat")

    assert bool(found) == hot
    if found:
        assert (found.subject, found.evidence) == ("gpu", {"first_c": first, "hottest_c": hottest})


def test_other_processes_on_the_gpu_are_counted():
    found = _machine(gpu_processes=[0, 1, 3, *[0] * 9])["other_gpu_processes"]

    assert (found.subject, found.evidence) == ("gpu", {"processes": 3, "runs": 2})
    assert "other_gpu_processes" not in _machine(gpu_processes=[0] * 12)


@pytest.mark.parametrize(("device", "there", "told"), [
    ("NVIDIA H100", 20, True), ("NVIDIA H100", 33, False), ("AMD EPYC 9354", 0, False), ("NVIDIA H100", None, False),
    ("AMD Ryzen 7 8840U w/ Radeon 780M Graphics", 20, True),
])  # fmt: skip
def test_layers_that_are_not_on_the_gpu_are_told_with_the_server_that_has_them(device, there, told):
    samples = [
        replace(
            s,
            device=device,
            layers=None if there is None else 33,
            layers_on_gpu=there if s.n_draft or not there else 33,
        )
        for s in sweep([4])
    ]
    job = next(row for row in compare_jobs(samples_to_table(samples)) if row.prompt_id is None)
    found = [one for one in job.findings if one.code == "layers_not_on_gpu"]

    assert [(one.subject, one.evidence) for one in found] == (
        [("speculative", {"on_gpu": 20, "layers": 33})] if told else []
    )


def test_of_servers_with_layers_elsewhere_the_one_with_the_smallest_share_on_the_gpu_is_told():
    samples = [
        replace(s, device="NVIDIA H100", layers_on_gpu=there, layers=layers)
        for s in sweep([4])
        for there, layers in [(20, 33) if s.n_draft else (10, 12)]
    ]

    finding = _findings(samples)["layers_not_on_gpu"]

    assert (finding.subject, finding.evidence) == ("speculative", {"on_gpu": 20, "layers": 33})


def test_where_nothing_was_read_nothing_is_said_of_the_machine():
    assert not {"machine_busy", "throttled", "heat", "other_gpu_processes"} & set(_machine())


def test_a_table_without_these_columns_has_no_such_findings():
    (_, job) = compare_jobs(speeds_table([[30.0, 30.1, 29.9]], [[60.0, 60.3, 59.9]]))

    assert {f.code for f in job.findings} == {"conditional_on_launch"}
