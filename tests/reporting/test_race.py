"""How a search's end reads on the screen."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from tests.planning.jobs import jobs_over_n_draft
from velosweep.reporting.search_words import print_search, search_record
from velosweep.reporting.tables import search_grid
from velosweep.tuning.answer import TunerAnswer, TunerCandidate


def answer(**changes: object) -> TunerAnswer:
    two, four = jobs_over_n_draft(2, 4)
    plain = TunerAnswer(
        category=None,
        main_model="main.gguf",
        candidates=(
            TunerCandidate(job=None, predicted=30.0, measured=None, dropped_in=None, tied=False, winner=False),
            TunerCandidate(job=two, predicted=50.0, measured=40.0, dropped_in=4, tied=False, winner=False),
            TunerCandidate(job=four, predicted=51.0, measured=51.0, dropped_in=None, tied=False, winner=True),
        ),
        certified=True,
        reason="no other candidate can be better by more than the tolerance",
        tolerance=0.01,
        confidence=0.95,
        speedup=1.7,
        low=1.65,
        high=1.75,
        measurements=21,
        confirm_measurements=12,
        full_grid_measurements=76,
        measuring_s=30.0,
        loading_s=2.0,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def said(value: TunerAnswer) -> str:
    screen = io.StringIO()
    print_search(search_record(value), console=Console(file=screen, width=200))
    return screen.getvalue()


def test_the_winner_stands_with_its_confirmed_speedup_and_how_sure_that_is() -> None:
    assert (
        "n_draft 4: 1.70× [1.65, 1.75] over vanilla (certified at 95 %: no other setting that was raced is more than "
        "1 % faster)" in said(answer())
    )


def test_what_was_dropped_when_and_at_what_cost_is_told() -> None:
    screen = said(answer())

    assert "dropped in round 4" in screen
    assert "21 measurements and 12 to confirm; a plain grid takes 15 and certifies nothing, a full grid" in screen
    assert "as sure as a certificate, at the noise seen here, about 76" in screen
    assert "30 s measuring, 2 s loading servers" in screen


def test_a_wrong_prediction_is_named() -> None:
    assert "off by more than 5 % for n_draft 2 (predicted 50.00, measured 40.00)" in said(answer())


def test_what_only_the_model_speaks_against_is_said_to_be_uncertified() -> None:
    vanilla, two, four = answer().candidates
    value = answer(candidates=(vanilla, replace(two, measured=None, dropped_in=None), replace(four, measured=40.0)))

    screen = said(value)

    assert "not raced and so not covered by a certificate: n_draft 2 (left out by the model's prediction" in screen
    assert "not covered" not in said(answer())


def test_ties_say_what_was_and_was_not_shown() -> None:
    vanilla, two, four = answer().candidates

    tied = answer(candidates=(vanilla, replace(two, tied=True), four))

    assert said(tied).count("tie: not shown over 1 % slower than the winner") == 1
    assert "not shown to be slower" not in said(tied)  # once is enough
    row = search_grid(search_record(tied)).rows[1]
    assert row.cells[-1].text == "tie: not shown over 1 % slower than the winner"


def test_an_answer_that_is_not_certified_says_why() -> None:
    screen = said(answer(certified=False, reason="the budget was used up"))

    assert "not certified: the budget was used up" in screen


def test_not_speculating_is_an_answer() -> None:
    vanilla, two, four = answer().candidates
    value = answer(candidates=(replace(vanilla, winner=True), two, replace(four, winner=False)), speedup=None)

    assert "Don't speculate: vanilla is the fastest" in said(value)
