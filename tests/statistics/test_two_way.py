"""The two-way model against least squares and SciPy: differences of arms that share rounds, and how sure they are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from velosweep.statistics.two_way import PRIOR_DF, TwoWayModel, dunnett_quantile, dunnett_quantiles

RNG = np.random.default_rng(7)
FULL = RNG.normal(size=(4, 6)) + np.arange(6)
GAPS = np.where(RNG.random((5, 8)) < 0.25, np.nan, RNG.normal(size=(5, 8)) + np.arange(8))
ONE_ROUND = np.vstack([GAPS, np.where(np.arange(8) == 3, 0.7, np.nan)])  # of an arm


def least_squares(values):
    """Residual sum of squares and degrees of freedom of value = arm + round."""
    arms, rounds = values.shape
    cells = [(a, r) for a in range(arms) for r in range(rounds) if not math.isnan(values[a, r])]
    design = np.zeros((len(cells), arms + rounds))
    for row, (a, r) in enumerate(cells):
        design[row, a] = design[row, arms + r] = 1
    y = np.array([values[cell] for cell in cells])
    effects, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    return ((y - design @ effects) ** 2).sum(), len(cells) - rank


@pytest.mark.parametrize("values", [FULL, GAPS, GAPS[:2], FULL[:1], ONE_ROUND, np.full((2, 3), np.nan)])
def test_what_is_left_is_that_of_least_squares(values):
    squares, df = least_squares(values)

    model = TwoWayModel.of(values[None])

    assert (model.squares[0], model.df[0]) == (pytest.approx(squares, abs=1e-12), df)


def test_tables_are_judged_each_by_itself():
    other = RNG.normal(size=FULL.shape)
    both = TwoWayModel.of(np.stack([FULL, other])).contrasts(0)

    alone = TwoWayModel.of(other[None]).contrasts(0)

    assert both.standard_error[1] == pytest.approx(alone.standard_error[0])
    assert both.difference[1] == pytest.approx(alone.difference[0])


def test_of_two_arms_it_is_the_paired_t():
    found = TwoWayModel.of(FULL[None, :2]).contrasts(0)

    assert found.difference[0, 1] == pytest.approx((FULL[1] - FULL[0]).mean())
    assert found.standard_error[0, 1] == pytest.approx(stats.sem(FULL[1] - FULL[0]))
    assert found.df[0, 1] == 5


@pytest.mark.parametrize("reference", [0, 2])
def test_the_variance_is_the_arms_own_and_two_degrees_of_freedom_of_the_others(reference):
    found = TwoWayModel.of(FULL[None]).contrasts(reference)

    squares, df = least_squares(FULL)
    d = FULL[1] - FULL[reference]
    own = ((d - d.mean()) ** 2).sum() / 2
    variance = (own + PRIOR_DF * (squares - own) / (df - 5)) / (5 + PRIOR_DF)
    assert found.standard_error[0, 1] == pytest.approx(math.sqrt(2 * variance / 6))
    assert (found.df[0, 1], found.rounds[0, 1]) == (7, 6)
    assert found.difference[0, 1] == pytest.approx(d.mean())
    assert found.difference[0, reference] == 0


def test_the_prior_has_no_more_degrees_of_freedom_than_the_others_show():
    found = TwoWayModel.of(FULL[None, :3, :2]).contrasts(0)  # one each: own, and of the third arm

    assert found.df.tolist()[0][1:] == [2, 2]
    values = FULL[:3, :2]
    squares, _ = least_squares(values)
    d = values[1] - values[0]
    own = ((d - d.mean()) ** 2).sum() / 2
    variance = (own + (squares - own)) / 2  # both with one degree of freedom
    assert found.standard_error[0, 1] == pytest.approx(math.sqrt(2 * variance / 2))


def test_arms_are_compared_in_the_rounds_that_they_share():
    values = np.array([[1.0, 2.0, 3.0, 4.0], [1.5, 2.6, np.nan, 4.4], [np.nan, np.nan, np.nan, 9.0]])

    found = TwoWayModel.of(values[None]).contrasts(0)

    assert found.rounds[0].tolist() == [4, 3, 1]
    assert found.difference[0].tolist() == pytest.approx([0.0, 0.5, 5.0])
    assert np.isfinite(found.standard_error[0]).tolist() == [True, True, False]
    squares, df = least_squares(values)
    d = np.array([0.5, 0.6, 0.4])
    own = ((d - d.mean()) ** 2).sum() / 2
    prior = min(PRIOR_DF, df - 2)
    rest = prior * (squares - own) / (df - 2) if prior else 0
    assert found.standard_error[0, 1] == pytest.approx(math.sqrt(2 * (own + rest) / (2 + prior) / 3))


def test_a_larger_prior_trusts_the_others_more():
    quiet = np.array([[0.0] * 4, [0.1, -0.1, 0.1, -0.1], [0.01, 0.0, -0.01, 0.0], [0.0, 0.01, 0.0, -0.01]])
    model = TwoWayModel.of(quiet[None])

    errors = [model.contrasts(0, prior_df=prior).standard_error[0, 1] for prior in (0, 2, math.inf)]

    assert errors[0] == pytest.approx(stats.sem(quiet[1]))
    assert errors == sorted(errors, reverse=True)
    squares, df = least_squares(quiet)
    assert errors[2] == pytest.approx(math.sqrt(2 * squares / df / 4))


@pytest.mark.parametrize(
    ("rivals", "df", "quantile"), [(2, 4, 2.61), (3, 6, 2.56), (9, 20, 2.60), (16, math.inf, 2.58)]
)
def test_dunnetts_quantile_is_that_of_the_printed_tables(rivals, df, quantile):
    """Dunnett 1955, table 1a: one-sided, 5 %."""
    assert dunnett_quantile(rivals, df, 0.95) == pytest.approx(quantile, abs=0.006)


@pytest.mark.parametrize("rivals", [4, 12])
def test_dunnetts_quantile_is_scipys(rivals):
    """`scipy.stats.dunnett` simulates: of equal groups of 6 its p at our quantile is 2.5 %."""
    df = 6 * (rivals + 1) - (rivals + 1)
    found = dunnett_quantile(rivals, df, 0.975)

    correlation = np.full((rivals, rivals), 0.5) + np.eye(rivals) / 2
    chance = stats.multivariate_t(shape=correlation, df=df, seed=1).cdf(np.full(rivals, found))
    assert chance == pytest.approx(0.975, abs=0.001)


def test_of_one_rival_it_is_students():
    assert dunnett_quantile(1, 5, 0.95) == pytest.approx(stats.t.ppf(0.95, 5))


@pytest.mark.parametrize("rivals", [1, 2, 719])
def test_of_many_degrees_of_freedom_quantiles_are_interpolated_and_of_few_they_are_exact(rivals: int) -> None:
    many = np.concatenate([np.random.default_rng(1).uniform(1, 30, 70), [1.0, 3e5, np.inf]])

    for df, largest_error in ((many, 5e-5), (many[:5], 0.0)):
        exact = [dunnett_quantile(rivals, value, 0.95) for value in df]
        assert dunnett_quantiles(rivals, df, 0.95) == pytest.approx(np.array(exact), rel=largest_error, abs=0)
