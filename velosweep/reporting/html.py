"""report.html: one file that works offline. The same comparisons, record and samples give the same bytes."""

import base64
import gzip
import re
import shlex
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from velosweep.records import SweepRecord
from velosweep.reporting.chart import Chart, rounded
from velosweep.reporting.detail_charts import acceptance_chart, decoding_chart, metric_charts
from velosweep.reporting.escaping import json_for_script, plot_text, shorten_homes, without_keys
from velosweep.reporting.finding_text import WORST, grouped_findings
from velosweep.reporting.recommendation import answered_jobs, with_answers
from velosweep.reporting.result_tables import (
    category_table,
    detailed_job_table,
    prompt_table,
    summary_table,
    with_failed,
)
from velosweep.reporting.run_charts import conditions_chart, samples_chart, timeline
from velosweep.reporting.search_words import search_table, search_titles
from velosweep.reporting.speedup_charts import heat_map, main_chart, prompt_heat_map, prompts_chart
from velosweep.reporting.speedup_hints import hint_heading, target_reasons
from velosweep.reporting.sweep_answers import sweep_answers
from velosweep.reporting.table import Cell, Table
from velosweep.reporting.wording import (
    failure_sentences,
    first_few,
    join_words,
    method_words,
    names_of,
    recorded_names,
    target_of,
    whole_jobs,
)
from velosweep.reporting.workload_map import workload_chart
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.ranking import best_estimate
from velosweep.units import bytes_words, plural
from velosweep.values import Verdict

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

MOST_PROMPT_ROWS = 2_000
MOST_SUMMARY_ROWS = 12
MOST_PROMPTS = 30
_PLOTLY_HERE = "@@PLOTLY@@"


def render_report(
    comparisons: Iterable[Comparison], record: SweepRecord, samples: pa.Table | None = None, *, show_paths: bool = False
) -> str:
    """The whole page, from its arguments alone: it reads no clock, and keeps the order of the jobs.

    Unless `show_paths`, home directories (and so user names) are shortened to `~`, and hosts have no names.
    """
    rows = list(comparisons)
    if not show_paths:
        record = replace(record, environment=replace(record.environment, host=""))
        rows = [replace(row, host="") for row in rows]
    answers = sweep_answers(rows, record, samples)
    recommendations = answers.recommendations
    rows = with_answers(rows, recommendations)
    jobs = whole_jobs(rows)
    labels = names_of(jobs).labels
    advised = answered_jobs(recommendations)
    charts = _charts(rows, samples, advised, record)
    prompts = _prompt_rows(rows)
    shown = prompts if len(prompts) <= MOST_PROMPT_ROWS else [row for row in prompts if row.job_id in advised]
    leading = _leading(jobs, advised)
    text = render_template(
        "report.html.j2",
        show_paths=show_paths,
        record=record,
        jobs=jobs,
        answers=answers,
        recommendations=[(found, target_reasons(found, jobs, record)) for found in recommendations],
        failures=failure_sentences(record),
        summary=summary_table(answers, leading, failed_because="see above"),
        unshown=len(jobs) - len(leading),
        results=detailed_job_table(with_failed(jobs, record), record, advised),
        searches=list(zip(search_titles(record), record.searches, map(search_table, record.searches), strict=True)),
        findings=[(advice, _where(where, len(jobs))) for advice, where in grouped_findings(jobs, labels, record)],
        charts=charts,
        charts_json=json_for_script({one.id: one.drawing for one in chain(*charts.values())}),
        categories=category_table(recommendations, rows),
        prompts=prompt_table(shown, labels) if shown else None,
        prompts_in_all=len(prompts) if shown is not prompts else 0,
        texts=_prompt_texts(samples, [*advised.values()] or jobs[:1], record),
        repeat=shlex.join(record.command or ("velosweep",)),
    )
    before, _, after = text.rpartition(_PLOTLY_HERE)  # a prompt may hold these letters: the page's own come last
    return before + plotly_script() + after


