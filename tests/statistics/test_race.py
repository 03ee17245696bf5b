"""Races against a stand-in whose truth is known: right, certified, cheap; and every way a race can end."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.statistics.stand_in import StandIn, candidates, run
from velosweep.errors import ConfigError
from velosweep.tuning.best_arm import BestArmSearch, Candidate, Observation, Phase, RoundResult, Settings
from velosweep.tuning.best_arm_statistics import residual_variance
from velosweep.tuning.throughput_model import Calibration, further_length, predict

TRUTHS = [
    (alpha, c, cliff) for alpha in (0.5, 0.6, 0.7, 0.8, 0.9) for c in (0.02, 0.05, 0.1) for cliff in (0, 0.8, 1.5)
]


def _races(runs, cv):
    for i in range(runs):
        alpha, c, cliff = TRUTHS[i % len(TRUTHS)]
        engine = StandIn(alpha=alpha, cost_ratio=c, cliff=cliff, cv=cv, seed=70_000 + round(1e8 * cv) + i)
        yield engine, run(engine, settings=Settings(seed=i))


def _right(engine, race):
    answer = race.answer()
    best = max(engine.speed(n) for n in range(17))
    return engine.speed(int(answer.winner[1:])) >= 0.99 * best


@pytest.mark.parametrize(("runs", "cv"), [(30, 0.005), (30, 0.01), (15, 0.02)])
def test_the_winner_is_within_a_per_cent_of_the_best(runs, cv):
    right = [_right(*race) for race in _races(runs, cv)]

    assert np.mean(right) >= 0.95


@pytest.mark.long
@pytest.mark.parametrize(("cv", "most"), [(0.005, 24), (0.01, 24), (0.02, 48)])
def test_500_races_are_right_cheap_and_truthfully_confirmed(cv, most):
    right, measurements, covered = [], [], []
    for engine, race in _races(500, cv):
        answer = race.answer()
        right.append(_right(engine, race))
        measurements.append(answer.measurements)
        if answer.confirmed:
            # Of the candidate that was held against vanilla: where that refuted it, vanilla is the winner.
            (candidate,) = {n for r in race.history if r.plan.phase is Phase.CONFIRM for n in r.plan.order} - {"n0"}
            truth = engine.speed(int(candidate[1:])) / engine.speed(0)
            covered.append(answer.confirmed.low <= truth <= answer.confirmed.high)

    assert np.mean(right) >= 0.95
    assert np.median(measurements) <= most
    assert np.mean(covered) >= 0.93


def test_at_a_cv_of_1_per_cent_a_race_over_16_takes_at_most_24_measurements():
    measurements = [race.answer().measurements for _, race in _races(30, 0.01)]

    assert np.median(measurements) <= 24


def _equal(number=16):
    none = Candidate(id="none", family="none", n_draft=0)
    return (none, *(Candidate(id=f"k{i:02}", family=f"kind {i}", n_draft=8) for i in range(number)))


def _measured(plan, means, rng, cv=0.01):
    noise = rng.normal(0, cv)
    values = {n: Observation(log_value=means[n] + noise + rng.normal(0, cv), seconds=1.0) for n in plan.order}
    return RoundResult(plan=plan, values=values)


def _finish(race, means, seed=0, cv=0.01):
    rng = np.random.default_rng(seed)
    while (plan := race.next_round()) is not None:
        race = race.after(_measured(plan, means, rng, cv))
    return race


def test_sixteen_equal_candidates_end_as_ties():
    means = {c.id: math.log(60.0 if c.n_draft else 30.0) for c in _equal()}
    ties = []
    for seed in range(10):
        answer = _finish(BestArmSearch(candidates=_equal(), settings=Settings(seed=seed)), means, seed).answer()
        ties.append(len(answer.ties))
        assert "none" in answer.dropped
        assert answer.confirmed.low <= 2.0 * 1.02

    assert np.mean(ties) >= 14.5


def test_what_has_no_order_is_raced_without_a_model():
    means = {c.id: math.log(50 + i) for i, c in enumerate(_equal(4))}

    race = _finish(BestArmSearch(candidates=_equal(4)), means)

    assert {result.plan.phase for result in race.history} == {Phase.RACE, Phase.CONFIRM}
    assert race.answer().winner == "k03"


def test_not_speculating_can_win_and_needs_no_confirmation():
    engine = StandIn(alpha=0.1, cost_ratio=0.5, seed=3)

    race = run(engine, settings=Settings())

    answer = race.answer()
    assert (answer.winner, answer.confirmed, answer.confirm_measurements) == ("n0", None, 0)
    assert answer.certified


def test_a_winner_that_fresh_pairs_refute_gives_way_to_vanilla():
    means = {c.id: math.log(60.0 if c.n_draft else 50.0) for c in _equal(3)}
    race = BestArmSearch(candidates=_equal(3))
    rng = np.random.default_rng(1)
    while (plan := race.next_round()) is not None:
        truth = (
            means if plan.phase is Phase.RACE else {name: math.log(50.0 if name == "none" else 40.0) for name in means}
        )
        race = race.after(_measured(plan, truth, rng))

    answer = race.answer()
    assert (answer.winner, answer.certified) == ("none", False)
    assert answer.confirmed.high < 1


def test_the_confirmed_ratio_comes_from_fresh_abba_pairs_only():
    race = run(StandIn(seed=5), settings=Settings(confirm_pairs=4))

    rounds = [result.plan for result in race.history if result.plan.phase is Phase.CONFIRM]
    winner = race.answer().winner
    assert [plan.order for plan in rounds] == [("n0", winner), (winner, "n0")] * 2
    assert race.answer().confirmed.n == 4


def test_a_replayed_history_decides_the_same():
    race = run(StandIn(seed=7), settings=Settings(seed=3))

    again = BestArmSearch(candidates=race.candidates, settings=race.settings)
    for result in race.history:
        assert again.next_round() == result.plan
        again = again.after(result)

    assert again.next_round() is None
    assert again.decisions() == race.decisions()


def test_every_candidate_has_a_decision_with_its_evidence():
    race = run(StandIn(seed=7), settings=Settings())

    decisions = race.decisions()

    assert {d.candidate for d in decisions} == {c.id for c in race.candidates}
    raced = [d for d in decisions if d.phase is Phase.RACE and d.round >= 3]
    assert all(d.low < d.estimate < d.high for d in raced)
    assert {d.candidate for d in raced if not d.kept} == set(race.answer().dropped)


def test_a_candidate_that_fails_is_dropped_and_the_race_goes_on():
    means = {c.id: math.log(60.0 if c.n_draft else 30.0) for c in _equal(4)}
    means["k02"] = math.log(90.0)
    race = BestArmSearch(candidates=_equal(4))
    rng = np.random.default_rng(0)
    while (plan := race.next_round()) is not None:
        result = _measured(plan, means, rng)
        values = {n: replace(o, log_value=None) if n == "k02" else o for n, o in result.values.items()}
        race = race.after(replace(result, values=values))

    assert race.answer().winner != "k02"
    assert [d.reason for d in race.decisions() if d.candidate == "k02"] == ["failed"]


def test_a_failure_while_calibrating_keeps_the_others_going():
    engine = StandIn(seed=2)
    race = BestArmSearch(candidates=candidates())
    lengths = {c.id: c.n_draft for c in race.candidates}
    while (plan := race.next_round()) is not None:
        result = engine.measure(plan, lengths)
        values = {n: replace(o, log_value=None, rounds=None) if n == "n16" else o for n, o in result.values.items()}
        race = race.after(replace(result, values=values))

    best = max(range(16), key=engine.speed)
    assert engine.speed(int(race.answer().winner[1:])) >= 0.99 * engine.speed(best)


def test_a_race_in_which_everything_fails_has_no_answer():
    race = BestArmSearch(candidates=_equal(2))
    plan = race.next_round()
    race = race.after(RoundResult(plan=plan, values={}))

    assert race.next_round() is None
    with pytest.raises(ConfigError, match="No candidate"):
        race.answer()


def test_a_budget_gives_the_best_so_far_and_says_that_it_is_not_certified():
    means = {c.id: math.log(60.0 + 0.01 * i if c.n_draft else 30.0) for i, c in enumerate(_equal(8))}

    race = _finish(BestArmSearch(candidates=_equal(8), settings=Settings(budget_s=40)), means, cv=0.03)

    answer = race.answer()
    assert not answer.certified
    assert "budget" in answer.reason
    assert answer.winner != "none"
    assert answer.confirm_measurements == 12


def test_rounds_run_out_without_a_certificate():
    means = {c.id: math.log(60.0) for c in _equal(3)}

    answer = _finish(BestArmSearch(candidates=_equal(3), settings=Settings(max_rounds=5)), means, cv=0.05).answer()

    assert not answer.certified
    assert "rounds" in answer.reason


def test_dear_loads_are_weighed_by_more_runs_a_visit():
    dear = tuple(replace(c, load_s=18.0, run_s=2.0) for c in candidates())
    cheap = tuple(replace(c, load_s=0.0, run_s=2.0) for c in candidates())

    assert BestArmSearch(candidates=dear).next_round().repeats == 3
    assert BestArmSearch(candidates=cheap).next_round().repeats == 1


def test_rounds_are_in_random_order_that_the_seed_fixes():
    orders = {BestArmSearch(candidates=_equal(), settings=Settings(seed=s)).next_round().order for s in range(5)}

    assert len(orders) == 5


def test_a_race_needs_a_candidate_that_does_not_speculate():
    with pytest.raises(ConfigError, match="doesn't speculate"):
        BestArmSearch(candidates=candidates()[1:])


def test_an_objective_the_model_does_not_rank_is_raced_in_full():
    plan = BestArmSearch(candidates=candidates(), settings=Settings(use_model=False)).next_round()

    assert (plan.phase, len(plan.order)) == (Phase.RACE, 17)


def test_short_calibration_runs_are_repeated_until_they_tell_enough():
    race = run(StandIn(tokens=200, seed=1), settings=Settings())

    calibrating = [r for r in race.history if r.plan.phase is Phase.CALIBRATE]
    assert len(calibrating) >= 3


def _calibration(engine, n):
    survival = engine.survival(n) * 1e6
    return Calibration(
        n_draft=n, rounds=1e6, round_ms=engine.round_ms(n), accepted_per_position=tuple(survival.tolist())
    )


def test_the_model_foretells_a_linear_truth_exactly():
    engine = StandIn(cliff=0.0)

    foretold = predict(range(1, 17), [_calibration(engine, n) for n in (1, 4, 16)])

    assert [foretold[n] for n in range(1, 17)] == pytest.approx([engine.speed(n) for n in range(1, 17)])


def test_a_kernel_boundary_is_noticed_and_located_by_one_more_run():
    engine = StandIn(cliff=0.8)
    runs = [_calibration(engine, n) for n in (1, 4, 16)]

    assert further_length(range(1, 17), runs) == 7
    foretold = predict(range(1, 17), [*runs, _calibration(engine, 7)])

    assert [foretold[n] for n in range(1, 17)] == pytest.approx([engine.speed(n) for n in range(1, 17)])
    assert further_length(range(1, 17), [*runs, _calibration(engine, 7)]) is None


def test_without_counts_by_position_nothing_is_foretold():
    assert predict([1, 2], [Calibration(n_draft=2, rounds=10, round_ms=5, accepted_per_position=None)]) is None


def test_residual_variance_is_what_rounds_and_candidates_leave():
    rng = np.random.default_rng(0)
    rounds = [{f"k{k}": k + i + rng.normal(0, 0.1) for k in range(6 if i < 20 else 3)} for i in range(60)]

    variance, df = residual_variance(rounds)

    assert df == 20 * 6 + 40 * 3 - (6 + 60 - 1)
    assert variance == pytest.approx(0.01, rel=0.3)
