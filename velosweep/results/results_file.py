"""results.parquet: one row a job and prompt (`prompt_id`), and one a job (`prompt_id` null)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velosweep.files import replacing
from velosweep.results.parquet_schema import WRITER, arrow_type, file_metadata
from velosweep.statistics.comparison import Comparison

if TYPE_CHECKING:
    import pyarrow as pa

METRICS = ("tokens_per_second", "time_to_first_token_ms", "total_time_ms")
FIGURES = ("mean", "stddev", "min", "max")


def _columns() -> dict[str, tuple[str, str]]:
    """name -> (type, where it stands in a Comparison), in the file's order."""
    of_modes = {
        f"{mode}_{metric}_{figure}": ("double", f"{mode}.{metric}.{figure}")
        for mode in ("vanilla", "speculative")
        for metric in METRICS
        for figure in FIGURES
    }
    return {
        **_own("string", "job_id"),
        **_own("int32", "job_num"),
        **_own("string", "model_pair", "main_model", "draft_model", "speculation"),
        **_own("int32", "n_draft", "n_predict"),
        **_own("string", "prompt_set", "prompt_id", "prompt", "prompt_category"),
        **_own("string", "host", "device", "engine", "llama_cpp_build"),
        **_own("int32", "iterations", "n_pairs"),
        **of_modes,
        **_own("double", "speedup", "speedup_stddev", "speedup_gm", "ci_low", "ci_high"),
        **_own("string", "ci_method"),
        "acceptance": ("double", "acceptance.rate"),
        "acceptance_low": ("double", "acceptance.low"),
        "acceptance_high": ("double", "acceptance.high"),
        "alpha": ("double", "acceptance.alpha"),
        "tokens_per_round": ("double", "acceptance.tokens_per_round"),
        **_own("double", "cost_ratio", "expected_speedup"),
        **_own("string", "verdict"),
        **_own("list<string>", "findings"),
        # beyond the contract's list
        "acceptance_interval_unit": ("string", "acceptance.interval_unit"),
        "acceptance_per_position": ("list<double>", "acceptance.per_position"),
        **_own("double", "population_low", "population_high", "suite_speedup"),
        **_own("string", "worst_prompt"),
        **_own("double", "energy_j_per_token_vanilla", "energy_j_per_token_speculative"),
        **_own("timestamp[us, UTC]", "finished_at"),
    }


def _own(kind: str, *names: str) -> dict[str, tuple[str, str]]:
    return {name: (kind, name) for name in names}


_COLUMNS = _columns()
COLUMNS: Mapping[str, str] = {"sweep_id": "string", **{name: kind for name, (kind, _) in _COLUMNS.items()}}


def schema(metadata: Mapping[str, str] | None = None) -> pa.Schema:
    """The columns of results.parquet, with `metadata` beside the schema's version."""
    import pyarrow as pa

    columns = [(name, arrow_type(kind)) for name, kind in COLUMNS.items()]
    return pa.schema(columns).with_metadata(file_metadata(metadata))


def results_to_table(
    comparisons: Iterable[Comparison], *, sweep_id: str, metadata: Mapping[str, str] | None = None
) -> pa.Table:
    """Comparisons as a table in the order given."""
    import pyarrow as pa

    rows = list(comparisons)
    columns: list[Any] = [pa.array([sweep_id] * len(rows), type=pa.string())]
    for kind, place in _COLUMNS.values():
        columns.append(pa.array(_values(rows, place), type=arrow_type(kind)))
    return pa.Table.from_arrays(columns, schema=schema(metadata))


def write_results(
    path: Path, comparisons: Iterable[Comparison], *, sweep_id: str, metadata: Mapping[str, str] | None = None
) -> None:
    """Write atomically; the same comparisons give the same bytes. Raises StorageError."""
    import pyarrow.parquet as pq

    table = results_to_table(comparisons, sweep_id=sweep_id, metadata=metadata)
    with replacing(path) as beside, pq.ParquetWriter(beside, table.schema, **WRITER) as writer:
        writer.write_table(table)


def _values(comparisons: Sequence[Comparison], place: str) -> list[Any]:
    """The values at `place`, an attribute's path; None where one on the way is None."""
    values: list[Any] = list(comparisons)
    for name in place.split("."):
        values = [None if value is None else getattr(value, name) for value in values]
    if place == "verdict":
        return [verdict.value for verdict in values]
    if place == "findings":
        return [[str(finding) for finding in findings] for findings in values]
    return values
