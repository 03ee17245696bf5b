"""`velosweep report --format md|csv|json`: the results table for pasting into an issue, a sheet or a program."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from enum import Enum

from velosweep.records import SweepRecord
from velosweep.reporting.answer import Answer
from velosweep.reporting.results_table import job_columns, reasons_of_failed, with_failed
from velosweep.reporting.safe import csv_text, markdown_text, shorten_homes
from velosweep.reporting.wording import whole_jobs
from velosweep.statistics.comparison import Comparison

FORMATS = ("md", "csv", "json")


def export(
    comparisons: Iterable[Comparison],
    answered: Iterable[Answer],
    form: str,
    *,
    record: SweepRecord | None = None,
    show_paths: bool = False,
) -> str:
    """The results in one of FORMATS, ending with a newline. Raises ValueError for another format.

    Home directories become `~` unless `show_paths`. `record` names jobs that failed, which then have rows in md.
    """
    rows, told = list(comparisons), list(answered)
    writers = {
        "md": lambda: _markdown(rows, told, record),
        "csv": lambda: _csv(rows),
        "json": lambda: _json(rows, told),
    }
    if form not in writers:
        raise ValueError(f"no format {form!r}; use one of {', '.join(FORMATS)}")
    text = writers[form]()
    return text if show_paths else shorten_homes(text)


def _markdown(comparisons: list[Comparison], answered: list[Answer], record: SweepRecord | None) -> str:
    lines = []
    for answer in answered:
        question = f"{answer.question}: " if answer.question else ""
        lines += [f"**{markdown_text(question + answer.headline)}**", ""]
        lines += [line for advice in answer.against for line in (f"- {markdown_text(advice.sentence)}",)]
        lines += ["```", answer.command, "```", ""] if answer.command else []
        lines += [markdown_text(f"Rests on {answer.rests_on}"), ""] if answer.rests_on else []
    if not comparisons:
        lines.append("Nothing has been measured yet.")
    jobs = whole_jobs(comparisons)
    shown = with_failed(jobs, record) if record else jobs
    failed = reasons_of_failed(record) if record else {}
    columns = [column for column in job_columns(shown, failed=failed) if any(column.cells)]
    if columns:
        lines.append(f"| {' | '.join(markdown_text(column.title) for column in columns)} |")
        lines.append(f"|{'|'.join('---:' if column.right else '---' for column in columns)}|")
        cells = zip(*(column.cells for column in columns), strict=True)
        lines += [f"| {' | '.join(markdown_text(cell) for cell in row)} |" for row in cells]
    return "\n".join(lines) + "\n"


# Column -> the comparison's field, the figure that screens show first. No column is called `speedup`: that is the
# specification's ratio of means in results.parquet, and not what the screen calls so.
_CSV_FIELDS = {
    **{name: name for name in (
        "job_num", "job_id", "model_pair", "main_model", "draft_model", "speculation", "n_draft", "n_predict",
        "prompt_set", "prompt_id", "prompt_category", "host", "device", "engine", "llama_cpp_build", "n_pairs",
    )},
    "speedup_geometric_mean": "speedup_gm",
    **{name: name for name in ("ci_low", "ci_high", "ci_method", "verdict")},
    "speedup_ratio_of_means": "speedup",
    "speedup_ratio_of_means_stddev": "speedup_stddev",
    **{name: name for name in ("cost_ratio", "expected_speedup")},
}  # fmt: skip


def _csv(comparisons: list[Comparison]) -> str:
    """All rows (jobs and prompts) with full precision; undefined cells are empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    means = ("vanilla_tokens_per_second", "speculative_tokens_per_second", "acceptance", "findings")
    writer.writerow([*_CSV_FIELDS, *means])
    for row in comparisons:
        values = (getattr(row, name) for name in _CSV_FIELDS.values())
        writer.writerow([_cell(value) for value in (*values, *_extra(row))])
    return out.getvalue()


def _extra(row: Comparison) -> tuple[object, ...]:
    return (
        row.vanilla.tokens_per_second.mean if row.vanilla else None,
        row.speculative.tokens_per_second.mean if row.speculative else None,
        row.acceptance.rate if row.acceptance else None,
        "; ".join(str(finding) for finding in row.findings),
    )


def _cell(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return repr(value)
    return csv_text(value) if isinstance(value, str) else value


def _json(comparisons: list[Comparison], answered: list[Answer]) -> str:
    """`{"answers": […], "results": […]}`; results are the comparisons, field by field."""
    described = [
        {
            "question": answer.question,
            "kind": answer.kind,
            "headline": answer.headline,
            "job_id": answer.job.job_id if answer.job else None,
            "command": answer.command,
            "rests_on": answer.rests_on,
            "ties": answer.ties,
            "by_category": answer.by_category,
            "against": [advice.sentence for advice in answer.against],
        }
        for answer in answered
    ]
    rows = [asdict(row) for row in comparisons]
    return json.dumps({"answers": described, "results": rows}, indent=2, default=_plain, ensure_ascii=False) + "\n"


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value)
