"""What report.html says, as values: the template only lays it out."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from velosweep.records import SweepRecord
from velosweep.reporting.advice import WORST, Advice, gathered, reasons_for_modest_speedup
from velosweep.reporting.answer import Answer, CommandFlags, answers
from velosweep.reporting.figure import Figure
from velosweep.reporting.figures import (
    acceptance_figure,
    heat_map,
    main_figure,
    prompt_heat_map,
    prompts_figure,
)
from velosweep.reporting.figures_metrics import metric_figures
from velosweep.reporting.figures_samples import conditions_figure, samples_figure
from velosweep.reporting.method import environment_lines, how_lines
from velosweep.reporting.results_table import reasons_of_failed, with_failed
from velosweep.reporting.safe import plot_text
from velosweep.reporting.search_words import search_title
from velosweep.reporting.tables import Grid, category_grid, prompt_grid, result_grid, search_grid
from velosweep.reporting.timeline import timeline
from velosweep.reporting.wording import job_labels, target_of, whole_jobs
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.ranking import best_estimate
from velosweep.units import plural
from velosweep.values import Verdict

if TYPE_CHECKING:
    import pyarrow as pa

MOST_PROMPT_ROWS = 2_000


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerBox:
    """An answer with the reasons for a modest speedup, as the page shows it."""

    kind: str
    question: str
    headline: str
    command: str | None
    ties: tuple[str, ...]
    by_category: tuple[str, ...]
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    rests_on: str
    against: tuple[Advice, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchBox:
    """How a search ended, as the page shows it."""

    title: str
    headline: str
    notes: tuple[str, ...]
    candidates: Grid


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Everything the template lays out. `figures` are all figures on the page, in order."""

    title: str
    subtitle: str
    version: str
    problems: tuple[str, ...]
    answers: tuple[AnswerBox, ...]
    main_figure: Figure | None
    results: Grid
    heat: Figure | None
    searches: tuple[SearchBox, ...]
    findings: tuple[tuple[Advice, str], ...]
    acceptance: Figure | None
    samples: Figure | None
    conditions: Figure | None
    metrics: tuple[Figure, ...]
    categories: Grid | None
    prompt_figures: tuple[Figure, ...]
    prompts: Grid | None
    prompts_left_out: str
    how: tuple[str, ...]
    command: str
    environment: tuple[tuple[str, str], ...]

    @property
    def figures(self) -> list[Figure]:
        """All figures that are there."""
        single = (self.main_figure, self.heat, self.acceptance, self.samples, self.conditions)
        return [figure for figure in (*single, *self.metrics, *self.prompt_figures) if figure is not None]

    @property
    def sections(self) -> list[tuple[str, str]]:
        """Anchors and names of the sections that are there."""
        there = (
            (self.searches, "search", "Search"),
            (True, "results", "Results"),
            (True, "findings", "Findings"),
            (self.acceptance, "acceptance-section", "Acceptance"),
            (self.samples or self.conditions, "runs", "Runs and conditions"),
            (self.metrics, "metrics", "Both modes"),
            (self.prompts, "prompts", "Prompts"),
            (True, "how", "How it was measured"),
            (True, "environment", "Environment"),
        )
        return [(anchor, name) for present, anchor, name in there if present]


def make_page(
    rows: Sequence[Comparison],
    record: SweepRecord,
    samples: pa.Table | None,
    *,
    command_flags: CommandFlags | None = None,
) -> Page:
    """Work out the page. Pure: no clock, no file, and the order of everything follows from the input."""
    jobs = whole_jobs(rows)
    answered = answers(rows, record, command_flags=command_flags)
    advised = [answer.job for answer in answered if answer.job is not None]
    plotted = [_plot_copy(row) for row in rows]
    figures = _figures(plotted, samples, advised, target_of(record, advised[0].job_id) if advised else 1.5)
    prompts, left_out = _prompt_rows(rows, advised)
    labels = job_labels(jobs)
    return Page(
        title=answered[0].headline if answered else "velosweep report",
        subtitle=_subtitle(record),
        version=record.environment.velosweep,
        problems=_problems(record, jobs),
        answers=tuple(_box(answer, jobs, record) for answer in answered),
        main_figure=figures.main,
        results=result_grid(
            with_failed(jobs, record), best={job.job_id for job in advised}, failed=reasons_of_failed(record)
        ),
        heat=figures.heat,
        searches=tuple(
            SearchBox(
                title=search_title(search),
                headline=search.headline,
                notes=search.notes,
                candidates=search_grid(search),
            )
            for search in record.searches
        ),
        findings=tuple((advice, _where(where, labels)) for advice, where in gathered(jobs, labels, record)),
        acceptance=figures.acceptance,
        samples=figures.samples,
        conditions=figures.conditions,
        metrics=figures.metrics,
        categories=category_grid(answered, jobs, rows),
        prompt_figures=figures.prompts,
        prompts=prompt_grid(prompts, labels) if prompts else None,
        prompts_left_out=left_out,
        how=how_lines(record, jobs),
        command=shlex.join(record.command or ("velosweep",)),
        environment=environment_lines(record),
    )


