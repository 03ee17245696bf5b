"""tuner.parquet: every decision of a search for the best setting, with its evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from velosweep.files import replacing
from velosweep.records import TunerDecision
from velosweep.results.parquet_schema import file_metadata

_TYPES = {"category": "string", "phase": "string", "job_id": "string", "reason": "string", "kept": "bool_"}
_TYPES |= {"round": "int32", "job_num": "int32", "n_draft": "int32"}


def write_decisions(path: Path, decisions: Sequence[TunerDecision]) -> None:
    """One row a decision, in order; written atomically. Raises StorageError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [(column.name, getattr(pa, _TYPES.get(column.name, "float64"))()) for column in fields(TunerDecision)]
    schema = pa.schema(columns).with_metadata(file_metadata())
    table = pa.Table.from_pylist([asdict(decision) for decision in decisions], schema=schema)
    with replacing(path) as beside:
        pq.write_table(table, beside)
