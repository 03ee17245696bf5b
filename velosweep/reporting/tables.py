"""The report's tables as values: a text to read, a value to sort by, a verdict to mark."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from velosweep.records import SearchRecord
from velosweep.reporting.answer import Answer, prompt_rows
from velosweep.reporting.results_table import REASON_LENGTH, verdict_sign, verdict_words
from velosweep.reporting.safe import clip
from velosweep.reporting.wording import (
    interval_words,
    job_labels,
    model_name,
    percent,
    plus_minus,
)
from velosweep.statistics.comparison import Comparison, Statistics
from velosweep.statistics.ranking import best_estimate, category_speedups
from velosweep.values import Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """`value` sorts the column where the text would sort otherwise. `chip`: a verdict's style class."""

    text: str
    value: float | None = None
    right: bool = False
    chip: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Heading:
    """A column's title; `right` where it holds figures."""

    title: str
    right: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """`best`: the row is the advised setting."""

    cells: tuple[Cell, ...]
    best: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """A table. Every row has as many cells as there are columns."""

    caption: str
    columns: tuple[Heading, ...]
    rows: tuple[Row, ...]


Column = tuple[Heading, Callable[[Comparison], Cell]]


def _grid(caption: str, columns: Sequence[Column], jobs: Sequence[Comparison], *, best: Collection[str] = ()) -> Grid:
    rows = (Row(cells=tuple(cell(job) for _, cell in columns), best=job.job_id in best) for job in jobs)
    return Grid(caption=caption, columns=tuple(heading for heading, _ in columns), rows=tuple(rows))


def _text(title: str, word: Callable[[Comparison], str | None]) -> Column:
    return Heading(title=title, right=False), lambda job: Cell(text=word(job) or "")


def _figure(title: str, value: Callable[[Comparison], float | None], digits: int = 2, unit: str = "") -> Column:
    return Heading(title=title), lambda job: _figure_cell(value(job), digits, unit)


def _figure_cell(value: float | None, digits: int = 2, unit: str = "") -> Cell:
    return Cell(text="–" if value is None else f"{value:.{digits}f}{unit}", value=value, right=True)


def _share(title: str, value: Callable[[Comparison], float | None]) -> Column:
    return Heading(title=title), lambda job: Cell(text=percent(value(job)), value=value(job), right=True)


def _stats(title: str, stats: Callable[[Comparison], Statistics | None], digits: int = 1) -> Column:
    def cell(job: Comparison) -> Cell:
        seen = stats(job)
        text = "–" if seen is None else plus_minus(seen, digits)
        return Cell(text=text, value=None if seen is None else seen.mean, right=True)

    return Heading(title=title), cell


_N_DRAFT = _figure("n_draft", lambda job: job.n_draft, 0)
_SPEEDUP = _figure("speedup", best_estimate, 2, "×")
_INTERVAL: Column = (
    Heading(title="95 % interval"),
    lambda job: Cell(text=interval_words(job) or "–", value=job.ci_low, right=True),
)
_VERDICT_HEADING = Heading(title="verdict", right=False)
_VERDICT: Column = (
    _VERDICT_HEADING,
    lambda job: Cell(text=f"{verdict_sign(job)} {verdict_words(job)}", chip=job.verdict.value),
)
_VANILLA = _stats("vanilla tok/s", lambda job: job.vanilla.tokens_per_second if job.vanilla else None)
_SPECULATIVE = _stats("speculative tok/s", lambda job: job.speculative.tokens_per_second if job.speculative else None)
_ACCEPTED = _share("accepted", lambda job: job.acceptance.rate if job.acceptance else None)
_JOB_COLUMNS = (
    _N_DRAFT,
    _SPEEDUP,
    _INTERVAL,
    _VERDICT,
    _VANILLA,
    _SPECULATIVE,
    _stats("TTFT ms", lambda job: job.speculative.time_to_first_token_ms if job.speculative else None),
    _ACCEPTED,
    _figure("tokens/round", lambda job: job.acceptance.tokens_per_round if job.acceptance else None, 1),
    _figure("draft cost", lambda job: job.cost_ratio),
    _figure("expected", lambda job: job.expected_speedup, 2, "×"),
    _figure("pairs", lambda job: job.n_pairs, 0),
    _figure("± (spec.)", lambda job: job.speedup_stddev),
)
_ENERGY = (
    _figure("J/token vanilla", lambda job: job.energy_j_per_token_vanilla),
    _figure("J/token speculative", lambda job: job.energy_j_per_token_speculative),
)


