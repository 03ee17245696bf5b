"""The worked cases, computed with 50 digits by an independent program, and what must hold for any series."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from velosweep.statistics.intervals import (
    SampleError,
    describe,
    geometric_mean_interval,
    launch_interval,
    paired_interval,
    speedup,
    speedup_stddev,
    welch_interval,
)

WORKED = json.loads((Path(__file__).parent / "statistics_cases.json").read_text())
CASES = {case["id"]: case for case in WORKED["cases"]}
VALID = [name for name, case in CASES.items() if case["status"] != "error"]


def _floats(values):
    return [float(value) for value in values]


def _series(name):
    return _floats(CASES[name]["vanilla_samples"]), _floats(CASES[name]["spec_samples"])


def _close(value):
    return None if value is None else pytest.approx(value, rel=1e-9, abs=0)


@pytest.mark.parametrize("name", VALID)
@pytest.mark.parametrize("arm", ["vanilla", "spec"])
def test_moments_agree_with_the_worked_case(name, arm):
    expected = CASES[name]["expected"][arm]

    statistics = describe(_floats(CASES[name][f"{arm}_samples"]))

    if not expected["n"]:
        assert statistics is None
        return
    # The worked file asks for 1e-6 only where a huge mean cancels.
    rel = 1e-6 if name == "cancellation" else 1e-9
    assert _close(expected["mean"]) == statistics.mean
    assert (expected["min"], expected["max"]) == (statistics.min, statistics.max)
    if expected["stddev"] is None:
        assert statistics.stddev is None
    else:
        assert statistics.stddev == pytest.approx(expected["stddev"], rel=rel, abs=0)


@pytest.mark.parametrize("name", VALID)
def test_the_specifications_speedup_agrees_with_the_worked_case(name):
    vanilla, speculative = (describe(samples) for samples in _series(name))
    expected = CASES[name]["expected"]

    assert _close(expected["speedup"]) == speedup(vanilla, speculative)
    assert _close(expected["speedup_stddev"]) == speedup_stddev(vanilla, speculative)


@pytest.mark.parametrize("name", VALID)
@pytest.mark.parametrize(("key", "function"), [("paired_log_t", paired_interval), ("welch_log", welch_interval)])
def test_intervals_agree_with_the_worked_case(name, key, function):
    expected = CASES[name]["expected"][key]

    interval = function(*_series(name))

    if expected is None:
        assert interval is None
        return
    assert _close(expected["gm_ratio"]) == interval.ratio
    assert _close(expected["lower"]) == interval.low
    assert _close(expected["upper"]) == interval.high
    rel = 1e-6 if name == "cancellation" else 1e-9
    assert interval.df == pytest.approx(expected["df"], rel=rel)
    if "sd_log" in expected:
        assert interval.sd_log == pytest.approx(expected["sd_log"], rel=rel, abs=0)


@pytest.mark.parametrize(
    ("name", "where"), [("nan_sample", "vanilla[1] is nan"), ("negative_sample", "vanilla[1] is -1")]
)
@pytest.mark.parametrize("function", [paired_interval, welch_interval])
def test_a_sample_that_is_no_measurement_is_refused_by_arm_and_index(name, where, function):
    with pytest.raises(SampleError, match=where.replace("[", r"\[").replace("]", r"\]")):
        function(*_series(name))


def test_prompts_aggregate_by_geometric_mean_with_t_over_prompts():
    (case,) = WORKED["prompt_aggregate_cases"]

    interval = geometric_mean_interval(case["prompt_speedups"])

    assert _close(case["expected"]["geomean"]) == interval.ratio
    assert _close(case["expected"]["lower"]) == interval.low
    assert _close(case["expected"]["upper"]) == interval.high


def test_the_specifications_own_example_fits_n_minus_1():
    statistics = describe([28.45, 28.32, 28.51, 28.39, 28.47])

    assert statistics.stddev == pytest.approx(0.073, abs=0.002)


def test_with_several_launches_the_interval_is_over_launch_means():
    vanilla = [10.0, 10.0, 10.0, 10.0, 10.0, 10.0]
    speculative = [20.0, 20.2, 22.0, 22.2, 21.0, 21.2]

    interval = launch_interval(vanilla, speculative, [0, 0, 1, 1, 2, 2])

    assert "launch means" in interval.method
    assert (interval.n, interval.df) == (3, 2)
    assert interval.high / interval.low > paired_interval(vanilla, speculative).high / 2.1


def test_with_one_launch_the_interval_says_that_it_is_conditional_on_it():
    interval = launch_interval([10.0, 10.1], [20.0, 20.1], [0, 0])

    assert "conditional on this launch" in interval.method


def test_half_width_is_the_sinh_of_the_log_half_width():
    interval = paired_interval([10.0, 10.1, 9.9], [20.0, 20.1, 20.3])

    assert interval.half_width == pytest.approx(math.sinh(math.log(interval.high / interval.ratio)))