def _subtitle(record: SweepRecord) -> str:
    devices = ", ".join(dict.fromkeys(device.name for device in record.environment.devices)) or "CPU"
    when = record.created_at.strftime("%Y-%m-%d %H:%M UTC")
    what = "a single job" if record.single else plural(len(record.jobs), "job")
    return f"{when} · {record.environment.host} · {devices} · {what} · sweep {record.sweep_id}"


def _problems(record: SweepRecord, jobs: Sequence[Comparison]) -> tuple[str, ...]:
    failed = [job for job in record.jobs if job.state == "failed"]
    words = [f"Job {job.num} (n_draft {job.n_draft}) failed: {job.error or 'no reason recorded'}" for job in failed[:5]]
    if len(failed) > 5:
        words.append(f"{len(failed) - 5} more jobs failed")
    pending = sum(job.state == "pending" for job in record.jobs)
    if pending:
        words.append(f"{plural(pending, 'job')} not measured yet: velosweep resume with this folder goes on")
    if not jobs and not words:
        words.append("No job has results")
    return tuple(words)


def _box(answer: Answer, jobs: Sequence[Comparison], record: SweepRecord) -> AnswerBox:
    job = answer.job
    value = best_estimate(job) if job is not None else None
    modest = job is not None and value is not None and value < target_of(record, job.job_id)
    return AnswerBox(
        kind=answer.kind,
        question=answer.question,
        headline=answer.headline,
        command=answer.command,
        ties=answer.ties,
        by_category=answer.by_category,
        reasons=tuple(reasons_for_modest_speedup(job, jobs, said={advice.code for advice in answer.against}))
        if job is not None and modest
        else (),
        notes=answer.notes,
        rests_on=answer.rests_on,
        against=answer.against,
    )


def _where(where: Sequence[str], labels: dict[str, str]) -> str:
    if len(labels) < 2:
        return ""
    if len(where) == len(labels):
        return f"every job, worst in {where[0].removesuffix(WORST)}" if where[0].endswith(WORST) else "every job"
    return ", ".join([*where[:6], *([f"{len(where) - 6} more"] if len(where) > 6 else [])])


# ---------------------------------------------------------------- figures


@dataclass(frozen=True, kw_only=True, slots=True)
class _Figures:
    main: Figure | None
    heat: Figure | None
    acceptance: Figure | None
    samples: Figure | None
    conditions: Figure | None
    metrics: tuple[Figure, ...]
    prompts: tuple[Figure, ...]


def _figures(
    rows: Sequence[Comparison], samples: pa.Table | None, advised: Sequence[Comparison], target: float
) -> _Figures:
    jobs = whole_jobs(rows)
    line = timeline(samples) if samples is not None and samples.num_rows else None
    chosen = [job for job in jobs if job.job_id in {best.job_id for best in advised}]
    main = main_figure(jobs, rows, target)
    metrics = metric_figures(jobs) if len(jobs) > 1 else []
    return _Figures(
        main=main,
        heat=heat_map(jobs),
        acceptance=acceptance_figure(jobs, {job.job_id for job in chosen}),
        samples=samples_figure(line) if line else None,
        conditions=conditions_figure(line) if line else None,
        metrics=tuple(metrics),
        prompts=tuple(_prompt_figures(jobs, rows, chosen)),
    )


def _prompt_figures(
    jobs: Sequence[Comparison], rows: Sequence[Comparison], chosen: Sequence[Comparison]
) -> Iterable[Figure]:
    labels = job_labels(jobs)
    for number, best in enumerate(chosen[:4]):
        for figure in (prompts_figure(rows, best, labels[best.job_id]), prompt_heat_map(jobs, rows, best)):
            if figure is not None and len(jobs) > 1:
                yield replace(figure, id=f"{figure.id}-{number}")


def _plot_copy(row: Comparison) -> Comparison:
    """The comparison with its names fit for Plotly, which reads mark-up in them."""
    return replace(
        row,
        model_pair=plot_text(row.model_pair),
        speculation=plot_text(row.speculation),
        prompt_set=plot_text(row.prompt_set),
        prompt_id=None if row.prompt_id is None else plot_text(row.prompt_id),
        prompt_category=None if row.prompt_category is None else plot_text(row.prompt_category),
        device=plot_text(row.device),
    )


def _prompt_rows(rows: Sequence[Comparison], advised: Sequence[Comparison]) -> tuple[list[Comparison], str]:
    """The rows of prompts to list; of a very large sweep those of the advised jobs."""
    prompts = [row for row in rows if row.prompt_id is not None and row.verdict is not Verdict.INVALID]
    jobs_with_one = {row.job_id for row in prompts}
    if len(prompts) <= len(jobs_with_one):  # one prompt a job says nothing that the job doesn't
        return [], ""
    if len(prompts) <= MOST_PROMPT_ROWS:
        return prompts, ""
    ids = {job.job_id for job in advised}
    kept = [row for row in prompts if row.job_id in ids]
    return kept, f"Of {len(prompts):,} rows those of the advised settings; results.parquet has all."
