"""results.parquet: one row a job and prompt (`prompt_id`), and one a job (`prompt_id` null)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velosweep.files import replacing
from velosweep.results.parquet_schema import WRITER, arrow_type, file_metadata
from velosweep.results.samples_file import read_parquet
from velosweep.statistics.comparison import Acceptance, Comparison, ModeStatistics

if TYPE_CHECKING:
    import pyarrow as pa

METRICS = ("tokens_per_second", "time_to_first_token_ms", "total_time_ms")
FIGURES = ("mean", "stddev", "min", "max")

Value = Callable[[Comparison], object]


def _attribute(name: str) -> Value:
    return lambda comparison: getattr(comparison, name)


def _statistic(mode: str, metric: str, figure: str) -> Value:
    def value(comparison: Comparison) -> object:
        statistics: ModeStatistics | None = getattr(comparison, mode)
        return None if statistics is None else getattr(getattr(statistics, metric), figure)

    return value


def _acceptance(name: str) -> Value:
    def value(comparison: Comparison) -> object:
        acceptance: Acceptance | None = comparison.acceptance
        return None if acceptance is None else getattr(acceptance, name)

    return value


def _own(kind: str, *names: str) -> dict[str, tuple[str, Value]]:
    return {name: (kind, _attribute(name)) for name in names}


def _of_modes() -> dict[str, tuple[str, Value]]:
    return {
        f"{mode}_{metric}_{figure}": ("double", _statistic(mode, metric, figure))
        for mode in ("vanilla", "speculative")
        for metric in METRICS
        for figure in FIGURES
    }


_ACCEPTANCE: dict[str, tuple[str, Value]] = {
    "acceptance": ("double", _acceptance("rate")),
    "acceptance_low": ("double", _acceptance("low")),
    "acceptance_high": ("double", _acceptance("high")),
    "alpha": ("double", _acceptance("alpha")),
    "tokens_per_round": ("double", _acceptance("tokens_per_round")),
}

# name -> (type, where it comes from), in the file's order
_COLUMNS: dict[str, tuple[str, Value]] = {
    **_own("string", "job_id"),
    **_own("int32", "job_num"),
    **_own("string", "model_pair", "main_model", "draft_model", "speculation"),
    **_own("int32", "n_draft", "n_predict"),
    **_own("string", "prompt_set", "prompt_id", "prompt", "prompt_category"),
    **_own("string", "host", "device", "engine", "llama_cpp_build"),
    **_own("int32", "iterations", "n_pairs"),
    **_of_modes(),
    **_own("double", "speedup", "speedup_stddev", "speedup_gm", "ci_low", "ci_high"),
    **_own("string", "ci_method"),
    **_ACCEPTANCE,
    **_own("double", "cost_ratio", "expected_speedup"),
    "verdict": ("string", lambda comparison: comparison.verdict.value),
    "findings": ("list<string>", lambda comparison: [str(finding) for finding in comparison.findings]),
    # beyond the contract's list
    "acceptance_interval_unit": ("string", _acceptance("interval_unit")),
    "acceptance_per_position": ("list<double>", _acceptance("per_position")),
    **_own("double", "population_low", "population_high", "suite_speedup"),
    **_own("string", "worst_prompt"),
    **_own("double", "energy_j_per_token_vanilla", "energy_j_per_token_speculative"),
    **_own("timestamp[us, UTC]", "finished_at"),
}

COLUMNS: Mapping[str, str] = {"sweep_id": "string", **{name: kind for name, (kind, _) in _COLUMNS.items()}}


def schema(metadata: Mapping[str, str] | None = None) -> pa.Schema:
    """The columns of results.parquet, with `metadata` beside the schema's version."""
    import pyarrow as pa

    columns = [(name, arrow_type(kind)) for name, kind in COLUMNS.items()]
    return pa.schema(columns).with_metadata(file_metadata(metadata))


def results_to_table(
    comparisons: Sequence[Comparison], *, sweep_id: str, metadata: Mapping[str, str] | None = None
) -> pa.Table:
    """Comparisons as a table in the order given."""
    import pyarrow as pa

    columns: list[Any] = [pa.array([sweep_id] * len(comparisons), type=pa.string())]
    for kind, value in _COLUMNS.values():
        columns.append(pa.array([value(comparison) for comparison in comparisons], type=arrow_type(kind)))
    return pa.Table.from_arrays(columns, schema=schema(metadata))


def write_results(
    path: Path, comparisons: Sequence[Comparison], *, sweep_id: str, metadata: Mapping[str, str] | None = None
) -> None:
    """Write atomically; the same comparisons give the same bytes. Raises StorageError."""
    table = results_to_table(comparisons, sweep_id=sweep_id)
    write_result_tables(path, [table], range(table.num_rows), metadata=metadata)


def write_result_tables(
    path: Path, tables: Sequence[pa.Table], order: Sequence[int], *, metadata: Mapping[str, str] | None = None
) -> None:
    """As `write_results`, from the rows of several tables (`results_to_table`), of which `order` gives the places."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = schema(metadata)
    rows = pa.concat_tables([schema().empty_table(), *tables])
    if list(order) != list(range(rows.num_rows)):
        rows = rows.take(pa.array(order))
    with replacing(path) as beside, pq.ParquetWriter(beside, wanted, **WRITER) as writer:
        # Chunks decide where pages end, and would make the bytes depend on how the rows came.
        writer.write_table(rows.combine_chunks().cast(wanted))


def read_results(path: Path) -> pa.Table:
    """The rows as they are. Raises StorageError for a damaged file, SchemaError for a newer program's."""
    return read_parquet(path)
