"""How a search for the best setting ended, in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from velosweep.records import SearchCandidate, SearchRecord
from velosweep.reporting.before import most_iterations
from velosweep.reporting.screen import Column, say, say_all, table_lines, width_of
from velosweep.reporting.wording import duration, interval, listed, model_name, number, percent
from velosweep.tuning.answer import TunerAnswer, TunerCandidate
from velosweep.units import plural

if TYPE_CHECKING:
    from rich.console import Console

_SURPRISE = 0.05
"""A prediction that is off by more than this share is worth a word."""


def search_record(answer: TunerAnswer) -> SearchRecord:
    """An answer as sweep.json keeps it and people read it."""
    names = _names(answer)
    winner = answer.winner
    rows = sorted(answer.candidates, key=lambda c: (c.job is not None, c.job.num if c.job else 0))
    return SearchRecord(
        category=answer.category,
        job_id=winner.job.id if winner.job else None,
        certified=answer.certified,
        sure=_sure(answer),
        speedup=answer.speedup,
        low=answer.low,
        high=answer.high,
        pairs=answer.confirm_measurements // 2,
        headline=_headline(answer),
        ties=tuple(names[c.job.id if c.job else None] for c in answer.candidates if c.tied),
        notes=tuple(_notes(answer)),
        candidates=tuple(
            SearchCandidate(
                name=names[c.job.id if c.job else None],
                job_id=c.job.id if c.job else None,
                predicted=c.predicted,
                measured=c.measured,
                outcome=_outcome(c, answer.tolerance),
            )
            for c in rows
        ),
    )


def print_search(search: SearchRecord, *, console: Console) -> None:
    """The winner with its confirmed speedup, ties, who was dropped when, and what the search cost."""
    say(console)
    say(console, f"=== {search_title(search)} ===", style="bold")
    say(console, search.headline, style="bold green" if search.certified else "bold yellow")
    for line in search.notes:
        say(console, f"- {line}", indent=2)
    say(console)
    say_all(console, table_lines(_columns(search), width=width_of(console)))


def search_title(search: SearchRecord) -> str:
    """`Search for the fastest setting`, and for which prompts."""
    about = f", prompts of category {search.category}" if search.category else ""
    return f"Search for the fastest setting{about}"


def _sure(answer: TunerAnswer) -> str:
    if answer.certified:
        most, sure = percent(answer.tolerance), percent(answer.confidence)
        return f"certified at {sure}: no other setting that was raced is more than {most} faster"
    return f"not certified: {answer.reason}"


def _outcome(candidate: TunerCandidate, tolerance: float) -> str:
    if candidate.winner:
        return "winner"
    if candidate.tied:
        return f"tie: not shown over {percent(tolerance)} slower than the winner"
    if candidate.dropped_in:
        return f"dropped in round {candidate.dropped_in}"
    if candidate.measured:
        return "raced"
    return "not raced" if candidate.predicted is None else "not raced: predicted to be slower"


def _headline(answer: TunerAnswer) -> str:
    names = _names(answer)
    winner = names[answer.winner.job.id if answer.winner.job else None]
    sure = _sure(answer)
    if answer.winner.job is None:
        return f"Don't speculate: vanilla is the fastest ({sure})"
    if answer.speedup is None:
        return f"{winner} ({sure}); no time was left to confirm its speedup"
    return f"{winner}: {number(answer.speedup)}× {interval(answer.low, answer.high)} over vanilla ({sure})"


def _notes(answer: TunerAnswer) -> list[str]:
    names = _names(answer)

    def name(candidate: TunerCandidate) -> str:
        return names[candidate.job.id if candidate.job else None]

    lines = _model_notes(answer, name)
    lines.append(_cost_note(answer))
    lines.append(f"{duration(answer.measuring_s)} measuring, {duration(answer.loading_s)} loading servers")
    return lines


def _model_notes(answer: TunerAnswer, name: Callable[[TunerCandidate], str]) -> list[str]:
    """Where the model was wrong, and what rests on it alone: the certificate doesn't cover what was not raced."""
    lines = []
    wrong = [
        f"{name(c)} (predicted {number(c.predicted)}, measured {number(c.measured)})"
        for c in answer.candidates
        if c.predicted and c.measured and abs(c.predicted / c.measured - 1) > _SURPRISE
    ]
    if wrong:
        lines.append(
            f"the model of acceptance and batch cost was off by more than {percent(_SURPRISE)} for {listed(wrong)}"
        )
    unraced = [name(c) for c in answer.candidates if _left_out(c)]
    if unraced:
        lines.append(
            f"not raced and so not covered by a certificate: {listed(unraced)} (left out by the model's "
            "prediction; a plain grid measures them)"
        )
    return lines


def _left_out(candidate: TunerCandidate) -> bool:
    """Whether nothing but the model speaks against a candidate that speculates (vanilla is measured to confirm)."""
    return candidate.job is not None and candidate.predicted is not None and _unraced(candidate)


def _unraced(candidate: TunerCandidate) -> bool:
    return not (candidate.measured or candidate.winner or candidate.dropped_in)


def _cost_note(answer: TunerAnswer) -> str:
    """What the search took, beside a plain grid, and a grid that would be as sure as a certificate."""
    jobs = [candidate.job for candidate in answer.candidates if candidate.job]
    passes = [most_iterations(job) for job in jobs]
    plain = sum(passes) + max(passes, default=0)  # and vanilla
    return (
        f"{plural(answer.measurements, 'measurement')} and {answer.confirm_measurements} to confirm; a plain grid takes"
        f" {plain} and certifies nothing, a full grid as sure as a certificate, at the noise seen here, about "
        f"{answer.full_grid_measurements}"
    )


def _names(answer: TunerAnswer) -> dict[str | None, str]:
    """What to call each candidate, by job id (None: vanilla): its n_draft, and what else the candidates differ in."""
    jobs = [candidate.job for candidate in answer.candidates if candidate.job]
    drafts = {job.model_pair.draft_model for job in jobs}
    kinds = {job.speculation.kinds for job in jobs}
    limits = {job.speculation.p_min for job in jobs}
    names: dict[str | None, str] = {None: "no speculation"}
    for job in jobs:
        parts = ["+".join(job.speculation.kinds)] if len(kinds) > 1 else []
        if len(drafts) > 1 and job.model_pair.draft_model:
            parts.append(f"draft {model_name(job.model_pair.draft_model)}")
        parts.append(f"n_draft {job.n_draft}")
        if len(limits) > 1:
            parts.append(f"p_min {job.speculation.p_min:g}")
        names[job.id] = ", ".join(parts)
    twins = len(set(names.values())) < len(names)
    return {job.id: " ".join(job.overrides) for job in jobs} | {None: names[None]} if twins else names


def _columns(search: SearchRecord) -> list[Column]:
    rows = search.candidates

    def figures(name: str) -> tuple[str, ...]:
        return tuple(number(value, 1) if (value := getattr(row, name)) else "" for row in rows)

    return [
        Column(title="candidate", cells=tuple(row.name for row in rows), right=False),
        Column(title="predicted", cells=figures("predicted"), sacrifice=1),
        Column(title="measured", cells=figures("measured")),
        Column(title="outcome", cells=tuple(row.outcome for row in rows), right=False),
    ]
