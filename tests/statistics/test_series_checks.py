"""Each finding on a series is raised by what it is about and at its threshold, and a quiet series raises none."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from velosweep.statistics.intervals import t_ratio
from velosweep.statistics.series_checks import (
    MOST_VALUES,
    hodges_lehmann,
    kendall_tail,
    median,
    pair_findings,
    series_findings,
)

# The median is 100.5 and the median distance 1.5, whatever the one value beyond all others is.
SPREAD = [98.0, 99.0, 100.0, 101.0, 102.0, 100.5]
LIMIT = 14.826 * 1.5


def _quiet(n=12, seed=3, cv=0.005):
    return 30 * np.exp(np.random.default_rng(seed).normal(0, cv, n))


def _series(x, *, time=None, launch=None):
    x = np.array([x], dtype=float)
    time = np.arange(x.shape[1])[None] if time is None else np.array([time])
    launch = np.zeros(x.shape[1], dtype=int) if launch is None else np.array(launch)
    return series_findings(x, time.astype(float), launch, "vanilla")[0]


def _only(findings, code):
    found = [finding for finding in findings if finding.code == code]
    assert len(found) <= 1
    assert all(finding.severity == "warning" for finding in found)
    return found[0] if found else None


def _pairs(d, *, time=None, interval="own"):
    time = np.arange(len(d)) if time is None else time
    interval = t_ratio(d).interval if interval == "own" else interval
    return pair_findings(np.array([d], dtype=float), np.array([time], dtype=float), [interval])[0]


def test_a_quiet_series_has_no_findings():
    assert _series(_quiet()) == []


def test_each_row_has_its_own_findings():
    x = np.stack([_quiet(), np.full(12, 30.0), _quiet() * np.linspace(1, 0.95, 12)])
    time = np.broadcast_to(np.arange(12.0), x.shape)

    findings = series_findings(x, time, np.zeros(12, dtype=int), "speculative")

    assert [[(f.code, f.subject) for f in row] for row in findings] == [
        [],
        [("zero_variance", "speculative")],
        [("drift", "speculative")],
    ]


def test_runs_exactly_alike_are_suspicious():
    assert [(f.code, f.evidence) for f in _series([30.0, 30.0])] == [("zero_variance", {"runs": 2})]
    assert _series([30.0, 30.0001]) == []
    assert _series([30.0]) == []


# ---------------------------------------------------------------- outliers


def test_an_outlier_is_named_with_its_run_and_kept():
    x = _quiet()
    x[7] *= 0.7

    (finding,) = _series(x)

    assert (finding.code, finding.subject) == ("outlier", "vanilla")
    assert finding.evidence == {"runs": 1, "of": 12, "worst_run": 8, "value": x[7], "median": np.median(x)}


def test_the_worst_of_several_outliers_is_named():
    finding = _only(_series([*SPREAD * 3, 200.0, 50.0, 30.0]), "outlier")

    assert (finding.evidence["runs"], finding.evidence["worst_run"]) == (3, 19)


@pytest.mark.parametrize(("share", "flagged"), [(0.999, False), (1.001, True), (-0.999, False), (-1.001, True)])
def test_an_outlier_lies_beyond_ten_robust_deviations(share, flagged):
    x = [*SPREAD, 100.5 + share * LIMIT]
    if share < 0:
        x = [201 - value for value in [*SPREAD, 100.5 - share * LIMIT]]

    assert bool(_only(_series(x), "outlier")) == flagged
    assert bool(_only(_pairs(x), "outlier")) == flagged


def test_four_runs_are_too_few_for_outliers():
    assert _only(_series([100.0, 101, 100.5, 30]), "outlier") is None
    assert _only(_series([100.0, 101, 100.5, 99.9, 30]), "outlier")


def test_the_rounding_of_equal_values_is_no_outlier():
    assert _only(_pairs([0.4] * 5 + [0.4 + 1.39e-9]), "outlier") is None
    assert _only(_pairs([0.4] * 5 + [0.4 + 1.41e-9]), "outlier")


# ---------------------------------------------------------------- cold starts


def test_a_slow_first_run_is_a_cold_start_not_an_outlier():
    x = _quiet()
    x[0] *= 0.8

    (finding,) = _series(x)

    center = np.median(x[1:])
    assert finding.code == "cold_start"
    assert finding.evidence == {"first": x[0], "median_of_rest": center, "relative": pytest.approx(1 - x[0] / center)}


def test_a_cold_start_hides_no_other_outlier():
    x = _quiet()
    x[0] *= 0.8
    x[5] *= 0.7

    assert [f.code for f in _series(x)] == ["cold_start", "outlier"]


@pytest.mark.parametrize(("first", "cold"), [(99.01, False), (98.99, True), (101.5, False)])
def test_a_cold_start_is_over_a_per_cent_slow(first, cold):
    x = [first, 100.0, 100.0, 100.0, 100.01, 99.99]

    assert bool(_only(_series(x), "cold_start")) == cold


@pytest.mark.parametrize(("share", "cold"), [(0.99, False), (1.01, True)])
def test_a_cold_start_is_beyond_the_spread_of_the_rest(share, cold):
    rest = [99.0, 99.5, 100.0, 100.5, 101.0]  # median distance .5

    assert bool(_only(_series([100 - share * 14.826 * 0.5, *rest]), "cold_start")) == cold


def test_each_launch_may_start_cold():
    x = _quiet()
    x[6] *= 0.8

    finding = _only(_series(x, launch=np.repeat([0, 1], 6)), "cold_start")

    assert finding.evidence["first"] == x[6]
    assert _only(_series(x), "cold_start") is None


def test_a_launch_of_four_runs_is_too_short_to_tell():
    x = _quiet()
    x[8] *= 0.8

    assert _only(_series(x, launch=[0] * 8 + [1] * 4), "cold_start") is None
    assert _only(_series(x[:13], launch=[0] * 4 + [2] * 4 + [1] * 4), "cold_start") is None
    assert _only(_series(np.append(x, 30.0), launch=[0] * 8 + [1] * 5), "cold_start")


def test_a_short_launch_does_not_end_the_search_for_cold_ones():
    x = _quiet()
    x[3] *= 0.8

    assert _only(_series(x, launch=[0] * 3 + [1] * 9), "cold_start")


def test_runs_are_judged_in_the_order_of_time():
    x = _quiet()
    x[0] *= 0.8
    order = np.random.default_rng(0).permutation(12)

    assert _series(x[order], time=order, launch=np.repeat([0, 1], 6)[order]) == _series(x, launch=np.repeat([0, 1], 6))


# ---------------------------------------------------------------- drift


def test_a_drift_is_reported_as_theil_sens_change_with_kendalls_p():
    x = _quiet() * np.linspace(1, 0.95, 12)
    time = np.cumsum(np.arange(1.0, 13))

    (finding,) = _series(x, time=time)

    slope = stats.theilslopes(np.log(x), time).slope
    p = stats.kendalltau(time, x, method="exact").pvalue
    assert finding.code == "drift"
    assert finding.evidence == {
        "drift": pytest.approx(math.expm1(slope * (time[-1] - time[0]))),
        "p": pytest.approx(p),
        "runs": 12,
    }


@pytest.mark.parametrize(("change", "drifts"), [(0.0099, False), (0.0101, True), (-0.0099, False), (-0.0101, True)])
def test_a_drift_of_a_per_cent_matters(change, drifts):
    # A straight line, with two values exchanged so that the range is above the change of the line.
    log_x = np.linspace(0, change, 9)
    log_x[[3, 5]] = log_x[[5, 3]]
    log_x[-1] *= 1.2

    assert bool(_only(_series(np.exp(log_x)), "drift")) == drifts


def test_a_trend_that_chance_explains_is_no_drift():
    rising = [1.0, 1.01, 1.02, 1.03, 1.04]

    assert _only(_series(rising), "drift")  # p = 2 / 120
    assert _only(_series([1.01, 1.0, 1.02, 1.03, 1.04]), "drift") is None  # p = .083


def _with_inversions(n, inversions):
    """An order of n values, so many pairs of which fall."""
    left, order = list(range(n)), []
    for _ in range(n):
        place = min(inversions, len(left) - 1)
        inversions -= place
        order.append(left.pop(place))
    return np.array(order)


@pytest.mark.parametrize(("inversions", "drifts"), [(243, False), (242, True)])
def test_a_drift_is_significant_at_five_per_cent(inversions, drifts):
    order = _with_inversions(36, inversions)

    p = stats.kendalltau(np.arange(36), order, method="exact").pvalue
    assert (0.04 < p < 0.05) if drifts else (0.05 < p < 0.051)
    assert bool(_only(_series(np.exp(0.01 * order)), "drift")) == drifts


def test_one_outlying_value_is_no_drift():
    assert _only(_series([1.0] * 5 + [9.0] + [1.0] * 5), "drift") is None


def test_where_time_stands_still_nothing_drifts():
    assert _only(_series(np.linspace(1, 1.1, 8), time=[5.0] * 8), "drift") is None


def test_a_series_whose_time_stands_still_hides_no_other():
    x = np.broadcast_to(np.linspace(1, 1.1, 8), (2, 8))
    time = np.array([[5.0] * 8, np.arange(8.0)])

    findings = series_findings(x, time, np.zeros(8, dtype=int), "vanilla")

    assert [[f.code for f in row] for row in findings] == [[], ["drift"]]


def test_runs_at_equal_times_have_no_slope():
    finding = _only(_series(np.exp(np.linspace(0, 0.07, 8)), time=[0, 0, 2, 3, 4, 5, 6, 7]), "drift")

    slopes = [0.01 * (j - i) / (max(j, 0) - (0 if i < 2 else i)) for i in range(8) for j in range(i + 1, 8) if j > 1]
    assert finding.evidence["drift"] == pytest.approx(math.expm1(7 * np.median(slopes)))


def test_a_long_series_is_averaged_in_64_stretches():
    x = _quiet(1000, cv=0.01) * np.linspace(1, 0.97, 1000)
    starts = np.arange(64) * 1000 // 64
    log_x, time = ([np.mean(part) for part in np.split(values, starts[1:])] for values in (np.log(x), np.arange(1000)))

    finding = _only(_series(x), "drift")

    slope = stats.theilslopes(log_x, time).slope
    assert finding.evidence["drift"] == pytest.approx(math.expm1(slope * (time[-1] - time[0])))
    assert finding.evidence["runs"] == 1000


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_kendalls_chance_is_exact(n):
    sums = [
        abs(sum(1 if b > a else -1 for a, b in itertools.combinations(order, 2)))
        for order in itertools.permutations(range(n))
    ]

    assert kendall_tail(n) == pytest.approx([np.mean(np.array(sums) >= s) for s in range(n * (n - 1) // 2 + 1)])


# ---------------------------------------------------------------- pairs


def test_two_pairs_are_too_few():
    (finding,) = _pairs([0.1, 0.11])

    assert (finding.code, finding.subject, finding.evidence) == ("too_few_pairs", "pairs", {"pairs": 2})
    assert _pairs([0.1, 0.12, 0.11]) == []


def test_an_outlying_pair_is_named_by_its_place_in_time():
    d = [0.1, 0.11, 0.9, 0.12, 0.1]

    (finding,) = _pairs(d, time=[4, 3, 2, 1, 0])
    (later,) = _pairs(d, time=[0, 1, 4, 2, 3])

    assert (finding.code, finding.subject, finding.evidence["worst_run"]) == ("outlier", "pairs", 3)
    assert later.evidence["worst_run"] == 5


def _related(share):
    """Ten values whose correlation at lag 1 is `share` of the limit 2 / sqrt(10)."""
    noise = np.random.default_rng(4).normal(0, 1, 10)
    wave = np.cos(np.arange(10) / 3)

    def r1(weight):
        x = wave + weight * noise
        x = x - x.mean()
        return (x[1:] * x[:-1]).sum() / (x * x).sum()

    low, high = 0.0, 3.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if r1(middle) > share * 2 / math.sqrt(10) else (low, middle)
    return wave + low * noise, r1(low)


@pytest.mark.parametrize(("share", "flagged"), [(0.99, False), (1.01, True)])
def test_a_rhythm_in_the_pairs_is_autocorrelation(share, flagged):
    d, r1 = _related(share)

    finding = _only(_pairs(0.5 + 0.01 * d), "autocorrelation")

    assert bool(finding) == flagged
    if finding:
        assert finding.evidence == {"r1": pytest.approx(r1), "limit": pytest.approx(2 / math.sqrt(10)), "pairs": 10}


def test_pairs_that_alternate_are_autocorrelated_too():
    d = [0.5 + 0.01 * (-1) ** i for i in range(10)]

    assert _only(_pairs(d), "autocorrelation").evidence["r1"] == pytest.approx(-0.9)
    assert _only(_pairs(d[:9]), "autocorrelation") is None


def test_the_rounding_of_equal_pairs_is_no_autocorrelation():
    rounding = np.array([1.0] * 5 + [-1.0] * 5)

    assert _only(_pairs(0.4 + 1.39e-9 * rounding), "autocorrelation") is None
    assert _only(_pairs(0.4 + 1.41e-9 * rounding), "autocorrelation")


def test_a_robust_location_outside_the_interval_is_said():
    d = np.array([0.5 + 0.0001 * i for i in range(7)])
    shifted = t_ratio(d + 0.01).interval

    finding = _only(_pairs(d, interval=shifted), "hodges_lehmann_disagrees")

    assert finding.evidence == {
        "ratio": pytest.approx(math.exp(0.5003)),
        "ci_low": shifted.low,
        "ci_high": shifted.high,
    }
    assert _only(_pairs(d, interval=t_ratio(d - 0.01).interval), "hodges_lehmann_disagrees")
    assert _only(_pairs(d), "hodges_lehmann_disagrees") is None
    assert _only(_pairs(d, interval=None), "hodges_lehmann_disagrees") is None


def test_five_pairs_have_no_robust_location_to_compare():
    d = np.array([0.5 + 0.0001 * i for i in range(6)])

    assert _only(_pairs(d[:5], interval=t_ratio(d + 0.01).interval), "hodges_lehmann_disagrees") is None
    assert _only(_pairs(d, interval=t_ratio(d + 0.01).interval), "hodges_lehmann_disagrees")


def test_the_rounding_of_a_point_is_no_disagreement():
    point = t_ratio([0.5] * 6).interval

    assert _pairs([0.5 + 0.99e-9] * 6, interval=point) == []
    assert _only(_pairs([0.5 + 1.01e-9] * 6, interval=point), "hodges_lehmann_disagrees")
    assert _only(_pairs([0.5 - 1.01e-9] * 6, interval=point), "hodges_lehmann_disagrees")
    assert _pairs([0.5 - 0.99e-9] * 6, interval=point) == []


def test_a_series_without_an_interval_does_not_end_the_comparison_of_others():
    d = np.array([[0.5 + 0.0001 * i for i in range(7)]] * 2)
    time = np.broadcast_to(np.arange(7.0), d.shape)

    findings = pair_findings(d, time, [None, t_ratio(d[0] + 0.01).interval])

    assert [len(row) for row in findings] == [0, 1]


@pytest.mark.parametrize("n", [1, 2, 3, 8, 63, 64])
def test_hodges_lehmann_is_the_median_of_all_walsh_averages(n):
    x = np.random.default_rng(n).exponential(1, n)
    averages = [(x[i] + x[j]) / 2 for i in range(n) for j in range(i, n)]

    assert hodges_lehmann(x[None])[0] == pytest.approx(np.median(averages))


def test_a_long_series_has_the_location_of_64_even_quantiles():
    x = np.random.default_rng(1).exponential(1, 200)
    quantiles = np.quantile(x, (np.arange(64) + 0.5) / 64)

    assert hodges_lehmann(x[None])[0] == pytest.approx(hodges_lehmann(quantiles[None])[0])


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_the_median_is_that_of_each_row(n):
    x = np.random.default_rng(n).normal(0, 1, (4, n))

    assert median(x).tolist() == np.median(x, axis=1).tolist()


def test_the_location_of_a_long_skewed_series_is_that_of_all_its_values():
    values = np.exp(np.arange(4.0 * MOST_VALUES) / 64)
    i, j = np.triu_indices(len(values))

    assert hodges_lehmann(values[None])[0] == pytest.approx(np.median((values[i] + values[j]) / 2), rel=0.01)
