"""What comparisons become: results.parquet, summary.json, the array of these; and a search's tuner.parquet.

results.parquet: one row a job and prompt (`prompt_id`), and one a job (`prompt_id` null). summary.json: exactly the
specification's object, keys in its order; what is undefined is null.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import timezone
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from velosweep.files import make_folder, read_bytes, replacing, write_text
from velosweep.planning.job_settings import settings_of
from velosweep.records import TunerDecision
from velosweep.results.parquet_files import WRITER, arrow_schema, columns_of
from velosweep.results.paths import JobPaths
from velosweep.results.setting_columns import varied_columns
from velosweep.statistics.comparison import Comparison, ModeStatistics
from velosweep.statistics.request_times import PERCENTILES
from velosweep.values import Mode

if TYPE_CHECKING:
    import pyarrow as pa

METRICS = ("tokens_per_second", "time_to_first_token_ms", "total_time_ms")
FIGURES = ("mean", "stddev", "min", "max")
_OF_MODES = {
    f"{mode}_{metric}_{figure}": f"{mode}.{metric}.{figure}"
    for mode in ("vanilla", "speculative")
    for metric in METRICS
    for figure in FIGURES
}

_OF_LATENCY = {
    f"{figure}_p{p}_ms{suffix}": f"{mode}_latency.{figure}_p{p}_ms"
    for suffix, mode in (("", "speculative"), ("_vanilla", "vanilla"))
    for figure in ("first_token", "between_tokens")
    for p in PERCENTILES
}

_OF_BUILDS = {
    f"build_{prefix}{figure}": f"beside_first.{mode}.{figure}"
    for prefix, mode in (("", "speculative"), ("vanilla_", "vanilla"))
    for figure in ("ratio", "low", "high")
}
_OF_REQUESTS = ("prefill_ratio", "prefill_low", "prefill_high", "total_ratio", "total_low", "total_high")
_GROUPED = (
    ("string", "sweep_id job_id"),
    ("int32", "job_num"),
    ("string", "model_pair main_model draft_model speculation"),
    ("int32", "n_draft n_predict"),
    ("string", "prompt_set prompt_id prompt prompt_category host device engine llama_cpp_build"),
    ("int32", "iterations n_pairs"),
    ("double", " ".join(_OF_MODES)),
    ("double", "speedup speedup_stddev speedup_gm ci_low ci_high"),
    ("string", "ci_method"),
    ("double", "acceptance acceptance_low acceptance_high alpha tokens_per_round cost_ratio expected_speedup"),
    ("string", "verdict"),
    ("list<string>", "findings"),
    # beyond the contract's list
    ("string", "acceptance_interval_unit"),
    ("list<double>", "acceptance_per_position"),
    ("double", "population_low population_high suite_speedup"),
    ("string", "worst_prompt"),
    ("double", "energy_j_per_token_vanilla energy_j_per_token_speculative"),
    ("timestamp[us, UTC]", "finished_at"),
    ("bool", "drafted"),
    ("int32", "concurrency depth"),
    ("double", " ".join(_OF_LATENCY)),
    ("double", "batch_tokens batch_cost draft_sync_cost draft_share verify_share"),
    ("string", "cost_source"),
    ("double", "depth_ms_vanilla depth_ms_speculative"),
    ("double", " ".join(_OF_REQUESTS)),
    ("int32", "breakeven_tokens"),
    ("int64", "memory_bytes_vanilla memory_bytes_speculative"),
    ("bool", "may_be_best"),
    ("double", "to_best_low to_best_high chosen_low"),
    ("string", "state"),
    ("int32", "turn"),
    ("string", "build_reference"),
    ("double", " ".join(_OF_BUILDS)),
    ("string", "build_method"),
    ("double", "answer_tokens_vanilla answer_tokens_speculative"),
)
COLUMNS: Mapping[str, str] = {name: kind for kind, names in _GROUPED for name in names.split()}
# Where a column's value stands in a Comparison, for those that are not an attribute of that name.
_PLACES = {
    **_OF_MODES,
    **_OF_LATENCY,
    **_OF_BUILDS,
    "build_reference": "beside_first.reference",
    "build_method": "beside_first.vanilla.method",
    "acceptance": "acceptance.rate",
    "acceptance_low": "acceptance.low",
    "acceptance_high": "acceptance.high",
    "alpha": "acceptance.alpha",
    "tokens_per_round": "acceptance.tokens_per_round",
    "acceptance_interval_unit": "acceptance.interval_unit",
    "acceptance_per_position": "acceptance.per_position",
    "verdict": "verdict.value",
    "batch_tokens": "decoding.batch",
    "batch_cost": "decoding.batch_cost",
    "draft_sync_cost": "decoding.sync_cost",
    "draft_share": "decoding.draft_share",
    "verify_share": "decoding.verify_share",
    **{name: f"request.{name}" for name in (*_OF_REQUESTS, "breakeven_tokens")},
}


def results_schema(metadata: Mapping[str, str] | None = None) -> "pa.Schema":
    """The columns of results.parquet, with `metadata` beside the schema's version."""
    return arrow_schema(COLUMNS, metadata)


