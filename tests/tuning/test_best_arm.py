"""Searches on a simulated engine whose truth is known: right, certified, cheap; and every way a search can end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from tests.tuning.simulated_engine import (
    SimulatedEngine,
    candidates,
    is_right,
    n_draft_of,
    run,
    search_over_n_draft,
    simulated,
)
from velosweep.config.settings import Job, ModelPair, TunerSettings
from velosweep.tuning.best_arm import BestArmSearch
from velosweep.tuning.search_values import Observation, Phase, SearchRound


@pytest.mark.parametrize(("runs", "cv"), [(30, 0.005), (30, 0.01), (15, 0.02)])
def test_the_winner_is_within_a_per_cent_of_the_best(runs: int, cv: float) -> None:
    right = [is_right(*one) for one in simulated(runs, cv)]

    assert np.mean(right) >= 0.95


@pytest.mark.long
@pytest.mark.parametrize(("cv", "most"), [(0.005, 15), (0.01, 16), (0.02, 26)])
def test_500_searches_are_right_cheap_and_truthfully_confirmed(cv: float, most: int) -> None:
    right, measurements, covered = [], [], []
    for engine, search in simulated(500, cv):
        answer = search.answer()
        right.append(is_right(engine, search))
        measurements.append(answer.measurements)
        if answer.confirmed:
            # The candidate that was held against vanilla; where that refuted it, vanilla is the winner.
            (candidate,) = {n for r in search.history if r.phase is Phase.CONFIRMATION for n in r.order} - {"n0"}
            truth = engine.speed(n_draft_of(candidate)) / engine.speed(0)
            covered.append(answer.confirmed.low <= truth <= answer.confirmed.high)

    assert np.mean(right) >= 0.95
    assert np.median(measurements) <= most
    assert np.mean(covered) >= 0.93


def test_at_a_cv_of_1_per_cent_a_search_over_16_takes_at_most_16_measurements() -> None:
    measurements = [search.answer().measurements for _, search in simulated(90, 0.01)]

    assert np.median(measurements) <= 16


def unrelated(number: int = 16, **settings: object) -> BestArmSearch:
    """A search over vanilla and candidates k00, k01, … of families of their own, which no model can compare."""
    plain = candidates(1)[0]
    pairs = [ModelPair(name="pair", main_model="main.gguf", draft_model=f"draft{i}.gguf") for i in range(number)]
    jobs = tuple(
        replace(plain, id=f"k{i:02}", baseline_id="none", model_pair=pair, n_draft=8) for i, pair in enumerate(pairs)
    )
    return BestArmSearch(vanilla="none", jobs=jobs, settings=TunerSettings(**settings))  # type: ignore[arg-type]


def speeds(search: BestArmSearch, speed: float, vanilla: float) -> dict[str, float]:
    return {"none": math.log(vanilla)} | {job.id: math.log(speed) for job in search.jobs}


def observed(
    asked: SearchRound, means: Mapping[str, float], rng: np.random.Generator, cv: float = 0.01
) -> dict[str, Observation]:
    noise = rng.normal(0, cv)
    return {n: Observation(log_value=means[n] + noise + rng.normal(0, cv), seconds=1.0) for n in asked.order}


def finish(
    search: BestArmSearch,
    means: Mapping[str, float] | Callable[[Phase], Mapping[str, float]],
    seed: int = 0,
    cv: float = 0.01,
) -> BestArmSearch:
    rng = np.random.default_rng(seed)
    while (asked := search.next_round()) is not None:
        truth = means(asked.phase) if callable(means) else means
        search = search.after(asked, observed(asked, truth, rng, cv))
    return search


def test_sixteen_equal_candidates_end_as_ties() -> None:
    ties = []
    for seed in range(10):
        search = unrelated(seed=seed)
        answer = finish(search, speeds(search, 60.0, 30.0), seed).answer()
        ties.append(len(answer.ties))
        assert "none" in answer.dropped
        assert answer.confirmed is not None
        assert answer.confirmed.low <= 2.0 * 1.02

    assert np.mean(ties) >= 14.5


def test_candidates_that_no_model_compares_are_all_measured() -> None:
    search = unrelated(4)
    means = {"none": math.log(50)} | {job.id: math.log(51 + i) for i, job in enumerate(search.jobs)}

    search = finish(search, means)

    assert {asked.phase for asked in search.history} == {Phase.ELIMINATION, Phase.CONFIRMATION}
    assert search.answer().winner == "k03"


def test_not_speculating_can_win_and_needs_no_confirmation() -> None:
    answer = run(SimulatedEngine(alpha=0.1, cost_ratio=0.5, seed=3)).answer()

    assert (answer.winner, answer.confirmed, answer.confirm_measurements) == ("n0", None, 0)
    assert answer.certified


def test_a_winner_that_fresh_pairs_refute_gives_way_to_vanilla() -> None:
    search = unrelated(3)
    answer = finish(
        search,
        lambda phase: speeds(search, 60.0, 50.0) if phase is Phase.ELIMINATION else speeds(search, 40.0, 50.0),
        seed=1,
    ).answer()

    assert (answer.winner, answer.certified) == ("none", False)
    assert answer.confirmed is not None
    assert answer.confirmed.high < 1


def test_a_winner_that_fresh_pairs_leave_open_stays() -> None:
    search = unrelated(3)
    rng = np.random.default_rng(2)
    while (asked := search.next_round()) is not None:
        confirming = asked.phase is Phase.CONFIRMATION
        means = speeds(search, 60.0, 60.0 if confirming else 50.0)
        search = search.after(asked, observed(asked, means, rng, cv=0.05 if confirming else 0.002))

    answer = search.answer()
    assert answer.confirmed is not None
    assert answer.confirmed.low < 1 < answer.confirmed.high
    assert (answer.winner == "none", answer.certified) == (False, True)


def test_the_confirmed_ratio_comes_from_fresh_abba_pairs_only() -> None:
    search = run(SimulatedEngine(seed=5), TunerSettings(confirm_pairs=4))

    answer = search.answer()
    rounds = [asked for asked in search.history if asked.phase is Phase.CONFIRMATION]
    logs = [(asked.log_value(answer.winner) or 0.0) - (asked.log_value("n0") or 0.0) for asked in rounds]
    mean, t = np.mean(logs), 3.182446305284263  # Student's t, two-sided 95 %, 3 degrees of freedom
    half = t * np.std(logs, ddof=1) / 2
    assert [asked.order for asked in rounds] == [("n0", answer.winner), (answer.winner, "n0")] * 2
    assert answer.confirmed is not None
    assert answer.confirmed.n == 4
    assert [answer.confirmed.ratio, answer.confirmed.low, answer.confirmed.high] == pytest.approx(
        [math.exp(mean), math.exp(mean - half), math.exp(mean + half)], rel=1e-9
    )


def test_a_replayed_history_decides_the_same() -> None:
    search = run(SimulatedEngine(seed=7), TunerSettings(seed=3))

    again = search_over_n_draft(search.settings)
    for asked in search.history:
        assert again.next_round() == replace(asked, observations={})
        again = again.after(asked, asked.observations)

    assert again.next_round() is None
    assert again.decisions() == search.decisions()


def test_every_candidate_has_a_decision_with_its_evidence() -> None:
    search = run(SimulatedEngine(seed=7))

    decisions = search.decisions()

    assert {d.job_id or "n0" for d in decisions} == {f"n{n}" for n in range(17)}
    late = [d for d in decisions if d.phase == "race" and d.round >= 2]
    assert all(d.low < d.estimate < d.high for d in late)  # type: ignore[operator]
    assert {d.job_id or "n0" for d in late if not d.kept} == set(search.answer().dropped)


def test_a_candidate_that_fails_is_dropped_and_the_search_goes_on() -> None:
    search = unrelated(4)
    means = speeds(search, 60.0, 30.0) | {"k02": math.log(90.0)}
    rng = np.random.default_rng(0)
    while (asked := search.next_round()) is not None:
        seen = observed(asked, means, rng)
        search = search.after(asked, {n: replace(o, log_value=None) if n == "k02" else o for n, o in seen.items()})

    assert search.answer().winner != "k02"
    assert search.answer().without_value == {"k02": "failed"}
    assert [d.reason for d in search.decisions() if d.job_id == "k02"] == ["failed"]


def test_a_candidate_that_fails_late_is_no_tie() -> None:
    search = unrelated(3)
    rng = np.random.default_rng(0)
    while (asked := search.next_round()) is not None:
        seen = observed(asked, speeds(search, 60.0, 30.0), rng)
        late = asked.number >= 2
        search = search.after(
            asked, {n: replace(o, log_value=None) if late and n == "k02" else o for n, o in seen.items()}
        )

    answer = search.answer()
    assert len(answer.ties | {answer.winner}) == 2
    assert answer.dropped["k02"] == 2


def test_a_failure_while_calibrating_keeps_the_others_going() -> None:
    engine, search = SimulatedEngine(seed=2), search_over_n_draft()
    while (asked := search.next_round()) is not None:
        seen = engine.measure(asked)
        failed = Observation(log_value=None)
        search = search.after(asked, {n: failed if n == "n16" else o for n, o in seen.items()})

    best = max(engine.speed(n) for n in range(16))
    assert engine.speed(n_draft_of(search.answer().winner)) >= 0.99 * best


def test_a_search_in_which_everything_fails_has_no_answer() -> None:
    search = unrelated(2)
    asked = search.next_round()
    assert asked is not None
    search = search.after(asked, {})

    assert search.next_round() is None
    assert search.answer() is None


def test_a_budget_gives_the_best_so_far_and_says_that_it_is_not_certified() -> None:
    search = unrelated(8, budget_s=40.0)
    means = {"none": math.log(30)} | {job.id: math.log(60.0 + 0.01 * i) for i, job in enumerate(search.jobs, 1)}

    answer = finish(search, means, cv=0.03).answer()

    assert not answer.certified
    assert answer.reason == "the time ran out"
    assert answer.winner != "none"
    assert answer.confirm_measurements == 12


@pytest.mark.parametrize(
    ("budget_s", "rounds", "pairs"),
    [
        (30.0, 7, 4),  # a round of 3 s leaves .3 of the budget, 9 s, to confirm; pairs of 2 s while they fit
        (60.0, 16, 6),  # … or 2 × 6 runs, 12 s, where that is less
        (3.5, 1, 2),  # the first round's cost is not known; two pairs are taken whatever the budget
    ],
)
def test_a_budget_is_spent_on_elimination_but_for_what_confirmation_needs(
    budget_s: float, rounds: int, pairs: int
) -> None:
    search = unrelated(2, budget_s=budget_s)
    while (asked := search.next_round()) is not None:
        disturbed = 0.1 * (asked.number % 3 - 1)
        values = {"none": 4.0 + disturbed, "k00": 4.02 - disturbed, "k01": 4.0 + disturbed}  # never told apart
        search = search.after(asked, {n: Observation(log_value=values[n], seconds=1.0) for n in asked.order})

    assert len(search.elimination.rounds) == rounds
    assert search.answer().confirm_measurements == 2 * pairs


def test_candidates_that_never_ran_count_as_long_as_those_that_did() -> None:
    engine, search = SimulatedEngine(), search_over_n_draft(TunerSettings(budget_s=12.0))
    while (asked := search.next_round()) is not None:
        seen = engine.measure(asked)
        search = search.after(asked, {name: replace(one, seconds=1.0) for name, one in seen.items()})

    assert search.spent_s <= 12


def test_rounds_run_out_without_a_certificate() -> None:
    search = unrelated(3, max_rounds=5)

    answer = finish(search, speeds(search, 60.0, 60.0), cv=0.05).answer()

    assert not answer.certified
    assert "rounds" in answer.reason


def test_rounds_are_in_random_order_that_the_seed_fixes() -> None:
    asked = [unrelated(seed=seed).next_round() for seed in (0, 1, 2, 3, 4, 0)]
    orders = [one.order for one in asked if one is not None]

    assert len(set(orders)) == 5
    assert orders[0] == orders[5]


def test_an_objective_that_the_model_does_not_rank_is_measured_in_full() -> None:
    asked = search_over_n_draft(TunerSettings(objective="total_time_ms")).next_round()

    assert asked is not None
    assert (asked.phase, len(asked.order)) == (Phase.ELIMINATION, 17)


@pytest.mark.parametrize(("tokens", "rounds"), [(512, 1), (511, 2), (100, 3)])
def test_short_calibration_runs_are_repeated_until_2048_tokens_or_three_times(tokens: int, rounds: int) -> None:
    search = run(SimulatedEngine(tokens=tokens, seed=1, cliff=0.0))  # n_draft 0, 1, 4 and 16 are calibrated

    assert len(search.calibration.rounds) == rounds


def test_the_prediction_of_vanilla_is_what_calibration_measured() -> None:
    search = run(SimulatedEngine(tokens=100, seed=1, cliff=0.0))

    logs = [done.log_value("n0") or 0.0 for done in search.calibration.rounds]
    assert search.answer().predicted["n0"] == pytest.approx(math.exp(sum(logs) / 3))


def test_a_candidate_below_the_boundary_that_fails_is_not_asked_for_again() -> None:
    engine, search = SimulatedEngine(cliff=0.8), search_over_n_draft(TunerSettings(max_rounds=1))
    asked_for = 0
    for _ in range(20):
        asked = search.next_round()
        if asked is None:
            break
        asked_for += "n7" in asked.order
        failed = Observation(log_value=None)
        search = search.after(asked, {n: failed if n == "n7" else o for n, o in engine.measure(asked).items()})

    assert asked_for == 1
    assert "n7" not in search.shortlist


def calibrated(engine: SimulatedEngine, **changes: object) -> tuple[BestArmSearch, dict[int, float]]:
    """A search after exact calibration, and the true speeds of all candidates."""
    search = search_over_n_draft(**changes)
    asked = search.next_round()
    assert asked is not None
    search = search.after(asked, engine.measure(asked))
    return search, {n: engine.speed(n) for n in range(17)}


def exact(**changes: float) -> SimulatedEngine:
    return SimulatedEngine(tokens=200_000, cv=0.0, round_sd=0.0, cliff=0.0, **changes)  # type: ignore[arg-type]


def test_the_shortlist_is_what_is_predicted_within_6_per_cent_of_the_best() -> None:
    search, speed = calibrated(exact(alpha=0.8, cost_ratio=0.15))
    near = {f"n{n}" for n in speed if speed[n] >= 0.94 * max(speed.values())}

    assert 3 < len(near) < 6
    assert {f"n{n}" for n in speed if speed[n] >= 0.96 * max(speed.values())} < near
    assert near < {f"n{n}" for n in speed if speed[n] >= 0.92 * max(speed.values())}
    assert set(search.shortlist) == near


def test_at_least_three_are_shortlisted() -> None:
    search, speed = calibrated(exact(alpha=0.1, cost_ratio=0.4))

    assert set(search.shortlist) == {f"n{n}" for n in sorted(speed, key=lambda n: -speed[n])[:3]}


def test_a_short_prompt_widens_the_shortlist() -> None:
    narrow, _ = calibrated(exact())
    wide, _ = calibrated(exact(), short_suite=True)

    assert set(narrow.shortlist) < set(wide.shortlist)
    assert (len(narrow.shortlist), len(wide.shortlist)) == (6, 10)


def measured_with(search: BestArmSearch, seconds: float) -> BestArmSearch:
    """The search to its end, each measurement of so many seconds; drafts are faster by their names, by 1 %."""
    engine = SimulatedEngine(alpha=0.7, cost_ratio=0.05, cv=0.001, seed=1)
    lengths = {job.id: job.n_draft for job in search.jobs} | {search.vanilla: 0}
    while (asked := search.next_round()) is not None:
        seen = {
            name: replace(engine.observe(lengths[name], 0.01 * ord(name[0])), seconds=seconds) for name in asked.order
        }
        search = search.after(asked, seen)
    return search


@pytest.mark.parametrize(
    ("seconds", "looked_at", "calibrated"), [(1.0, "abcdef", "abcdef"), (4.0, "abcdef", "ef"), (10.0, "ab", "b")]
)
def test_with_a_budget_a_first_look_says_which_drafts_are_calibrated(
    seconds: float, looked_at: str, calibrated: str
) -> None:
    jobs = tuple(
        replace(job, id=f"{draft}-{job.n_draft}", model_pair=ModelPair(name="", main_model="m", draft_model=draft))
        for draft in "abcdef"
        for job in candidates(16)
    )
    search = measured_with(BestArmSearch(vanilla="none", jobs=jobs, settings=TunerSettings(budget_s=100.0)), seconds)

    looks = [{name[0] for name in done.order} for done in search.history[:3]]
    assert looks == [{"n"}, {"n", *looked_at}, {"n", *calibrated}]
    assert {name[1:] for name in search.history[1].order} == {"-4", "one"}  # four tokens at a time
    assert {name[0] for name in search.calibration.untried} == set("abcdef") - set(calibrated)
    assert not (search.answer().certified and search.calibration.untried)
    assert search.spent_s <= 100.0 or seconds == 10.0  # one draft and two pairs to confirm take more


def families(drafts: str) -> tuple[Job, ...]:
    """Sixteen lengths of each draft; those named by a digit have one length, as kinds without a draft have."""
    return tuple(
        replace(job, id=f"{draft}-{job.n_draft}", model_pair=ModelPair(name="", main_model="m", draft_model=draft))
        for draft in drafts
        for job in candidates(16)[: 1 if draft.isdigit() else 16]
    )


def asked_with_failing(failing: str, drafts: str, **settings: object) -> BestArmSearch:
    """A search to its end in which every setting of these drafts fails."""
    search = BestArmSearch(vanilla="none", jobs=families(drafts), settings=TunerSettings(**settings))  # type: ignore[arg-type]
    lengths = {job.id: job.n_draft for job in search.jobs} | {"none": 0}
    engine = SimulatedEngine(alpha=0.7, cv=0.001, seed=1)
    while (asked := search.next_round()) is not None:
        seen = {name: replace(engine.observe(lengths[name], 0.0), seconds=1.0) for name in asked.order}
        failed = Observation(log_value=None)
        search = search.after(asked, {n: failed if n[0] in failing else o for n, o in seen.items()})
    return search


@pytest.mark.parametrize("settings", [{}, {"budget_s": 30.0}])
def test_a_draft_that_fails_at_every_length_asked_is_given_up_and_what_needs_none_is_measured(
    settings: dict[str, float],
) -> None:
    search = asked_with_failing("a", "a1", **settings)

    assert len({name for done in search.history for name in done.order if name[0] == "a"}) <= 3
    assert any("1-1" in done.order for done in search.history)
    assert search.answer().winner == "1-1"
    assert search.answer().certified


def test_where_a_first_look_finds_nothing_that_runs_the_next_drafts_are_looked_at() -> None:
    search = asked_with_failing("ab", "abc1", budget_s=13.0)

    looks = [done.order for done in search.history if done.phase is Phase.CALIBRATION]
    assert [sorted(name[0] for name in look) for look in looks[:3]] == [["n"], ["a", "b", "n"], ["1", "c"]]
    assert search.answer().winner[0] in "c1"


def test_where_nothing_can_draft_vanilla_is_not_measured_on_and_on() -> None:
    search = asked_with_failing("a", "a", budget_s=60.0)

    assert [done.order.count("none") for done in search.history] == [1]
    assert search.next_round() is None
