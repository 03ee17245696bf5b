"""`velosweep report --format …`: results for an issue, a sheet or a program, and the answer for servers."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence

import orjson
import pyarrow as pa

from velosweep.planning.job_settings import model_name
from velosweep.records import SweepRecord
from velosweep.reporting.deploy_formats import command_text, llama_swap_text, preset_text
from velosweep.reporting.escaping import csv_text, json_text, markdown_text, shorten_homes, terminal_text, without_keys
from velosweep.reporting.posted_rows import row_text
from velosweep.reporting.recommendation import recommend
from velosweep.reporting.result_tables import summary_table
from velosweep.reporting.sweep_answers import sweep_answers
from velosweep.reporting.table import markdown_lines
from velosweep.results.results_file import COLUMNS, results_to_table
from velosweep.statistics.comparison import Comparison


def _markdown(comparisons: list[Comparison], record: SweepRecord, samples: pa.Table | None = None) -> str:
    """What people post: the answer, the table, the command, and on what it was measured."""
    answers, here = sweep_answers(comparisons, record, samples), record.environment
    found, jobs = answers.recommendations, answers.jobs
    lines: list[str] = []
    for sentence in (*answers.builds, *(load.text for load in answers.loads)):
        lines += [f"**{markdown_text(sentence)}**", ""]
    for answer in found:
        question = f"{answer.question}: " if answer.question else ""
        words = " ".join(filter(None, (answer.sureness, answer.costs)))
        lines += [f"**{markdown_text(f'{question}{answer.headline}.')}** {markdown_text(words)}".rstrip(), ""]
    for _, sentence in answers.fastest:
        lines += [markdown_text(sentence), ""]
    if not comparisons:
        lines += ["Nothing has been measured yet.", ""]
    lines += [*markdown_lines(summary_table(answers)), ""] if jobs else []
    for answer in found:
        lines += ["```sh", terminal_text(answer.command), "```", ""] if answer.command else []
    models = {model.path: model.description for model in here.models}
    for what, paths in (("Main model", [job.main_model for job in jobs]), ("Draft", [job.draft_model for job in jobs])):
        for path in dict.fromkeys(filter(None, paths)):
            about = f" ({models[path]})" if models.get(path) else ""
            lines.append(f"- {what}: {markdown_text(f'{model_name(path)}{about}')}")
    devices = ", ".join(dict.fromkeys(device.name for device in here.devices)) or here.cpu
    lines.append(f"- {markdown_text(f'{devices}; llama.cpp {here.llama_cpp_build} ({here.engine}), {here.system}')}")
    asked = dict.fromkeys(f"prompts {job.prompt_set}, {job.n_predict} tokens" for job in jobs)
    lines += [f"- {markdown_text('; '.join([*asked, f'velosweep {here.velosweep}']))}"] if asked else []
    return "\n".join(lines) + "\n"


# The figure that screens show is the first speedup. No column is called `speedup`: that is the specification's ratio of
# means in results.parquet, and not what the screen calls so.
_CSV_COLUMNS = (
    "job_num", "job_id", "model_pair", "main_model", "draft_model", "speculation", "n_draft", "n_predict",
    "prompt_set", "prompt_id", "prompt_category", "host", "device", "engine", "llama_cpp_build", "n_pairs",
    "speedup_geometric_mean", "ci_low", "ci_high", "ci_method", "verdict", "speedup_ratio_of_means",
    "speedup_ratio_of_means_stddev", "cost_ratio", "expected_speedup", "vanilla_tokens_per_second",
    "speculative_tokens_per_second", "acceptance", "findings",
)  # fmt: skip
_IN_RESULTS = {
    "speedup_geometric_mean": "speedup_gm",
    "speedup_ratio_of_means": "speedup",
    "speedup_ratio_of_means_stddev": "speedup_stddev",
    "vanilla_tokens_per_second": "vanilla_tokens_per_second_mean",
    "speculative_tokens_per_second": "speculative_tokens_per_second_mean",
}


def _csv(comparisons: list[Comparison], _: SweepRecord) -> str:
    """All rows (jobs and prompts) with full precision; undefined cells are empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    table = results_to_table(comparisons, sweep_id="")
    names = (*_CSV_COLUMNS, *(name for name in table.column_names if name not in COLUMNS))  # what else was swept
    writer.writerow(names)
    for row in table.to_pylist():
        row["findings"] = "; ".join(row["findings"])
        cells = (row[_IN_RESULTS.get(name, name)] for name in names)
        writer.writerow([csv_text(cell) if isinstance(cell, str) else cell for cell in cells])
    return out.getvalue()


def _json(comparisons: list[Comparison], record: SweepRecord) -> str:
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
        for found in recommend(comparisons, record)
    ]
    options = orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z
    text = orjson.dumps({"answers": answers, "results": comparisons}, default=str, option=options).decode()
    return json_text(text) + "\n"


FORMATS: Mapping[str, Callable[[list[Comparison], SweepRecord], str]] = {
    "md": _markdown,
    "csv": _csv,
    "json": _json,
    "row": row_text,
    "command": command_text,
    "preset": preset_text,
    "llama-swap": llama_swap_text,
}
_FOR_PROGRAMS = ("command", "preset", "llama-swap")  # which don't know ~


def export(
    comparisons: Sequence[Comparison],
    record: SweepRecord,
    form: str,
    *,
    samples: pa.Table | None = None,
    show_paths: bool = False,
) -> str:
    """The results in one of FORMATS, ending with a newline. `samples`: by which baselines are compared.

    Home directories become `~` unless `show_paths` or a program is to read it. Jobs that failed have rows in Markdown
    alone. Raises NothingMeasured for a format that states the answer where there is none.
    """
    rows = list(comparisons)
    text = _markdown(rows, record, samples) if form == "md" else FORMATS[form](rows, record)
    if form in _FOR_PROGRAMS:
        return text
    return without_keys(text if show_paths else shorten_homes(text))
