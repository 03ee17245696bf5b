"""results.parquet: one row a job and prompt (`prompt_id`), and one a job (`prompt_id` null). And tuner.parquet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velosweep.files import replacing
from velosweep.records import TunerDecision
from velosweep.results.parquet_files import WRITER, arrow_schema, columns_of
from velosweep.statistics.comparison import Comparison

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
)
COLUMNS: Mapping[str, str] = {name: kind for kind, names in _GROUPED for name in names.split()}
# Where a column's value stands in a Comparison, for those that are not an attribute of that name.
_PLACES = {
    **_OF_MODES,
    "acceptance": "acceptance.rate",
    "acceptance_low": "acceptance.low",
    "acceptance_high": "acceptance.high",
    "alpha": "acceptance.alpha",
    "tokens_per_round": "acceptance.tokens_per_round",
    "acceptance_interval_unit": "acceptance.interval_unit",
    "acceptance_per_position": "acceptance.per_position",
    "verdict": "verdict.value",
}


def schema(metadata: Mapping[str, str] | None = None) -> pa.Schema:
    """The columns of results.parquet, with `metadata` beside the schema's version."""
    return arrow_schema(COLUMNS, metadata)


def results_to_table(
    comparisons: Iterable[Comparison], *, sweep_id: str, metadata: Mapping[str, str] | None = None
) -> pa.Table:
    """Comparisons as a table in the order given."""
    import pyarrow as pa

    rows = list(comparisons)
    values: dict[str, list[Any]] = {"sweep_id": [sweep_id] * len(rows)}
    for name in list(COLUMNS)[1:]:
        found: list[Any] = rows
        for attribute in _PLACES.get(name, name).split("."):
            found = [None if value is None else getattr(value, attribute) for value in found]
        values[name] = found
    values["findings"] = [[str(finding) for finding in findings] for findings in values["findings"]]
    wanted = schema(metadata)
    return pa.Table.from_arrays([pa.array(values[field.name], field.type) for field in wanted], schema=wanted)


def write_results(
    path: Path, comparisons: Iterable[Comparison], *, sweep_id: str, metadata: Mapping[str, str] | None = None
) -> None:
    """Write atomically; the same comparisons give the same bytes. Raises StorageError."""
    import pyarrow.parquet as pq

    table = results_to_table(comparisons, sweep_id=sweep_id, metadata=metadata)
    with replacing(path) as beside, pq.ParquetWriter(beside, table.schema, **WRITER) as writer:
        writer.write_table(table)


def write_decisions(path: Path, decisions: Sequence[TunerDecision]) -> None:
    """Write tuner.parquet: one row a decision of a search, in order; atomically. Raises StorageError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([asdict(decision) for decision in decisions], arrow_schema(columns_of(TunerDecision)))
    with replacing(path) as beside:
        pq.write_table(table, beside)
