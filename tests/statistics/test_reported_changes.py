"""The intervals of `compare`, against SciPy and the worked cases.

Those of the grid are in test_worked_cases.py, of the search in tests/tuning (elimination, best arm), of the live
display in tests/reporting/test_progress.py: so an error of one per cent is seen at each reader.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.strategies import rounds_table, speeds_table
from velosweep.statistics.summarise import compare_jobs
from velosweep.statistics.sweep_changes import compare_sweeps

CASES = {
    case["id"]: case
    for case in json.loads((Path(__file__).parent / "statistics_cases.json").read_text("utf-8"))["cases"]
    if case["status"] in ("ok", "degenerate") and case["id"] != "cancellation"
}


def _close(value):
    return pytest.approx(value, rel=1e-9)


def _sweep(vanilla, speculative):
    return compare_jobs(speeds_table([vanilla], [speculative]))


@pytest.mark.parametrize("name", CASES)
def test_the_ratio_between_sweeps_is_the_worked_cases_welch_interval(name):
    case = CASES[name]
    old, new = case["vanilla_samples"], case["spec_samples"]
    expected = case["expected"]["welch_log"]

    (change,) = compare_sweeps(_sweep([10.0] * len(old), old), _sweep([10.0] * len(new), new)).changes

    assert change.ratio.ratio == _close(expected["gm_ratio"])
    assert (change.ratio.low, change.ratio.high) == (_close(expected["lower"]), _close(expected["upper"]))
    assert change.ratio.method == "Welch t on logs, assumes no drift between sweeps"
    p = stats.ttest_ind(np.log(new), np.log(old), equal_var=False).pvalue
    assert change.p == pytest.approx(p, rel=1e-7, abs=1e-300)
    assert (change.vanilla_ratio.low, change.vanilla_ratio.high) == (1.0, 1.0)


def test_the_ratio_of_speedups_is_welchs_interval_of_the_pairs_log_ratios():
    vanilla, old, new = [10.0, 10.4, 9.8, 10.1], [20.0, 20.6, 19.9, 20.3], [22.0, 23.3, 21.2, 22.4]
    before, after = (np.log(np.array(series) / vanilla) for series in (old, new))
    low, high = stats.ttest_ind(after, before, equal_var=False).confidence_interval(0.95)

    (change,) = compare_sweeps(_sweep(vanilla, old), _sweep(vanilla, new)).changes

    assert change.speedup_ratio.ratio == _close(math.exp(after.mean() - before.mean()))
    assert (change.speedup_ratio.low, change.speedup_ratio.high) == (_close(math.exp(low)), _close(math.exp(high)))
    assert change.speedup_ratio.method == "difference of the two log speed-ups"


def test_speedups_of_several_settings_are_compared_with_the_noise_that_each_sweep_shows():
    rng = np.random.default_rng(2)
    truth = np.log([30.0, 45.0, 50.0, 40.0])
    old, new = (compare_jobs(rounds_table(np.exp(truth + rng.normal(0, 0.01, (1, 3, 4))))) for _ in range(2))

    for change in compare_sweeps(old, new).changes:
        errors = change.old.standard_error, change.new.standard_error
        df = sum(e**2 for e in errors) ** 2 / (errors[0] ** 4 / 4 + errors[1] ** 4 / 4)
        half = stats.t.ppf(0.975, df) * math.hypot(*errors)
        center = math.log(change.new.speedup_gm / change.old.speedup_gm)
        assert change.speedup_ratio.low == _close(math.exp(center - half))
        assert change.speedup_ratio.high == _close(math.exp(center + half))


def _shift_with_p(p):
    """What makes the second of two series differ from the first at this p."""
    x, y = np.array([0.0, 0.01, -0.01, 0.005, 0.002]), np.array([0.001, 0.008, -0.012, 0.004, 0.003])
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if stats.ttest_ind(y + middle, x, equal_var=False).pvalue > p else (low, middle)
    return 30 * np.exp(x), 30 * np.exp(y + low)


@pytest.mark.parametrize(
    ("ps", "real"),
    [
        ([0.0505], [False]),
        ([0.0495], [True]),
        ([0.0255, 0.9], [False, False]),
        ([0.0245, 0.9], [True, False]),
        ([0.0495, 0.0245], [True, True]),
        ([0.0505, 0.0245], [False, True]),
        ([0.03, 0.03, 0.9], [False, False, False]),
        ([0.024, 0.016, 0.9], [True, True, False]),
        ([0.026, 0.016, 0.9], [False, True, False]),
    ],
)
def test_a_change_is_real_by_holms_correction_over_all_jobs(ps, real):
    pairs = [_shift_with_p(p) for p in ps]
    old, new = (compare_jobs(speeds_table([[10.0] * 5] * len(ps), series)) for series in zip(*pairs, strict=True))
    # As jobs of one sweep they need ids of their own.
    old, new = ([replace(row, job_id=str(i)) for i, row in enumerate(rows)] for rows in (old, new))

    changes = compare_sweeps(old, new).changes

    assert [change.p for change in changes] == pytest.approx(ps, rel=1e-6)
    assert [(change.real, change.comparisons) for change in changes] == [(one, len(ps)) for one in real]


def test_series_that_never_vary_changed_surely_or_not_at_all():
    same, faster = [30.0] * 4, [33.0] * 5

    assert [c.p for c in compare_sweeps(_vanilla_only(same), _vanilla_only(same * 2)).changes] == [1.0]
    assert [c.p for c in compare_sweeps(_vanilla_only(same), _vanilla_only(faster)).changes] == [0.0]


@pytest.mark.parametrize(("gap", "reproduced"), [(0.3, True), (0.99, False), (1.01, False)])
def test_speeds_reproduce_where_their_95_per_cent_intervals_overlap_and_no_change_is_real(gap, reproduced):
    speeds = np.array([30.0, 30.6, 29.8, 30.2, 30.1])
    low, high = stats.ttest_1samp(speeds, 0).confidence_interval(0.95)

    old, new = (_vanilla_only(series) for series in (speeds, speeds + gap * (high - low)))

    assert compare_sweeps(old, new).changes[0].reproduced is reproduced
    assert compare_sweeps(new, old).changes[0].reproduced is reproduced


def _vanilla_only(speeds):
    return compare_jobs(speeds_table([speeds], [[]]))


def test_where_one_sweep_has_no_speculative_runs_the_ratio_is_vanillas():
    both, alone = _sweep([30.0, 30.1, 30.2], [60.0, 60.3, 60.5]), _vanilla_only([33.0, 33.1, 33.2])
    alone = [replace(row, job_id="j8") for row in alone]

    for old, new in ((both, alone), (alone, both)):
        (change,) = compare_sweeps(old, new).changes
        assert change.ratio == change.vanilla_ratio
        assert change.ratio is not None


def test_a_single_speed_in_either_sweep_is_no_reproduction():
    one, several = _vanilla_only([30.0]), _vanilla_only([30.0, 30.1, 30.2])

    assert compare_sweeps(one, several).changes[0].reproduced is None
    assert compare_sweeps(several, one).changes[0].reproduced is None


def test_points_that_agree_reproduce():
    point = _sweep([32.0] * 3, [64.0] * 3)

    assert point[-1].ci_low == point[-1].ci_high
    assert compare_sweeps(point, point).changes[0].reproduced is True
