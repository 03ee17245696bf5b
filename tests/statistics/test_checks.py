"""Each finding is raised by what it is about, and a quiet series raises none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.strategies import sweep, wobble
from velosweep.results.samples_file import samples_to_table
from velosweep.statistics import checks
from velosweep.statistics.intervals import t_interval
from velosweep.statistics.summarise import compare_jobs
from velosweep.statistics.trend import drift, kendall_p
from velosweep.values import Mode

NAN = float("nan")


def _quiet(n=12, seed=3, cv=0.005):
    return 30 * np.exp(np.random.default_rng(seed).normal(0, cv, n))


def _codes(findings):
    return [finding.code for finding in findings]


def _series(x, **options):
    return checks.series_findings(np.asarray(x, dtype=float), np.arange(len(x), dtype=float), "vanilla", **options)


def _conditions(**changes):
    nothing = np.full(6, NAN)
    values = {"cpu_busy": nothing, "load": nothing, "temperature_c": nothing, "clock_mhz": nothing}
    values |= {"gpu_processes": nothing, "logical_cores": None, "throttle": None}
    return checks.condition_findings(**(values | changes))


def test_a_quiet_series_has_no_findings():
    assert _series(_quiet()) == []


def test_an_outlier_is_named_with_its_run_and_kept():
    x = _quiet()
    x[7] *= 0.7

    (finding,) = _series(x)

    assert (finding.code, finding.evidence["worst_run"]) == ("outlier", 8)
    assert finding.evidence["value"] == pytest.approx(x[7])


def test_the_worked_outlier_case_is_flagged():
    (finding,) = _series([45.1, 45.0, 38.2, 44.9, 45.05, 44.98])

    assert (finding.code, finding.evidence["worst_run"]) == ("outlier", 3)


def test_a_slow_first_run_is_a_cold_start_not_an_outlier():
    x = _quiet()
    x[0] *= 0.8

    assert _codes(_series(x)) == ["cold_start"]


def test_each_launch_may_start_cold():
    x = _quiet()
    x[6] *= 0.8

    assert "cold_start" in _codes(_series(x, launch=np.repeat([0, 1], 6)))


def test_a_drift_is_told_with_its_size():
    (finding,) = _series(_quiet() * np.linspace(1, 0.95, 12))

    assert finding.code == "drift"
    assert finding.evidence["drift"] == pytest.approx(-0.05, abs=0.01)


def test_a_long_drift_is_found_too():
    findings = _series(_quiet(1000, cv=0.01) * np.linspace(1, 0.97, 1000))

    assert "drift" in _codes(findings)


def test_runs_exactly_alike_are_suspicious():
    assert _codes(_series([30.0] * 4)) == ["zero_variance"]


def test_two_pairs_are_too_few():
    d = np.array([0.1, 0.11])

    assert "too_few_pairs" in _codes(checks.pair_findings(d, t_interval(d.tolist())))


def test_a_rhythm_in_the_pairs_is_autocorrelation():
    d = 0.5 + 0.01 * np.sin(np.arange(24) / 3)

    findings = checks.pair_findings(d, t_interval(d.tolist()))

    assert "autocorrelation" in _codes(findings)


def test_an_interval_too_wide_for_its_claim_is_said():
    d = np.array([0.0, 0.3, -0.1, 0.2])

    assert "wide_interval" in _codes(checks.width_findings(t_interval(d.tolist())))


def test_a_robust_location_outside_the_interval_is_said():
    d = np.array([0.5 + 0.0001 * i for i in range(40)])
    interval = t_interval((d + 0.01).tolist())

    assert "hodges_lehmann_disagrees" in _codes(checks.pair_findings(d, interval))


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
    (finding,) = checks.divergence_findings(
        diverged=1, runs=5, first=17, sampled=False, device=device, main_model=model
    )

    assert (finding.code, finding.severity, finding.evidence["first_token"]) == ("output_diverged", severity, 17)


def test_sampled_output_cannot_be_compared():
    (finding,) = checks.divergence_findings(diverged=5, runs=5, first=0, sampled=True, device="cpu", main_model="m")

    assert (finding.code, finding.severity) == ("not_applicable_sampled", "info")


@pytest.mark.parametrize(
    ("name", "quantised"),
    [
        ("/a/Llama-3.1-8B-Instruct-Q4_K_M.gguf", True),
        ("C:\\m\\x.q8_0.gguf", True),
        ("gpt-oss-20b-mxfp4.gguf", True),
        ("IQ2_XXS.gguf", True),
        ("/q4/model-f16.gguf", False),
        ("qwen2.5-7b-bf16.gguf", False),
    ],
)
def test_a_file_name_says_whether_weights_are_quantised(name, quantised):
    assert checks.is_quantised(name) is quantised


def test_acceptance_that_jumps_to_all_is_an_error():
    (finding,) = checks.acceptance_findings(0.45, [1.0, 1.0])

    assert (finding.code, finding.severity) == ("acceptance_jump", "error")


def test_acceptance_that_jumps_a_little_is_nothing():
    assert checks.acceptance_findings(0.45, [0.5, 0.52]) == []


def test_others_on_the_cores_make_a_busy_machine():
    assert _codes(_conditions(cpu_busy=np.array([0.02, 0.4, NAN, 0.01, 0.0, 0.0]))) == ["machine_busy"]


def test_a_load_above_the_cores_makes_a_busy_machine_where_nothing_better_is_known():
    load = np.array([1.0, 3.5, 1, 1, 1, 1])

    assert _codes(_conditions(load=load, logical_cores=2)) == ["machine_busy"]
    assert _conditions(load=load) == []


def test_throttle_reasons_and_falling_clocks_are_throttling():
    assert _codes(_conditions(throttle="hw_thermal_slowdown")) == ["throttled"]
    assert _codes(_conditions(clock_mhz=np.array([1980.0, 1980, 1975, 1700, 1650, 1600]))) == ["throttled"]


def test_a_gpu_that_heats_up_is_said():
    assert _codes(_conditions(temperature_c=np.array([40.0, 45, 50, 55, 60, 62]))) == ["heat"]


def test_other_processes_on_the_gpu_are_said():
    assert _codes(_conditions(gpu_processes=np.array([0.0, 0, 2, 0, 0, 0]))) == ["other_gpu_processes"]


def test_kendalls_p_is_exact():
    # All 120 orders of five: one rises throughout, one falls throughout.
    assert kendall_p(5, 10) == pytest.approx(2 / 120)
    assert kendall_p(5, 0) == 1
    assert kendall_p(4, -6) == pytest.approx(2 / 24)


def test_a_drift_ignores_one_wild_value():
    x = np.zeros(11)
    x[5] = 9.0

    change, p = drift(np.arange(11.0), x)

    assert change == 0
    assert p > 0.5


def _findings(samples):
    return {f.code: f for f in compare_jobs(samples_to_table(samples))[-1].findings}


def test_findings_reach_the_comparison_from_the_columns():
    samples = sweep(iterations=6, speed=lambda n, p, i: 30 * (1 + n / 8) * wobble(i + n))
    loaded = [
        replace(
            s,
            cpu_busy=0.5,
            throttle_reasons="hw_thermal_slowdown",
            gpu_processes=1,
            gpu_temperature_c=50.0 + s.order * 2,
            accepted_tokens=None if s.n_draft == 0 else (60 if s.iteration == 0 else 200),
            first_divergence=12 if s.mode is Mode.SPECULATIVE and s.iteration == 3 else None,
        )
        for s in samples
    ]

    findings = _findings(loaded)

    assert {"machine_busy", "throttled", "other_gpu_processes", "heat"} <= set(findings)
    assert findings["acceptance_jump"].severity == "error"
    assert findings["output_diverged"].evidence == {"runs": 1, "of": 6, "first_token": 12}


def test_outputs_with_other_hashes_diverged():
    samples = sweep(speed=lambda n, p, i: 30 * (1 + n / 8) * wobble(i + n))
    changed = [replace(s, output_sha256="bb") if s.mode is Mode.SPECULATIVE else s for s in samples]

    assert _findings(changed)["output_diverged"].severity == "error"


def test_sampled_decoding_says_that_equality_does_not_apply():
    assert "not_applicable_sampled" in _findings([replace(s, temperature=0.8) for s in sweep()])