def _leading(jobs: Sequence[Comparison], advised: Collection[str]) -> set[str]:
    """The ids of the jobs that the answer's table shows: those advised, and the fastest."""
    ranked = sorted(jobs, key=lambda job: (job.job_id not in advised, -(best_estimate(job) or 0.0)))
    return {job.job_id for job in ranked[:MOST_SUMMARY_ROWS]}


def _prompt_rows(rows: Iterable[Comparison]) -> list[Comparison]:
    """The rows of single prompts; none where each job has one prompt, whose row would only repeat the job's."""
    prompts = [row for row in rows if row.prompt_id is not None and row.verdict is not Verdict.INVALID]
    return [] if len(prompts) == len({row.job_id for row in prompts}) else prompts


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptTexts:
    """A prompt, and by what answered: its number of tokens (None of several streams) and the beginning of its text."""

    id: str
    prompt: str
    answers: dict[str, tuple[int | None, str]] = field(default_factory=dict)


def _prompt_texts(samples: pa.Table | None, jobs: Sequence[Comparison], record: SweepRecord) -> list[PromptTexts]:
    """The prompts with what vanilla and these jobs answered, as far as that was kept."""
    if samples is None or "answer" not in samples.column_names:
        return []
    labels, baselines = recorded_names(record).labels, record.baselines
    names = {baselines[job.job_id]: "vanilla" for job in jobs if job.job_id in baselines}
    names |= {job.job_id: labels.get(job.job_id, job.job_id) for job in jobs}
    asked = samples.filter(
        pc.and_(pc.is_valid(samples["answer"]), pc.is_in(samples["job_id"], pa.array(list(names), pa.string())))
    )
    found: dict[str, PromptTexts] = {}
    wanted = ["job_id", "prompt_id", "prompt", "predicted_tokens", "answer", "concurrency"]
    rows = asked.select([name for name in wanted if name in samples.column_names]).to_pylist()
    for row in sorted(rows, key=lambda row: list(names).index(row["job_id"])):
        texts = found.setdefault(row["prompt_id"], PromptTexts(id=row["prompt_id"] or "", prompt=row["prompt"] or ""))
        tokens = None if (row.get("concurrency") or 1) > 1 else row["predicted_tokens"] or 0
        texts.answers.setdefault(names[row["job_id"]], (tokens, row["answer"]))
    return list(found.values())[:MOST_PROMPTS]


def _where(where: Sequence[str], jobs: int) -> str:
    if jobs < 2:
        return ""
    if len(where) == jobs:
        return f"all, worst in {where[0].removesuffix(WORST)}" if where[0].endswith(WORST) else "all"
    return "; ".join(first_few(where, 6))


def _charts(
    comparisons: Sequence[Comparison], samples: pa.Table | None, advised: Collection[str], record: SweepRecord
) -> dict[str, list[Chart]]:
    """The charts by the section they stand in, in order."""
    rows = list(map(_safe_for_plotly, comparisons))
    jobs, baselines = whole_jobs(rows), record.baselines
    names = names_of(jobs)
    of_runs = {**{baselines[job]: label for job, label in names.vanilla.items() if job in baselines}, **names.labels}
    line = timeline(samples, of_runs) if samples is not None and samples.num_rows else None
    several, target = len(jobs) > 1, target_of(record, next(iter(advised), ""))
    best = [job for job in jobs if job.job_id in advised][:4] if several else []
    of_prompts: list[Chart | None] = []
    for number, job in enumerate(best):
        title = f"Speedup by prompt: {names.labels[job.job_id]}"
        of_prompts.append(prompts_chart(rows, job, f"prompts-{job.job_num}-{number}", title))
        of_prompts.append(prompt_heat_map(jobs, rows, job, f"prompt-heat-{number}"))
    found: dict[str, Iterable[Chart | None]] = {
        "main": [workload_chart(jobs, advised), main_chart(jobs, rows, target), decoding_chart(jobs, advised)],
        "results": [heat_map(jobs)],
        "acceptance": [acceptance_chart(jobs, advised)],
        "runs": [samples_chart(line), conditions_chart(line)] if line else [],
        "metrics": metric_charts(jobs) if several else [],
        "prompts": of_prompts,
    }
    return {section: [chart for chart in charts if chart is not None] for section, charts in found.items()}


