"""What report.html says, as values: the template only lays it out."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from velosweep.records import SearchRecord, SweepRecord
from velosweep.reporting.detail_figures import acceptance_figure, metric_figures
from velosweep.reporting.escaping import plot_text
from velosweep.reporting.figure import Figure
from velosweep.reporting.finding_text import WORST, Advice, grouped_findings
from velosweep.reporting.method import environment_lines, how_lines
from velosweep.reporting.recommendation import Recommendation, recommend
from velosweep.reporting.result_tables import category_table, detailed_job_table, prompt_table, with_failed
from velosweep.reporting.run_figures import conditions_figure, samples_figure, timeline
from velosweep.reporting.search_words import search_table, search_title
from velosweep.reporting.speedup_figures import heat_map, main_figure, prompt_heat_map, prompts_figure
from velosweep.reporting.speedup_hints import reasons_for_modest_speedup
from velosweep.reporting.table import Table
from velosweep.reporting.wording import first_few, job_labels, target_of, whole_jobs
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.ranking import best_estimate
from velosweep.units import plural
from velosweep.values import Verdict

if TYPE_CHECKING:
    import pyarrow as pa

MOST_PROMPT_ROWS = 2_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Everything the template lays out.

    `recommendations`: each with the reasons for a modest speedup. `findings`: each with the jobs that have it.
    `figures`: by the section they stand in, in order.
    """

    title: str
    subtitle: str
    version: str
    problems: tuple[str, ...]
    recommendations: tuple[tuple[Recommendation, list[str]], ...]
    results: Table
    searches: tuple[tuple[str, SearchRecord, Table], ...]
    findings: tuple[tuple[Advice, str], ...]
    figures: Mapping[str, tuple[Figure, ...]]
    categories: Table | None
    prompts: Table | None
    prompts_left_out: str
    how: tuple[str, ...]
    command: str
    environment: tuple[tuple[str, str], ...]

    @property
    def sections(self) -> list[tuple[str, str]]:
        """Anchors and names of the sections that are there."""
        there = (
            (self.searches, "search", "Search"),
            (True, "results", "Results"),
            (True, "findings", "Findings"),
            (self.figures["acceptance"], "acceptance-section", "Acceptance"),
            (self.figures["runs"], "runs", "Runs and conditions"),
            (self.figures["metrics"], "metrics", "Both modes"),
            (self.prompts, "prompts", "Prompts"),
            (True, "how", "How it was measured"),
            (True, "environment", "Environment"),
        )
        return [(anchor, name) for present, anchor, name in there if present]


def make_page(rows: Sequence[Comparison], record: SweepRecord, samples: pa.Table | None) -> Page:
    """Compute the page from its arguments alone: it reads no clock and no file, and keeps the order of the jobs."""
    jobs = whole_jobs(rows)
    labels = job_labels(jobs)
    recommendations = recommend(rows, record)
    advised = [found.job for found in recommendations if found.job is not None]
    prompts, left_out = _prompt_rows(rows, advised)
    return Page(
        title=recommendations[0].headline if recommendations else "velosweep report",
        subtitle=_subtitle(record),
        version=record.environment.velosweep,
        problems=tuple(_problems(record, jobs)),
        recommendations=tuple((found, _reasons(found, jobs, record)) for found in recommendations),
        results=detailed_job_table(with_failed(jobs, record), record, {job.job_id for job in advised}),
        searches=tuple((search_title(search), search, search_table(search)) for search in record.searches),
        findings=tuple((advice, _where(where, len(jobs))) for advice, where in grouped_findings(jobs, labels, record)),
        figures=_figures(rows, samples, advised, target_of(record, advised[0].job_id) if advised else 1.5),
        categories=category_table(recommendations, rows),
        prompts=prompt_table(prompts, labels) if prompts else None,
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


def _problems(record: SweepRecord, jobs: Sequence[Comparison]) -> Iterator[str]:
    failed = [job for job in record.jobs if job.state == "failed"]
    pending = sum(job.state == "pending" for job in record.jobs)
    for job in failed[:5]:
        yield f"Job {job.num} (n_draft {job.n_draft}) failed: {job.error or 'no reason recorded'}"
    if len(failed) > 5:
        yield f"{len(failed) - 5} more jobs failed"
    if pending:
        yield f"{plural(pending, 'job')} not measured yet: velosweep resume with this folder goes on"
    if not jobs and not failed and not pending:
        yield "No job has results"


def _reasons(found: Recommendation, jobs: Sequence[Comparison], record: SweepRecord) -> list[str]:
    value = best_estimate(found.job) if found.job is not None else None
    if found.job is None or value is None or value >= target_of(record, found.job.job_id):
        return []
    return reasons_for_modest_speedup(found.job, jobs, reported={advice.code for advice in found.against})


def _where(where: Sequence[str], jobs: int) -> str:
    if jobs < 2:
        return ""
    if len(where) == jobs:
        return f"every job, worst in {where[0].removesuffix(WORST)}" if where[0].endswith(WORST) else "every job"
    return ", ".join(first_few(where, 6))


def _prompt_rows(rows: Sequence[Comparison], advised: Sequence[Comparison]) -> tuple[list[Comparison], str]:
    """The rows of prompts to list; of a very large sweep those of the advised jobs."""
    prompts = [row for row in rows if row.prompt_id is not None and row.verdict is not Verdict.INVALID]
    if len(prompts) <= len({row.job_id for row in prompts}):  # one prompt a job says nothing that the job doesn't
        return [], ""
    if len(prompts) <= MOST_PROMPT_ROWS:
        return prompts, ""
    ids = {job.job_id for job in advised}
    kept = [row for row in prompts if row.job_id in ids]
    return kept, f"Of {len(prompts):,} rows those of the advised settings; results.parquet has all."


# ---------------------------------------------------------------- figures


def _figures(
    comparisons: Sequence[Comparison], samples: pa.Table | None, advised: Sequence[Comparison], target: float
) -> dict[str, tuple[Figure, ...]]:
    rows = [_with_plot_names(row) for row in comparisons]
    jobs = whole_jobs(rows)
    ids = {job.job_id for job in advised}
    line = timeline(samples) if samples is not None and samples.num_rows else None
    several = len(jobs) > 1
    found: dict[str, Iterable[Figure | None]] = {
        "main": [main_figure(jobs, rows, target)],
        "results": [heat_map(jobs)],
        "acceptance": [acceptance_figure(jobs, ids)],
        "runs": [samples_figure(line), conditions_figure(line)] if line else [],
        "metrics": metric_figures(jobs) if several else [],
        "prompts": _prompt_figures(jobs, rows, [job for job in jobs if job.job_id in ids]) if several else [],
    }
    return {section: tuple(figure for figure in figures if figure is not None) for section, figures in found.items()}


def _prompt_figures(
    jobs: Sequence[Comparison], rows: Sequence[Comparison], advised: Sequence[Comparison]
) -> Iterator[Figure]:
    labels = job_labels(jobs)
    for number, best in enumerate(advised[:4]):
        for figure in (prompts_figure(rows, best, labels[best.job_id]), prompt_heat_map(jobs, rows, best)):
            if figure is not None:
                yield replace(figure, id=f"{figure.id}-{number}")


def _with_plot_names(row: Comparison) -> Comparison:
    """The comparison with its names escaped for Plotly, which would interpret mark-up in them."""
    names = ("model_pair", "speculation", "prompt_set", "prompt_id", "prompt_category", "device")
    shown: dict[str, Any] = {name: plot_text(value) for name in names if (value := getattr(row, name)) is not None}
    return replace(row, **shown)
