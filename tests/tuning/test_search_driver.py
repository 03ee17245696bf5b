"""The search for the best setting through the real lane, on a stand-in engine whose truth is known."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.measuring.standin_lane import Bench, StandInSession, good
from tests.planning.jobs import jobs_over_n_draft
from tests.strategies import sample, speculative
from velosweep.config.settings import Job, Prompt, PromptSet, Speculation, TunerSettings
from velosweep.errors import ConfigError, RequestRefused, RunFailed
from velosweep.llama_cpp.engine import Generation, Request
from velosweep.planning.server_groups import plan_groups
from velosweep.tuning.search_driver import SearchDriver, search_drivers
from velosweep.tuning.search_values import INTERRUPTED, DraftRounds, Observation, SearchAnswer
from velosweep.values import Mode, Status


class Truth:
    """Acceptance decays with position, a draft step costs 5 % of a main step, batches above 8 cost a jump more."""

    def __init__(self, *, cv: float, seed: int, alpha: float = 0.8, cost: float = 0.05, cliff: float = 0.5) -> None:
        self.alpha, self.cost, self.cliff, self.cv = alpha, cost, cliff, cv
        self.random = random.Random(seed)

    def tokens_per_round(self, n_draft: int) -> float:
        return sum(self.alpha**i for i in range(n_draft + 1))

    def step_ms(self, n_draft: int) -> float:
        if n_draft == 0:
            return 10.0
        batch = 1.0 + 0.02 * n_draft + (self.cliff if n_draft + 1 > 8 else 0.0)
        return 10.0 * (self.cost * n_draft + batch) / self.tokens_per_round(n_draft)

    def answer(self, session: StandInSession, request: Request) -> Generation:
        n_draft = session.server.n_draft
        noisy = self.step_ms(n_draft) * self.random.lognormvariate(0.0, self.cv)
        plain = good(session.server, request, ms_per_token=noisy)
        if session.server.mode is Mode.VANILLA:
            return plain
        steps = request.n_predict - 1
        rounds = max(1, round(steps / self.tokens_per_round(n_draft)))
        positions = tuple(round(rounds * self.alpha**i) for i in range(1, n_draft + 1))
        return replace(
            plain,
            draft_tokens=rounds * n_draft,
            accepted_tokens=sum(positions),
            accepted_per_position=positions,
            rounds=rounds,
        )

    def best(self, n_drafts: Sequence[int]) -> float:
        return min(self.step_ms(n) for n in (0, *n_drafts))


def search(
    jobs: Sequence[Job], bench: Bench, settings: TunerSettings | None = None
) -> tuple[SearchAnswer, SearchDriver]:
    groups = plan_groups(jobs, resident_servers=lambda job: 100)
    drivers = search_drivers(groups, settings or TunerSettings(), list(bench.samples))
    (driver,) = drivers.values()
    bench.driver = driver
    bench.run(jobs)
    (answer,) = driver.answers()
    return answer, driver


def n_draft_of(answer: SearchAnswer) -> int:
    job = answer.jobs[answer.winner]
    return job.n_draft if job else 0


def test_a_setting_that_drafts_nothing_is_dropped_as_such_however_fast_it_was() -> None:
    """As a machine that got quieter makes it."""
    truth = Truth(cv=0.005, seed=1)

    def answer(session: StandInSession, request: Request) -> Generation:
        seen = truth.answer(session, request)
        if session.server.n_draft != 12:
            return seen
        return replace(seen, predicted_ms=seen.predicted_ms / 9, draft_tokens=0, accepted_tokens=0)

    bench = Bench()
    bench.engine.answer = answer
    jobs = [replace(job, speculation=Speculation(p_min=0.5)) for job in jobs_over_n_draft(4, 8, 12)]
    found, driver = search(jobs, bench)

    assert n_draft_of(found) in (4, 8)
    assert {row.reason for row in driver.decisions() if row.n_draft == 12} == {"drafted nothing"}


@pytest.mark.parametrize("cv", [0.005, 0.01, 0.02])
def test_the_winner_is_within_the_tolerance_of_the_best_and_cheap_to_find(cv: float) -> None:
    n_drafts = range(1, 17)
    jobs = jobs_over_n_draft(*n_drafts, n_predict=700)
    near, taken = 0, []
    for seed in range(20):
        truth, bench = Truth(cv=cv, seed=seed), Bench()
        bench.engine.answer = truth.answer
        answer, _ = search(jobs, bench, TunerSettings(seed=seed))
        near += truth.step_ms(n_draft_of(answer)) <= truth.best(n_drafts) * 1.0101
        taken.append(answer.measurements)

    assert near >= 19
    assert sorted(taken)[10] <= {0.005: 24, 0.01: 24, 0.02: 60}[cv]


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("cv", "most"), [(0.005, 24), (0.01, 24), (0.02, 60)])
def test_500_searches_on_the_lane_are_right_cheap_and_truthfully_confirmed(cv: float, most: int) -> None:
    n_drafts = range(1, 17)
    jobs = jobs_over_n_draft(*n_drafts, n_predict=700)
    near, taken, covered = 0, [], []
    for seed in range(500):
        chance = random.Random(1000 + seed)
        truth = Truth(
            cv=cv,
            seed=seed,
            alpha=chance.uniform(0.5, 0.9),
            cost=chance.uniform(0.02, 0.1),
            cliff=chance.uniform(0.0, 1.5),
        )
        bench = Bench()
        bench.engine.answer = truth.answer
        answer, _ = search(jobs, bench, TunerSettings(seed=seed))
        near += truth.step_ms(n_draft_of(answer)) <= truth.best(n_drafts) * 1.0101
        taken.append(answer.measurements)
        if n_draft_of(answer) and answer.confirmed is not None:
            speedup = truth.step_ms(0) / truth.step_ms(n_draft_of(answer))
            covered.append(answer.confirmed.low <= speedup <= answer.confirmed.high)
    share = sum(covered) / len(covered)
    print(f"CV {cv:.1%}: right {near / 500:.3f}, median {sorted(taken)[250]} measurements, covered {share:.3f}")

    assert near >= 0.95 * 500
    assert sorted(taken)[250] <= most
    assert share >= 0.93


def test_not_speculating_can_win() -> None:
    truth, bench = Truth(cv=0.01, seed=1, alpha=0.1, cost=0.4), Bench()
    bench.engine.answer = truth.answer
    answer, _ = search(jobs_over_n_draft(2, 4, 8, n_predict=300), bench)

    assert answer.jobs[answer.winner] is None
    assert answer.certified


def test_every_measurement_is_an_ordinary_sample_taken_once() -> None:
    truth, bench = Truth(cv=0.01, seed=2), Bench()
    bench.engine.answer = truth.answer
    answer, driver = search(jobs_over_n_draft(*range(1, 9), n_predict=300), bench)
    keys = Counter((s.job_id, s.iteration, s.prompt_id) for s in bench.samples if not s.warmup)

    assert set(keys.values()) == {1}
    assert len(keys) == answer.measurements + answer.confirm_measurements
    assert [line.kept for line in driver.decisions() if line.job_id == answer.winner][-1]


def test_a_search_that_was_interrupted_takes_the_same_decisions_and_goes_on() -> None:
    jobs = jobs_over_n_draft(*range(1, 9), n_predict=300)
    truth, whole = Truth(cv=0.0, seed=3), Bench()
    whole.engine.answer = truth.answer
    expected, driver = search(jobs, whole)

    first = Bench()
    first.engine.answer = truth.answer
    first.after_sample = lambda sample: first.stop.request() if len(first.samples) == 12 else None
    search(jobs, first)
    second = Bench(done=dict(first.done), samples=list(first.samples))
    second.engine.answer = truth.answer
    resumed, again = search(jobs, second)

    assert (resumed.winner, resumed.measurements) == (expected.winner, expected.measurements)
    assert again.decisions() == driver.decisions()
    assert len({(s.job_id, s.iteration) for s in second.samples if not s.warmup}) == len(
        [s for s in second.samples if not s.warmup]
    )


@pytest.mark.parametrize("runs", [3, 9, 14])
def test_what_an_interrupted_search_did_not_measure_has_not_failed_nor_has_the_time_run_out(runs: int) -> None:
    bench = Bench()
    bench.engine.answer = Truth(cv=0.0, seed=3).answer
    bench.after_sample = lambda sample: bench.stop.request() if len(bench.samples) == runs else None
    jobs = jobs_over_n_draft(*range(1, 9), n_predict=300)
    (bench.driver,) = search_drivers(plan_groups(jobs), TunerSettings(), []).values()
    bench.run(jobs)

    answers = bench.driver.answers()

    assert [(one.reason, dict(one.without_value)) for one in answers] == (
        [(INTERRUPTED, {})] if runs > 8 else []  # the first round has four servers, each with a warm-up
    )
    assert "failed" not in {row.reason for row in bench.driver.decisions()}


def test_a_candidate_that_cannot_run_is_dropped_and_the_others_are_searched() -> None:
    truth, bench = Truth(cv=0.01, seed=4), Bench()

    def answer(session: StandInSession, request: Request) -> Generation:
        if session.server.n_draft == 4:
            raise RunFailed("no")
        return truth.answer(session, request)

    bench.engine.answer = answer
    found, driver = search(jobs_over_n_draft(2, 4, 6, 8, n_predict=300), bench)

    assert n_draft_of(found) in (6, 8, 2)
    assert any(line.reason == "failed" for line in driver.decisions() if line.n_draft == 4)


CATEGORIES = PromptSet(
    name="two", prompts=(Prompt(id="a", text="A", category="code"), Prompt(id="b", text="B", category="prose"))
)


def test_a_category_whose_prompts_are_all_left_out_has_no_answer_and_is_not_said_to_have_drafted_nothing() -> None:
    bench = Bench()
    bench.engine.answer = Truth(cv=0.002, seed=5).answer
    jobs = jobs_over_n_draft(1, 4, n_predict=400, prompts=CATEGORIES)
    (bench.driver,) = search_drivers(plan_groups(jobs), TunerSettings(per_category=True), []).values()

    def check(request: Request) -> None:
        if request.prompt.id == "b":
            raise RequestRefused("too long")

    bench.engine.check = check
    bench.run(jobs)

    assert [answer.category for answer in bench.driver.answers()] == ["code"]
    assert {row.reason for row in bench.driver.decisions() if row.category == "prose"} == {"failed"}


def test_each_category_of_prompts_has_a_winner_of_its_own() -> None:
    code, prose = Truth(cv=0.002, seed=5, alpha=0.95), Truth(cv=0.002, seed=5, alpha=0.2)
    bench = Bench()
    bench.engine.answer = lambda session, request: (code if request.prompt.id == "a" else prose).answer(
        session, request
    )
    jobs = jobs_over_n_draft(1, 4, 7, n_predict=400, prompts=CATEGORIES)
    groups = plan_groups(jobs)
    (driver,) = search_drivers(groups, TunerSettings(per_category=True), []).values()
    bench.driver = driver
    bench.run(jobs)

    assert {answer.category: n_draft_of(answer) for answer in driver.answers()} == {"code": 7, "prose": 1}


def test_a_budget_gives_an_answer_and_says_that_it_is_not_certified() -> None:
    truth, bench = Truth(cv=0.05, seed=6), Bench()
    bench.engine.answer = truth.answer
    answer, _ = search(jobs_over_n_draft(*range(1, 17), n_predict=300), bench, TunerSettings(budget_s=30.0))

    assert not answer.certified
    assert answer.winner is not None
    assert answer.measuring_s < 45.0


def test_skip_vanilla_leaves_nothing_to_confirm_against() -> None:
    groups = plan_groups(jobs_over_n_draft(4, 8, skip_vanilla=True))

    with pytest.raises(ConfigError, match="vanilla"):
        search_drivers(groups, TunerSettings(), [])


def observed(objective: str, **changes: object) -> dict[str, Observation]:
    """The observations of a first round of vanilla and n_draft 2, whose samples have these values; by mode."""
    jobs = jobs_over_n_draft(2)
    settings = TunerSettings(objective=objective)
    (driver,) = search_drivers(plan_groups(jobs), settings, []).values()
    asked = driver.next_round()
    assert asked is not None
    for run in asked:
        made = speculative(2, **changes) if run.server.mode is Mode.SPECULATIVE else sample(**changes)
        driver.record(run, made)
    driver.next_round()
    (search,) = driver.searches.values()
    values = search.history[0].observations
    return {"vanilla": values[jobs[0].baseline_id], "speculative": values[jobs[0].id]}


@pytest.mark.parametrize(
    ("objective", "value"),
    [
        ("tokens_per_second", 99 / 3.3),  # the first token belongs to the prompt
        ("total_time_ms", 1 / 3320.0),
        ("energy_j", 99 / 50.0),
    ],
)
def test_larger_values_are_better_whatever_the_objective(objective: str, value: float) -> None:
    seen = observed(objective, predicted_ms=3300.0, total_time_ms=3320.0, energy_j=50.0)

    assert [one.log_value for one in seen.values()] == pytest.approx([math.log(value)] * 2)
    assert {one.seconds for one in seen.values()} == {3.32}


@pytest.mark.parametrize(
    ("objective", "changes"),
    [
        ("tokens_per_second", {"predicted_ms": None}),
        ("tokens_per_second", {"predicted_tokens": 1}),
        ("total_time_ms", {"total_time_ms": None}),
        ("energy_j", {"energy_j": None}),
        ("energy_j", {"energy_j": 50.0, "status": Status.INVALID}),
    ],
)
def test_what_has_no_value_failed(objective: str, changes: dict[str, object]) -> None:
    assert [one.log_value for one in observed(objective, **changes).values()] == [None, None]


def test_rounds_that_llama_cpp_does_not_count_are_the_tokens_that_no_draft_provided() -> None:
    counted = observed("total_time_ms", accepted_tokens=60, accepted_per_position=(40, 20), predicted_ms=900.0)
    reckoned = observed("total_time_ms", accepted_tokens=60, rounds=None, drafting_rounds=None, predicted_ms=900.0)

    assert counted["speculative"].draft_rounds == DraftRounds(count=25, total_ms=900.0, accepted_per_position=(40, 20))
    assert reckoned["speculative"].draft_rounds == DraftRounds(count=39, total_ms=900.0, accepted_per_position=None)
    assert counted["vanilla"].draft_rounds is None


def test_rounds_of_several_streams_take_their_share_of_the_time_in_which_all_were_busy() -> None:
    """Ten requests of 100 tokens, of which 200 came while all were busy."""
    counts = {"predicted_tokens": 201, "accepted_tokens": 600, "rounds": 400, "drafting_rounds": 400}

    seen = observed("tokens_per_second", concurrency=2, predicted_ms=900.0, **counts)["speculative"].draft_rounds

    assert seen is not None
    assert seen.mean_ms == pytest.approx(900 / (200 * 400 / 1000))


def test_energy_of_several_streams_is_no_objective() -> None:
    groups = plan_groups(jobs_over_n_draft(4, 8, concurrency=2))

    with pytest.raises(ConfigError, match=r"set concurrency=1 or tuner\.objective=tokens_per_second"):
        search_drivers(groups, TunerSettings(objective="energy_j"), [])


@pytest.mark.parametrize(("n_predict", "short"), [(255, True), (256, False)])
def test_a_single_prompt_of_fewer_than_256_tokens_is_a_short_suite(n_predict: int, short: bool) -> None:
    groups = plan_groups(jobs_over_n_draft(2, n_predict=n_predict))
    (driver,) = search_drivers(groups, TunerSettings(), []).values()

    assert [search.short_suite for search in driver.searches.values()] == [short]


@pytest.mark.parametrize("failing", range(4))
def test_where_one_server_fits_they_make_room_for_each_other_also_when_a_run_is_repeated(failing: int) -> None:
    truth, bench, taken = Truth(cv=0.005, seed=1), Bench(loaded_at_most=1), itertools.count()

    def answer(session: StandInSession, request: Request) -> Generation:
        if request.prompt.id != "warmup" and next(taken) == failing:
            raise RunFailed("a hiccup")
        return truth.answer(session, request)

    bench.engine.answer = answer
    found, _ = search(jobs_over_n_draft(2, 4), bench)

    assert bench.failures() == []
    assert n_draft_of(found) == 4
    assert found.confirmed is not None


@pytest.mark.parametrize("good_runs", [0, 2])
def test_a_search_whose_vanilla_fails_ends_without_an_answer(good_runs: int) -> None:
    truth, bench, taken = Truth(cv=0.005, seed=1), Bench(), itertools.count()

    def answer(session: StandInSession, request: Request) -> Generation:
        vanilla = session.server.mode is Mode.VANILLA and request.prompt.id != "warmup"
        if vanilla and next(taken) >= good_runs:
            raise RunFailed("no")
        return truth.answer(session, request)

    bench.engine.answer = answer
    jobs = jobs_over_n_draft(2, 4, 8)
    (bench.driver,) = search_drivers(plan_groups(jobs), TunerSettings(), []).values()
    bench.run(jobs)

    assert bench.driver.answers() == []
    assert bench.failures()[0].server.mode is Mode.VANILLA
    assert {event.error for event in bench.failures()[1:]} == {"the vanilla server of this comparison failed"}
    assert len([s for s in bench.samples if s.mode is Mode.SPECULATIVE and not s.warmup]) <= 3 * (good_runs + 2)
