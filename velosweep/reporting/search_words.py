"""How a search for the best setting ended, in words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from velosweep.planning.job_names import names_of_jobs
from velosweep.planning.job_settings import asks
from velosweep.planning.measurements import most_iterations
from velosweep.records import SearchCandidate, SearchRecord, SweepRecord
from velosweep.reporting.console import say
from velosweep.reporting.table import Table, column, figure, print_table
from velosweep.reporting.wording import duration, interval, join_words, number, percent, recorded_names
from velosweep.tuning.search_values import DRAFTED_NOTHING, INTERRUPTED, OUT_OF_TIME, SearchAnswer
from velosweep.units import plural

if TYPE_CHECKING:
    from rich.console import Console

_SURPRISE = 0.05  # a prediction that is off by more than this share is mentioned
_SAYS_NOTHING = 0.3  # a setting that is at most so much faster may as well be any
_NOT_MEASURED = "not measured"
_PREDICTED_SLOWER = "not measured: expected to be slower"


def search_record(answer: SearchAnswer, command: Sequence[str] = ()) -> SearchRecord:
    """An answer as sweep.json keeps it and people read it. `command`: the sweep's, which says how to give more time."""
    names = _names(answer)
    why = _why(answer, command)
    sure, refuted = f"another setting may be faster: {why}", False
    within = answer.settings.tolerance if answer.certified else answer.max_shortfall
    if within is not None and within < _SAYS_NOTHING:
        confidence = percent(answer.settings.confidence)
        refuted = True
        sure = f"no other setting that was compared is more than {percent(within)} faster ({confidence} sure)"
    compared = any(job and key in answer.measured for key, job in answer.jobs.items())
    if not compared:
        idle = set(answer.without_value.values()) == {DRAFTED_NOTHING}
        late = answer.reason in (OUT_OF_TIME, INTERRUPTED)
        what = "drafted anything" if idle else f"was measured: {why}" if late else "could be measured"
        sure = f"no setting with speculation {what}"
    winner = answer.jobs[answer.winner]
    confirmed, name = answer.confirmed, names[answer.winner]
    if not compared:
        headline = f"No answer: {sure}"
    elif winner is None:
        headline = f"Don't speculate here: {sure}" if refuted else f"Nothing faster was found, but {sure}"
    elif confirmed is None:
        headline = f"{name}: {sure}; its speedup is not confirmed"
    else:
        limits = interval(confirmed.low, confirmed.high)
        headline = f"{name}: {number(confirmed.ratio)}× {limits}; {sure}"
    return SearchRecord(
        category=answer.category,
        job_id=winner.id if winner else None,
        certified=answer.certified and compared,
        sure=sure,
        speedup=confirmed.ratio if confirmed else None,
        low=confirmed.low if confirmed else None,
        high=confirmed.high if confirmed else None,
        pairs=answer.confirm_measurements // 2,
        headline=headline,
        ties=tuple(name for key, name in names.items() if key in answer.ties),
        notes=tuple(_notes(answer, names)),
        candidates=tuple(
            SearchCandidate(
                name=names[key],
                job_id=job.id if job else None,
                predicted=answer.predicted.get(key),
                measured=answer.measured.get(key),
                outcome=_outcome(answer, key),
            )
            for key, job in answer.jobs.items()
        ),
    )


def _why(answer: SearchAnswer, command: Sequence[str]) -> str:
    """Why the search ended; where time ran out, before how much was seen, and how to give more."""
    if answer.reason != OUT_OF_TIME:
        return answer.reason
    outcomes = [_outcome(answer, key) for key, job in answer.jobs.items() if job]
    unseen = outcomes.count(_NOT_MEASURED)
    before = f" before {unseen} of {plural(len(outcomes), 'setting')} were measured" if unseen else ""
    flag = "--budget" if command[1:2] in (("run",), ("best",)) else "tuner.budget"
    return f"{answer.reason}{before} (give a longer {flag})"


def anything_compared(search: SearchRecord) -> bool:
    """Whether anything but vanilla was measured: else the search has no answer, whatever an old record says."""
    return any(row.job_id is not None and row.measured is not None for row in search.candidates)


