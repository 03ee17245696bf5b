"""`velosweep report --format md|csv|json`: the results table for pasting into an issue, a sheet or a program."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime

from velosweep.records import SweepRecord
from velosweep.reporting.escaping import csv_text, markdown_text, shorten_homes
from velosweep.reporting.recommendation import Recommendation, recommend
from velosweep.reporting.result_tables import job_table, with_failed
from velosweep.reporting.table import markdown_lines
from velosweep.reporting.wording import whole_jobs
from velosweep.results.results_file import results_to_table
from velosweep.statistics.comparison import Comparison

FORMATS = ("md", "csv", "json")


def export(comparisons: Iterable[Comparison], record: SweepRecord, form: str, *, show_paths: bool = False) -> str:
    """The results in one of FORMATS, ending with a newline. Raises ValueError for another format.

    Home directories become `~` unless `show_paths`. Jobs that failed have rows in Markdown alone.
    """
    rows = list(comparisons)
    if form == "md":
        text = _markdown(rows, record)
    elif form == "csv":
        text = _csv(rows)
    elif form == "json":
        text = _json(rows, recommend(rows, record))
    else:
        raise ValueError(f"no format {form!r}; use one of {', '.join(FORMATS)}")
    return text if show_paths else shorten_homes(text)


def _markdown(comparisons: list[Comparison], record: SweepRecord) -> str:
    lines = []
    for found in recommend(comparisons, record):
        question = f"{found.question}: " if found.question else ""
        lines += [f"**{markdown_text(question + found.headline)}**", ""]
        lines += [f"- {markdown_text(advice.sentence)}" for advice in found.against]
        lines += ["```", found.command, "```", ""] if found.command else []
        lines += [markdown_text(f"Rests on {found.rests_on}"), ""] if found.rests_on else []
    if not comparisons:
        lines.append("Nothing has been measured yet.")
    lines += markdown_lines(job_table(with_failed(whole_jobs(comparisons), record), record))
    return "\n".join(lines) + "\n"


# Column -> that of results.parquet; the figure that screens show first. No column is called `speedup`: that is the
# specification's ratio of means in results.parquet, and not what the screen calls so.
_CSV_COLUMNS = {
    **{name: name for name in (
        "job_num", "job_id", "model_pair", "main_model", "draft_model", "speculation", "n_draft", "n_predict",
        "prompt_set", "prompt_id", "prompt_category", "host", "device", "engine", "llama_cpp_build", "n_pairs",
    )},
    "speedup_geometric_mean": "speedup_gm",
    **{name: name for name in ("ci_low", "ci_high", "ci_method", "verdict")},
    "speedup_ratio_of_means": "speedup",
    "speedup_ratio_of_means_stddev": "speedup_stddev",
    **{name: name for name in ("cost_ratio", "expected_speedup")},
    "vanilla_tokens_per_second": "vanilla_tokens_per_second_mean",
    "speculative_tokens_per_second": "speculative_tokens_per_second_mean",
    **{name: name for name in ("acceptance", "findings")},
}  # fmt: skip


def _csv(comparisons: list[Comparison]) -> str:
    """All rows (jobs and prompts) with full precision; undefined cells are empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for row in results_to_table(comparisons, sweep_id="").to_pylist():
        writer.writerow([_csv_cell(row[name]) for name in _CSV_COLUMNS.values()])
    return out.getvalue()


def _csv_cell(value: object) -> object:
    if isinstance(value, list):
        value = "; ".join(value)
    return csv_text(value) if isinstance(value, str) else value


def _json(comparisons: list[Comparison], recommendations: Sequence[Recommendation]) -> str:
    """`{"answers": […], "results": […]}`; results are the comparisons, field by field."""
    answers = [
        {
            "question": found.question,
            "kind": found.kind,
            "headline": found.headline,
            "job_id": found.job.job_id if found.job else None,
            "command": found.command,
            "rests_on": found.rests_on,
            "ties": found.ties,
            "by_category": found.by_category,
            "against": [advice.sentence for advice in found.against],
        }
        for found in recommendations
    ]
    value = {"answers": answers, "results": [asdict(row) for row in comparisons]}
    return json.dumps(value, indent=2, default=_json_value, ensure_ascii=False) + "\n"


def _json_value(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value)
