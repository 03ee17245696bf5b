"""The report's tables as values: a text to read, a value to sort by, a verdict to mark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from velosweep.model import Comparison, Statistics
from velosweep.reporting.answer import Answer, category_ratios
from velosweep.reporting.results_table import verdict_words
from velosweep.reporting.wording import (
    VERDICT_SIGNS,
    best_estimate,
    interval,
    job_labels,
    model_name,
    percent,
    plus_minus,
)


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


def _figure(value: float | None, digits: int = 2, unit: str = "") -> Cell:
    return Cell(text="–" if value is None else f"{value:.{digits}f}{unit}", value=value, right=True)


def _share(value: float | None) -> Cell:
    return Cell(text=percent(value), value=value, right=True)


def _stats(stats: Statistics | None, digits: int) -> Cell:
    return Cell(
        text="–" if stats is None else plus_minus(stats, digits), value=stats.mean if stats else None, right=True
    )


def _verdict(job: Comparison) -> Cell:
    return Cell(text=f"{VERDICT_SIGNS[job.verdict]} {verdict_words(job)}", chip=job.verdict.value)


_FIGURES = (
    "n_draft", "speedup", "95 % interval", "± (spec.)", "pairs", "vanilla tok/s", "speculative tok/s", "TTFT ms",
    "accepted", "tokens/round", "draft cost", "expected",
)  # fmt: skip


def result_grid(jobs: Sequence[Comparison], *, best: set[str]) -> Grid:
    """One row a job, the advised ones marked."""
    names = ("model_pair", "speculation", "prompt_set", "n_predict", "device", "engine")
    varying = [name for name in names if len({getattr(job, name) for job in jobs}) > 1]
    energy = any(job.energy_j_per_token_speculative is not None for job in jobs)
    titles = [Heading(title=name, right=name == "n_predict") for name in varying]
    figures = [
        "n_draft",
        "speedup",
        "95 % interval",
        "± (spec.)",
        "pairs",
        "vanilla tok/s",
        "speculative tok/s",
        "TTFT ms",
    ]
    titles += [Heading(title=title) for title in figures]
    titles += [Heading(title=title) for title in ("accepted", "tokens/round", "draft cost", "expected")]
    titles += [Heading(title="J/token")] if energy else []
    titles.append(Heading(title="verdict", right=False))
    rows = [
        Row(cells=(*_names(job, varying), *_job_cells(job, energy=energy), _verdict(job)), best=job.job_id in best)
        for job in jobs
    ]
    return Grid(caption="Results of each job", columns=tuple(titles), rows=tuple(rows))


def _names(job: Comparison, varying: Sequence[str]) -> list[Cell]:
    return [Cell(text=str(getattr(job, name)), right=name == "n_predict") for name in varying]


def _job_cells(job: Comparison, *, energy: bool) -> list[Cell]:
    seen = job.acceptance
    cells = [
        _figure(job.n_draft, 0),
        _figure(best_estimate(job), 2, "×"),
        Cell(text=interval(job.ci_low, job.ci_high) or "–", value=job.ci_low, right=True),
        _figure(job.speedup_stddev),
        _figure(job.n_pairs, 0),
        _stats(job.vanilla.tokens_per_second if job.vanilla else None, 1),
        _stats(job.speculative.tokens_per_second if job.speculative else None, 1),
        _stats(job.speculative.time_to_first_token_ms if job.speculative else None, 1),
        _share(seen.rate if seen else None),
        _figure(seen.tokens_per_round if seen else None, 1),
        _figure(job.cost_ratio),
        _figure(job.expected_speedup, 2, "×"),
    ]
    return [*cells, _figure(job.energy_j_per_token_speculative)] if energy else cells


def prompt_grid(rows: Sequence[Comparison], labels: Mapping[str, str]) -> Grid:
    """One row a job and prompt."""
    headings = ("prompt", "category", "job")
    figures = ("speedup", "95 % interval", "vanilla tok/s", "speculative tok/s", "accepted")
    columns = (*(Heading(title=title, right=False) for title in headings), *(Heading(title=title) for title in figures),
               Heading(title="verdict", right=False))  # fmt: skip
    return Grid(
        caption="Results of each prompt",
        columns=columns,
        rows=tuple(Row(cells=_prompt_cells(row, labels)) for row in rows),
    )


def _prompt_cells(row: Comparison, labels: Mapping[str, str]) -> tuple[Cell, ...]:
    return (
        Cell(text=row.prompt_id or ""),
        Cell(text=row.prompt_category or ""),
        Cell(text=labels.get(row.job_id, row.job_id)),
        _figure(best_estimate(row), 2, "×"),
        Cell(text=interval(row.ci_low, row.ci_high) or "–", value=row.ci_low, right=True),
        _figure(row.vanilla.tokens_per_second.mean if row.vanilla else None, 1),
        _figure(row.speculative.tokens_per_second.mean if row.speculative else None, 1),
        _share(row.acceptance.rate if row.acceptance else None),
        _verdict(row),
    )


def category_grid(answered: Sequence[Answer], jobs: Sequence[Comparison], rows: Sequence[Comparison]) -> Grid | None:
    """One row a category and answer: the advised setting there, and the best setting there. None without categories."""
    labels = job_labels(jobs)
    found: list[Row] = []
    for answer in answered:
        best = answer.job
        if best is None:
            continue
        same = [job for job in jobs if job.main_model == best.main_model and job.prompt_set == best.prompt_set
                and job.n_predict == best.n_predict]  # fmt: skip
        for category, of_job in category_ratios(same, rows).items():
            winner = max(of_job, key=lambda job_id, of_job=of_job: of_job[job_id])  # type: ignore[misc]
            cells = (
                Cell(text=category),
                Cell(text=model_name(best.main_model)),
                _figure(of_job.get(best.job_id), 2, "×"),
                Cell(text=labels[winner]),
                _figure(of_job[winner], 2, "×"),
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
