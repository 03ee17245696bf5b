"""Who is dropped when, by worked numbers: the limits, eliminations and certificates that a search reports."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from tests.tuning.simulated_engine import search_over_n_draft
from velosweep.config.settings import TunerSettings
from velosweep.tuning.best_arm import BestArmSearch
from velosweep.tuning.elimination import Elimination
from velosweep.tuning.search_values import Observation

T_975_4 = 2.7764451051977987
"""Student's t, two-sided 95 %, 4 degrees of freedom: 2 rivals share an error of 5 %, one-sided, over (3-1)(3-1)."""


def measured(*means: float, noise: float, confidence: float = 0.95, tolerance: float = 0.01) -> Elimination:
    """Three rounds of three candidates a, b, c with effects that differ by round and residuals of 0 and ± `noise`.

    Residuals sum to 0 by round and by candidate, so that s^2 = 6 noise^2 / 4, and the half-width of a difference
    of means is t * sqrt(2 s^2 / 3) = t * noise.
    """
    effects = (0.0, 0.03, -0.02)
    residuals = ((noise, -noise, 0.0), (0.0, noise, -noise), (-noise, 0.0, noise))
    rounds = [
        {name: mean + effect + rest for name, mean, rest in zip("abc", means, row, strict=True)}
        for effect, row in zip(effects, residuals, strict=True)
    ]
    settings = TunerSettings(confidence=confidence, tolerance=tolerance)
    return Elimination(shortlist=("a", "b", "c"), rounds=rounds, settings=settings)


def test_the_half_width_is_t_times_the_noise_of_a_difference() -> None:
    standings = measured(4.0, 3.999, 3.998, noise=0.01).standings[-1]

    assert [standing.half_width for standing in standings] == pytest.approx([0.01 * T_975_4] * 3, rel=1e-9)
    assert [standing.mean for standing in standings] == pytest.approx(
        [4.0 + 0.01 / 3, 3.999 + 0.01 / 3, 3.998 + 0.01 / 3]
    )


@pytest.mark.parametrize(("share", "kept"), [(0.995, True), (1.005, False)])
def test_a_candidate_is_dropped_where_it_can_not_be_better_by_the_tolerance(share: float, kept: bool) -> None:
    deficit = share * (0.01 * T_975_4 + math.log(0.99))

    elimination = measured(4.0, 4.0 - deficit, 4.0, noise=0.01)

    assert ("b" in elimination.remaining) is kept
    assert elimination.dropped == ({} if kept else {"b": 3})


@pytest.mark.parametrize(("share", "decided"), [(0.995, False), (1.005, True)])
def test_the_search_is_decided_where_no_other_can_be_better_by_the_tolerance(share: float, decided: bool) -> None:
    slack = share * 0.001 * T_975_4

    elimination = measured(4.0, 4.0, 4.0, noise=0.001, tolerance=-math.expm1(-slack))

    assert elimination.decided is decided


@pytest.mark.parametrize(("share", "tied"), [(0.995, True), (1.005, False)])
def test_a_tie_may_be_as_fast_as_the_best(share: float, tied: bool) -> None:
    deficit = share * 0.01 * T_975_4

    elimination = measured(4.0, 4.0 - deficit, 4.0, noise=0.01)

    assert ("b" in elimination.ties) is tied


def test_after_one_round_none_is_dropped_and_nothing_is_decided() -> None:
    rounds = [{"a": 4.0, "b": 3.0, "c": 4.0}]
    elimination = Elimination(shortlist=("a", "b", "c"), rounds=rounds, settings=TunerSettings())

    assert elimination.remaining == ("a", "b", "c")
    assert not elimination.decided
    assert [standing.estimate[1:] for standing in elimination.standings[0]] == [(None, None)] * 3


def test_two_rounds_are_enough_where_candidates_are_far_apart() -> None:
    rounds = [{"a": 4.0, "b": 3.0, "c": 3.5}, {"a": 4.01, "b": 3.02, "c": 3.5}]
    elimination = Elimination(shortlist=("a", "b", "c"), rounds=rounds, settings=TunerSettings())

    assert (elimination.remaining, elimination.dropped) == (("a",), {"b": 2, "c": 2})
    assert elimination.decided
    assert elimination.ties == {"a"}


@pytest.mark.parametrize(("share", "decided"), [(0.99, False), (1.01, True)])
def test_the_risks_of_the_dropped_count_too(share: float, decided: bool) -> None:
    """One rival is dropped with a risk of 2.4 %: the other may have 2.6 % left, not its whole 5 %."""
    noise, tolerance = 0.01, 1e-4
    slack = -math.log1p(-tolerance)
    dropped = 0.01 * stats.t.isf(0.024, 4) - slack
    near = 0.01 * stats.t.isf(0.026, 4) * share - slack

    elimination = measured(4.0, 4.0 - dropped, 4.0 - near, noise=noise, tolerance=tolerance)

    assert elimination.dropped == {"b": 3}
    assert elimination.remaining == ("a", "c")
    assert elimination.decided is decided


def test_where_nothing_varies_the_means_decide() -> None:
    rounds = [{"a": 4.0, "b": 3.999}, {"a": 4.0, "b": 3.999}]
    elimination = Elimination(shortlist=("a", "b"), rounds=rounds, settings=TunerSettings())

    assert elimination.decided
    assert elimination.ties == {"a"}


def test_a_candidate_that_failed_is_dropped_in_that_round() -> None:
    rounds = [{"a": 4.0, "b": 3.9, "c": 4.0}, {"a": 4.0, "b": 4.0}]
    elimination = Elimination(shortlist=("a", "b", "c"), rounds=rounds, settings=TunerSettings())

    assert (elimination.remaining, elimination.dropped) == (("a", "b"), {"c": 2})


def after_three_rounds(noise: float) -> BestArmSearch:
    """Three rounds of vanilla and two lengths, which are too few to calibrate."""
    search = search_over_n_draft(TunerSettings(tolerance=0.0001))
    search = BestArmSearch(vanilla="n0", jobs=search.jobs[:2], settings=search.settings)
    values = measured(4.0, 4.0 - 0.995 * noise * T_975_4, 4.0 - 1.005 * noise * T_975_4, noise=noise).rounds
    for row in values:
        asked = search.next_round()
        assert asked is not None
        by_name = dict(zip(("n0", "n1", "n2"), row.values(), strict=True))
        search = search.after(asked, {name: Observation(log_value=by_name[name]) for name in asked.order})
    return search


def test_the_limits_in_tuner_parquet_are_the_mean_and_the_half_width() -> None:
    noise = 0.01
    n0, n1, n2 = after_three_rounds(noise).decisions()[-3:]

    assert [n0.kept, n1.kept, n2.kept] == [True, True, False]
    assert n1.low is not None
    assert n1.high is not None
    assert n1.estimate is not None
    assert math.log(n1.high / n1.estimate) == pytest.approx(noise * T_975_4, rel=1e-9)
    assert math.log(n1.estimate / n1.low) == pytest.approx(noise * T_975_4, rel=1e-9)


def test_the_certificate_that_could_be_given_is_how_far_the_nearest_may_be_ahead() -> None:
    elimination = measured(4.0, 3.99, 3.9, noise=0.01)

    assert elimination.max_shortfall == pytest.approx(math.expm1(-0.01 + 0.01 * T_975_4))
    assert measured(4.0, 3.0, 3.0, noise=0.001).max_shortfall == 0.0


def test_after_one_round_nothing_is_certain() -> None:
    one = Elimination(shortlist=("a", "b"), rounds=[{"a": 4.0, "b": 3.0}], settings=TunerSettings())

    assert one.max_shortfall is None
