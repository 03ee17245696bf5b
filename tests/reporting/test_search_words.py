"""How a search's end reads on the screen."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from tests.planning.jobs import jobs_over_n_draft
from tests.reporting import sweeps
from velosweep.config.settings import TunerSettings
from velosweep.records import SearchCandidate
from velosweep.reporting.search_words import print_search, search_record, search_table, search_titles
from velosweep.statistics.intervals import PAIRED_ONE_LAUNCH, Interval
from velosweep.tuning.search_values import INTERRUPTED, SearchAnswer

TWO, FOUR = jobs_over_n_draft(2, 4)
VANILLA = TWO.baseline_id
CONFIRMED = Interval(ratio=1.7, low=1.65, high=1.75, method=PAIRED_ONE_LAUNCH, n=6, df=5.0, standard_error=0.02)


def answer(**changes: object) -> SearchAnswer:
    plain = SearchAnswer(
        category=None,
        settings=TunerSettings(),
        jobs={VANILLA: None, TWO.id: TWO, FOUR.id: FOUR},
        winner=FOUR.id,
        certified=True,
        reason="no other candidate can be better by more than the tolerance",
        ties=frozenset(),
        dropped={TWO.id: 4},
        without_value={},
        predicted={VANILLA: 30.0, TWO.id: 50.0, FOUR.id: 51.0},
        measured={TWO.id: 40.0, FOUR.id: 51.0},
        raced=frozenset({VANILLA, TWO.id, FOUR.id}),
        max_shortfall=0.004,
        confirmed=CONFIRMED,
        measurements=21,
        confirm_measurements=12,
        measuring_s=30.0,
        loading_s=2.0,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def said(value: SearchAnswer) -> str:
    screen = io.StringIO()
    print_search(search_record(value), "Search", console=Console(file=screen, width=200))
    return screen.getvalue()


def test_the_winner_stands_with_its_confirmed_speedup_and_how_sure_that_is() -> None:
    assert (
        "n_draft 4: 1.70× [1.65, 1.75]; no other setting that was compared is more than 1 % faster (95 % sure)"
        in said(answer())
    )


def test_an_interrupted_search_does_not_ask_for_a_longer_budget() -> None:
    stopped = answer(certified=False, max_shortfall=None, confirmed=None, reason=INTERRUPTED)
    unseen = replace(stopped, winner=VANILLA, measured={VANILLA: 30.0}, raced=frozenset(), dropped={})

    assert said(stopped).splitlines()[2] == (
        "n_draft 4: another setting may be faster: the search was interrupted; its speedup is not confirmed"
    )
    assert "No answer: no setting with speculation was measured: the search was interrupted" in said(unseen)


def test_what_was_dropped_when_and_at_what_cost_is_said() -> None:
    screen = said(answer())

    assert "dropped in round 4" in screen
    assert "21 runs and 12 to confirm (a plain grid: 15); 30 s measuring" in screen
    assert "30 s measuring, 2 s loading servers" in screen


def test_a_wrong_prediction_is_named() -> None:
    assert "predictions off by more than 5 %: n_draft 2 (expected 50.00, measured 40.00)" in said(answer())


def test_what_only_a_prediction_speaks_against_is_said_not_to_be_measured() -> None:
    screen = said(answer(dropped={}, measured={FOUR.id: 40.0}))

    assert "not measured, since a first pass predicts them slower: n_draft 2; a plain grid measures them" in screen
    assert "first pass" not in said(answer())


def test_what_drafted_nothing_is_not_said_to_have_failed() -> None:
    late = {"measured": {FOUR.id: 40.0}, "predicted": {}, "reason": "the time ran out", "certified": False}

    for dropped in ({}, {TWO.id: 1}):  # in the first look, and in a round
        idle = answer(dropped=dropped, without_value={TWO.id: "drafted nothing"}, max_shortfall=None, **late)
        assert search_table(search_record(idle)).rows[1][-1].text == "drafted nothing"
        assert "were measured" not in said(idle)


def test_ties_say_what_was_and_was_not_shown() -> None:
    tied = answer(ties=frozenset({TWO.id}))

    assert said(tied).count("may be as fast as the winner") == 1
    row = search_table(search_record(tied)).rows[1]
    assert row[-1].text == "may be as fast as the winner"


def test_an_answer_that_is_not_certified_says_why() -> None:
    late = answer(certified=False, reason="the time ran out", max_shortfall=None)

    assert "another setting may be faster: the time ran out (give a longer tuner.budget)" in said(late)
    for command in ("run", "best"):
        assert "the time ran out (give a longer --budget)" in search_record(late, ("velosweep", command)).sure


def test_without_a_certificate_it_is_said_how_much_faster_another_may_be() -> None:
    assert "; no other setting that was compared is more than 4 % faster (95 % sure)" in said(
        answer(certified=False, max_shortfall=0.04)
    )
    assert "another setting may be faster" in said(answer(certified=False, max_shortfall=0.4))


def test_an_answer_from_a_first_look_alone_is_not_called_unmeasured() -> None:
    hasty = search_record(answer(certified=False, raced=frozenset(), max_shortfall=None, dropped={}))

    assert "could be measured" not in hasty.sure
    assert [row.outcome for row in hasty.candidates][1:] == ["first look only", "winner"]


def test_not_speculating_is_an_answer() -> None:
    assert "Don't speculate here: no other setting" in said(answer(winner=VANILLA, confirmed=None))


def test_a_search_that_ran_out_of_time_advises_against_nothing() -> None:
    late = answer(winner=VANILLA, confirmed=None, certified=False, max_shortfall=None, reason="the time ran out")

    assert "Nothing faster was found, but another setting may be faster: the time ran out (give" in said(late)
    few = replace(late, measured={FOUR.id: 40.0}, predicted={}, dropped={})
    assert "the time ran out before 1 of 2 settings were measured (give a longer" in said(few)


def test_candidates_are_named_by_what_they_differ_in() -> None:
    ngram = replace(FOUR, id="ngram", speculation=replace(FOUR.speculation, kinds=("ngram-mod",), p_min=0.5))

    search = search_record(answer(jobs={VANILLA: None, FOUR.id: FOUR, "ngram": ngram}, winner="ngram"))

    assert [candidate.name for candidate in search.candidates] == ["no speculation", "draft model", "ngram-mod"]


def test_a_search_whose_settings_all_failed_claims_nothing() -> None:
    failed = answer(
        winner=VANILLA, confirmed=None, measured={VANILLA: 30.0}, dropped={TWO.id: 1}, without_value={TWO.id: "failed"}
    )

    search = search_record(failed)
    idle = search_record(replace(failed, without_value=dict.fromkeys((TWO.id, FOUR.id), "drafted nothing")))

    assert search.headline == "No answer: no setting with speculation could be measured"
    assert not search.certified
    assert [row.outcome for row in search.candidates][:2] == ["winner", "failed"]
    assert idle.headline == "No answer: no setting with speculation drafted anything"


def test_searches_of_a_sweep_are_told_apart_by_load_and_category() -> None:
    made = sweeps.default_sweep()
    one = made.record.jobs[0]
    deep = replace(one, id="deep", depth=4096, settings={**one.settings, "depth": 4096})
    found = [
        replace(search_record(answer()), category=category, candidates=(candidate(job_id),))
        for job_id, category in ((one.id, None), ("deep", None), ("deep", "code"))
    ]

    assert search_titles(replace(made.record, jobs=(one, deep), searches=tuple(found))) == [
        "Search for the fastest setting, depth 0",
        "Search for the fastest setting, depth 4096",
        "Search for the fastest setting, depth 4096, prompts of category code",
    ]
    assert search_titles(replace(made.record, searches=(found[0],))) == ["Search for the fastest setting"]


def candidate(job_id: str) -> SearchCandidate:
    return SearchCandidate(name="", job_id=job_id, predicted=None, measured=1.0, outcome="winner")
