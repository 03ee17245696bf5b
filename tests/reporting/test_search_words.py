"""How a search's end reads on the screen."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from tests.planning.jobs import jobs_over_n_draft
from velosweep.config.settings import TunerSettings
from velosweep.reporting.search_words import print_search, search_record, search_table
from velosweep.statistics.intervals import PAIRED_ONE_LAUNCH, Interval
from velosweep.tuning.search_values import SearchAnswer

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
        predicted={VANILLA: 30.0, TWO.id: 50.0, FOUR.id: 51.0},
        measured={TWO.id: 40.0, FOUR.id: 51.0},
        confirmed=CONFIRMED,
        measurements=21,
        confirm_measurements=12,
        full_grid_measurements=76,
        measuring_s=30.0,
        loading_s=2.0,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def said(value: SearchAnswer) -> str:
    screen = io.StringIO()
    print_search(search_record(value), console=Console(file=screen, width=200))
    return screen.getvalue()


def test_the_winner_stands_with_its_confirmed_speedup_and_how_sure_that_is() -> None:
    assert (
        "n_draft 4: 1.70× [1.65, 1.75] over vanilla (certified at 95 %: no other setting that was raced is more than "
        "1 % faster)" in said(answer())
    )


def test_what_was_dropped_when_and_at_what_cost_is_said() -> None:
    screen = said(answer())

    assert "dropped in round 4" in screen
    assert "21 measurements and 12 to confirm; a plain grid takes 15 and certifies nothing, a full grid" in screen
    assert "as sure as a certificate, at the noise seen here, about 76" in screen
    assert "30 s measuring, 2 s loading servers" in screen


def test_a_wrong_prediction_is_named() -> None:
    assert "off by more than 5 % for n_draft 2 (predicted 50.00, measured 40.00)" in said(answer())


def test_what_only_the_model_speaks_against_is_said_to_be_uncertified() -> None:
    screen = said(answer(dropped={}, measured={FOUR.id: 40.0}))

    assert "not raced and so not covered by a certificate: n_draft 2 (left out by the model's prediction" in screen
    assert "not covered" not in said(answer())


def test_ties_say_what_was_and_was_not_shown() -> None:
    tied = answer(ties=frozenset({TWO.id}))

    assert said(tied).count("tie: not shown over 1 % slower than the winner") == 1
    assert "not shown to be slower" not in said(tied)  # once is enough
    row = search_table(search_record(tied)).rows[1]
    assert row[-1].text == "tie: not shown over 1 % slower than the winner"


def test_an_answer_that_is_not_certified_says_why() -> None:
    screen = said(answer(certified=False, reason="the budget was used up"))

    assert "not certified: the budget was used up" in screen


def test_not_speculating_is_an_answer() -> None:
    assert "Don't speculate: vanilla is the fastest" in said(answer(winner=VANILLA, confirmed=None))


def test_candidates_are_named_by_what_they_differ_in() -> None:
    ngram = replace(FOUR, id="ngram", speculation=replace(FOUR.speculation, kinds=("ngram-mod",), p_min=0.5))

    search = search_record(answer(jobs={VANILLA: None, FOUR.id: FOUR, "ngram": ngram}, winner="ngram"))

    assert [candidate.name for candidate in search.candidates] == ["no speculation", "draft model", "ngram-mod"]