def _verdict_or_failure(failed: Mapping[str, str]) -> Column:
    def cell(job: Comparison) -> Cell:
        reason = failed.get(job.job_id)
        return (
            _VERDICT[1](job)
            if reason is None
            else Cell(text=f"✗ failed: {clip(reason, REASON_LENGTH)}", chip=Verdict.INVALID.value)
        )

    return _VERDICT_HEADING, cell


def result_grid(jobs: Sequence[Comparison], *, best: Collection[str], failed: Mapping[str, str] | None = None) -> Grid:
    """One row a job, the advised ones marked; parameters that don't vary are left out (but n_draft).

    `failed`: reasons by job id; such a job is called failed, not invalid.
    """
    columns = [_verdict_or_failure(failed or {}) if column is _VERDICT else column for column in _JOB_COLUMNS]
    names = ("model_pair", "speculation", "prompt_set", "device", "engine")
    varying = [
        _text(name, lambda job, name=name: str(getattr(job, name)))  # type: ignore[misc]
        for name in names
        if len({getattr(job, name) for job in jobs}) > 1
    ]
    if len({job.n_predict for job in jobs}) > 1:
        varying.append(_figure("n_predict", lambda job: job.n_predict, 0))
    energy = _ENERGY if any(job.energy_j_per_token_speculative is not None for job in jobs) else ()
    return _grid("Results of each job", (*varying, *columns, *energy), jobs, best=best)


def prompt_grid(rows: Sequence[Comparison], labels: Mapping[str, str]) -> Grid:
    """One row a job and prompt."""
    names = (
        _text("prompt", lambda row: row.prompt_id),
        _text("category", lambda row: row.prompt_category),
        _text("job", lambda row: labels.get(row.job_id, row.job_id)),
    )
    figures = (_SPEEDUP, _INTERVAL, _VERDICT, _VANILLA, _SPECULATIVE, _ACCEPTED)
    return _grid("Results of each prompt", (*names, *figures), rows)


def category_grid(answered: Sequence[Answer], jobs: Sequence[Comparison], rows: Sequence[Comparison]) -> Grid | None:
    """One row a category and answer: the advised setting there, and the best setting there. None without categories."""
    labels, of_jobs = job_labels(jobs), prompt_rows(rows)
    alike: dict[object, list[Comparison]] = defaultdict(list)
    for job in jobs:
        alike[job.main_model, job.prompt_set, job.n_predict].append(job)
    found: list[Row] = []
    for answer in answered:
        best = answer.job
        if best is None:
            continue
        same = alike[best.main_model, best.prompt_set, best.n_predict]
        for category, of_job in category_speedups(row for job in same for row in of_jobs.get(job.job_id, ())).items():
            winner = max(of_job, key=lambda job_id, of_job=of_job: of_job[job_id])  # type: ignore[misc]
            cells = (
                Cell(text=category),
                Cell(text=model_name(best.main_model)),
                _figure_cell(of_job.get(best.job_id), 2, "×"),
                Cell(text=labels[winner]),
                _figure_cell(of_job[winner], 2, "×"),
            )
            found.append(Row(cells=cells))
    if len({row.cells[0].text for row in found}) < 2:
        return None
    titles = ("category", "main model", "advised setting", "best here", "its speedup")
    return Grid(
        caption="Geometric mean speedup by category",
        columns=tuple(Heading(title=title, right=title in {"advised setting", "its speedup"}) for title in titles),
        rows=tuple(found),
    )


def search_grid(search: SearchRecord) -> Grid:
    """One row a candidate, the winner marked."""
    rows = (
        Row(
            cells=(
                Cell(text=candidate.name),
                _figure_cell(candidate.predicted, 1),
                _figure_cell(candidate.measured, 1),
                Cell(text=candidate.outcome),
            ),
            best=candidate.job_id == search.job_id,
        )
        for candidate in search.candidates
    )
    titles = {"candidate": False, "predicted": True, "measured": True, "outcome": False}
    return Grid(
        caption="Candidates of the search",
        columns=tuple(Heading(title=title, right=right) for title, right in titles.items()),
        rows=tuple(rows),
    )