def results_to_table(
    comparisons: Iterable[Comparison],
    *,
    sweep_id: str,
    metadata: Mapping[str, str] | None = None,
    states: Mapping[str, str] | None = None,
) -> "pa.Table":
    """Comparisons as a table in the order given; whatever other setting varies is a column at the end.

    `states`: how each job ended, by id.
    """
    import pyarrow as pa

    rows = list(comparisons)
    values: dict[str, list[Any]] = {"sweep_id": [sweep_id] * len(rows)}
    values["state"] = [(states or {}).get(row.job_id) for row in rows]
    at: dict[str, list[Any]] = {"": rows}  # columns share most of the way to their values

    def found(place: str) -> list[Any]:
        if place not in at:
            parent, _, attribute = place.rpartition(".")
            at[place] = [None if value is None else getattr(value, attribute) for value in found(parent)]
        return at[place]

    values |= {name: found(_PLACES.get(name, name)) for name in COLUMNS if name not in values}
    values["findings"] = [[str(finding) for finding in findings] for findings in values["findings"]]
    columns = dict(COLUMNS)
    for column in varied_columns({row.job_id: settings_of(row) for row in rows}, COLUMNS):
        values[column.name] = [column.values[row.job_id] for row in rows]
        columns[column.name] = column.kind
    wanted = arrow_schema(columns, metadata)
    return pa.Table.from_arrays([pa.array(values[field.name], field.type) for field in wanted], schema=wanted)


def write_results(
    path: Path,
    comparisons: Iterable[Comparison],
    *,
    sweep_id: str,
    metadata: Mapping[str, str] | None = None,
    states: Mapping[str, str] | None = None,
) -> None:
    """Write atomically; the same comparisons give the same bytes. Raises StorageError."""
    import pyarrow.parquet as pq

    table = results_to_table(comparisons, sweep_id=sweep_id, metadata=metadata, states=states)
    with replacing(path) as beside, pq.ParquetWriter(beside, table.schema, **WRITER) as writer:
        writer.write_table(table)


def write_decisions(path: Path, decisions: Sequence[TunerDecision]) -> None:
    """Write tuner.parquet: one row a decision of a search, in order; atomically. Raises StorageError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([asdict(decision) for decision in decisions], arrow_schema(columns_of(TunerDecision)))
    with replacing(path) as beside:
        pq.write_table(table, beside)


def summary(comparison: Comparison, *, iterations: int) -> dict[str, Any]:
    """The specification's object for a job, or for one prompt of it.

    `iterations`: as asked for. `config.prompt` is the prompt, or the set's name for a set of several.
    """
    finished = comparison.finished_at and comparison.finished_at.astimezone(timezone.utc)
    return {
        "config": {
            "main_model": comparison.main_model,
            "draft_model": comparison.draft_model,
            "n_draft": comparison.n_draft,
            "n_predict": comparison.n_predict,
            "prompt": comparison.prompt if comparison.prompt is not None else comparison.prompt_set,
            "iterations": iterations,
        },
        "vanilla": _mode(Mode.VANILLA, comparison.vanilla),
        "speculative": _mode(Mode.SPECULATIVE, comparison.speculative),
        "speedup": comparison.speedup,
        "speedup_stddev": comparison.speedup_stddev,
        "timestamp": finished and finished.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _mode(mode: Mode, statistics: ModeStatistics | None) -> dict[str, Any] | None:
    if statistics is None:
        return None
    figures = {
        metric: {figure: getattr(getattr(statistics, metric), figure) for figure in (*FIGURES, "samples")}
        for metric in METRICS
    }
    return {"mode": mode.value, **figures}


def to_json(value: object, *, indent: int = 0) -> str:
    """JSON laid out as the specification prints it: two spaces, numbers on one line.

    `value`: an object with plain keys, numbers, or one scalar.

    Raises ValueError for a figure that is not finite.
    """
    if type(value) is float and isfinite(value):
        return repr(value)  # as json has it, in a tenth of the time
    if isinstance(value, dict):
        margin = " " * (indent + 2)
        items = [f'{margin}"{key}": {to_json(item, indent=indent + 2)}' for key, item in value.items()]
        return "{\n" + ",\n".join(items) + "\n" + " " * indent + "}"
    if isinstance(value, (list, tuple)):
        line = orjson.dumps(value)  # there may be millions: a tenth of the time that json takes
        if b"n" in line:  # null, which orjson makes of NaN and infinity
            raise ValueError("Out of range float values are not JSON compliant")
        return line.replace(b",", b", ").decode()
    return _encode(value)


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def write_job_summaries(paths: JobPaths, rows: Sequence[Comparison], *, iterations: int) -> None:
    """Write a job's summary.json, and prompts/<id>.json where its set has several.

    `rows`: the job's comparisons, of which one is the job's own (`prompt_id` None), else nothing is written. The files
    can be derived again from the samples, so they are moved into place but not synced. Raises StorageError.
    """
    own = [row for row in rows if row.prompt_id is None]
    for row in rows if own and len(rows) > 2 else own:
        path = paths.summary if row.prompt_id is None else paths.prompt(row.prompt_id)
        make_folder(path.parent)
        write_text(path, to_json(summary(row, iterations=iterations)) + "\n", durable=False)


def write_summary_array(path: Path, files: Iterable[Path], *, durable: bool = True) -> None:
    """Write the array of the summaries in `files`, one in memory at a time. Raises StorageError."""
    with replacing(path, durable=durable) as beside, beside.open("wb") as array:
        array.write(b"[")
        for number, file in enumerate(files):
            # Texts in JSON hold no line ends: these are the layout's.
            array.write((b",\n  " if number else b"\n  ") + read_bytes(file).rstrip(b"\n").replace(b"\n", b"\n  "))
        array.write(b"\n]\n" if array.tell() > len(b"[") else b"]\n")