def print_search(search: SearchRecord, title: str, *, console: "Console") -> None:
    """The winner with its confirmed speedup, ties, who was dropped when, and what the search cost."""
    say(console)
    say(console, f"=== {title} ===", style="bold")
    say(console, search.headline, style="bold green" if search.certified else "bold yellow")
    for line in search.notes:
        say(console, f"- {line}", indent=2)
    say(console)
    print_table(search_table(search), console)


def search_titles(record: SweepRecord) -> list[str]:
    """`Search for the fastest setting`, under which load, of which model and for which prompts as far as these vary."""
    ids = [{row.job_id for row in search.candidates} for search in record.searches]
    firsts = [next((job for job in record.jobs if job.id in of_search), None) for of_search in ids]
    names = recorded_names(replace(record, jobs=tuple(job for job in firsts if job is not None)))
    tasks = [key for key in names.keys if asks(key)]
    titles = []
    for search, job in zip(record.searches, firsts, strict=True):
        about = [f"{names.titles[key]} {names.texts[key][job.id]}" for key in tasks] if job else []
        about += [f"prompts of category {search.category}"] if search.category else []
        titles.append(", ".join(["Search for the fastest setting", *about]))
    return titles


def _outcome(answer: SearchAnswer, candidate: str) -> str:
    if candidate == answer.winner:
        return "winner"
    if candidate in answer.ties:
        return "may be as fast as the winner"
    if candidate in answer.without_value and candidate not in answer.measured:
        return answer.without_value[candidate]
    if candidate in answer.dropped:
        return f"slower: dropped in round {answer.dropped[candidate]}"
    if candidate in answer.measured:
        return "measured" if candidate in answer.raced else "first look only"
    return _PREDICTED_SLOWER if candidate in answer.predicted else _NOT_MEASURED


def _notes(answer: SearchAnswer, names: Mapping[str, str]) -> Iterator[str]:
    """What was expected otherwise, what was left out, and what the search cost."""
    off = percent(_SURPRISE)
    surprises = [
        f"{name} (expected {number(answer.predicted[key])}, measured {number(answer.measured[key])})"
        for key, name in names.items()
        if key in answer.predicted and key in answer.measured
        if abs(answer.predicted[key] / answer.measured[key] - 1) > _SURPRISE
    ]
    if surprises:
        yield f"predictions off by more than {off}: {join_words(surprises)}"
    of_jobs = [key for key, job in answer.jobs.items() if job]  # vanilla is measured to confirm
    if left_out := [names[key] for key in of_jobs if _outcome(answer, key) == _PREDICTED_SLOWER]:
        slower = join_words(left_out)
        yield f"not measured, since a first pass predicts them slower: {slower}; a plain grid measures them"
    passes = [most_iterations(job) for job in answer.jobs.values() if job]
    plain = sum(passes) + max(passes, default=0)  # and vanilla
    yield (
        f"{plural(answer.measurements, 'run')} and {answer.confirm_measurements} to confirm (a plain grid: {plain}); "
        f"{duration(answer.measuring_s)} measuring, {duration(answer.loading_s)} loading servers"
    )


def _names(answer: SearchAnswer) -> dict[str, str]:
    """What to call each candidate, by id."""
    labels = names_of_jobs(job for job in answer.jobs.values() if job).labels
    return {key: labels[job.id] if job else "no speculation" for key, job in answer.jobs.items()}


def search_table(search: SearchRecord) -> Table:
    """One row a candidate, the winner marked."""
    rows = search.candidates
    columns = (
        column("setting", rows, lambda row: row.name, right=False),
        column("expected", rows, lambda row: figure(row.predicted, 1), drop=1),
        column("measured", rows, lambda row: figure(row.measured, 1)),
        column("outcome", rows, lambda row: row.outcome, right=False),
    )
    winner = frozenset(place for place, row in enumerate(rows) if row.job_id == search.job_id)
    return Table(caption="Candidates of the search", columns=columns, advised=winner)