_NAMES = (
    "model_pair", "main_model", "draft_model", "speculation", "prompt_set", "prompt_id", "prompt_category", "device",
)  # fmt: skip


def _safe_for_plotly(row: Comparison) -> Comparison:
    """The row with escaped names: Plotly interprets mark-up."""
    names = {name: value for name in _NAMES if (value := getattr(row, name))}
    changed: dict[str, Any] = {name: safe for name, value in names.items() if (safe := plot_text(value)) != value}
    settings = {key: plot_text(value) if isinstance(value, str) else value for key, value in row.settings.items()}
    return replace(row, settings=settings, **changed) if changed or settings != row.settings else row


def render_template(name: str, *, show_paths: bool, **values: object) -> str:
    """A page from our template of that name; the style sheet and the script go in as they are."""
    text = without_keys(_environment().get_template(name).render(**values))
    return text if show_paths else shorten_homes(text)


def prepare_page() -> None:
    """What every report takes that does not depend on results, so that theirs come sooner."""
    _environment().get_template("report.html.j2")
    plotly_script()


@lru_cache(maxsize=1)
def plotly_script() -> str:
    """plotly.js with the charts of Cartesian axes alone (npm's plotly.js-cartesian-dist-min), as base64 of gzip.

    Plain it would be most of a report.
    """
    packed = gzip.compress(template_text("plotly-cartesian.min.js").encode(), mtime=0)
    return base64.b64encode(packed).decode()


def _prose(text: str) -> "Markup":
    """A sentence in which no line breaks behind the hyphens of a flag, such as `--budget`, or before a unit: `95 %`."""
    from markupsafe import Markup, escape

    whole = re.sub(r"(?<=\d) (?=(?:%|tok/s|ms|s|min|h|MB|GB)(?!\w))", "\u00a0", str(escape(text)))
    return Markup(re.sub(r"(?<!\S)--[a-z][\w-]*", r'<span class="flag">\g<0></span>', whole))  # noqa: S704


def table_body(table: Table) -> "Markup":
    """A table's rows: made in the template, those of thousands of jobs took much of the time of a report.

    Their cells are a third of a large report: quotes and end tags that HTML does not ask for are left out.
    """
    from markupsafe import Markup, escape

    def html(cell: Cell, right: bool) -> str:
        kind = " class=num" if right else " class=whole" if cell.text[:1].isdigit() else ""
        if right and cell.value is not None:  # then the style sheet knows it for a figure; enough digits to sort by
            kind = f" data-v={rounded(cell.value):g}"
        text = str(escape(cell.text or ("–" if right else "")))
        return f"<td{kind}>" + (f'<span class="chip {cell.verdict}">{text}</span>' if cell.verdict else text)

    columns = [[html(cell, column.right) for cell in column.cells] for column in table.columns]
    starts = ['<tr class="best">' if row in table.advised else "<tr>" for row in range(len(columns[0]))]
    rows = zip(starts, *columns, strict=True)
    return Markup("".join(f"{start}{''.join(cells)}</tr>\n" for start, *cells in rows))  # noqa: S704


def template_text(name: str) -> str:
    """One of our templates as it is."""
    return resources.files("velosweep.reporting").joinpath(f"templates/{name}").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _environment() -> "Environment":
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(template_text),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"bytes_words": bytes_words, "join_words": join_words, "plural": plural}
    # A command in parts between which a line may break: each flag with its value.
    environment.filters["arguments"] = lambda command: re.split(r" (?=-)", command)
    environment.filters |= {"prose": _prose, "method": method_words, "body": table_body}
    environment.filters["hint_heading"] = hint_heading
    environment.globals["file"] = template_text
    return environment
