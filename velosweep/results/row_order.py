"""The order of rows: one that depends on the rows alone, so that the same runs give the same bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# What decides a row's place, and all that has to be read to know it.
KEYS = ("job_id", "started_at", "lane", "order", "iteration")


def in_canonical_order(table: pa.Table) -> pa.Table:
    """The same rows in an order that depends on them alone: not on which lane or process brought them first.

    Rows of one `job_id` stand together in the order they were taken; job_ids follow one another by their
    first run, so that jobs stand beside the vanilla runs they share and filters skip whole row groups.
    """
    places = canonical_places(table)
    return table if (places[1:] > places[:-1]).all() else table.take(places)


def canonical_places(table: pa.Table) -> Any:
    """The places of a table's rows (its KEYS are enough) in canonical order."""
    keys = [numbers(table, key, missing=-1) for key in ("iteration", "order", "lane") if key in table.column_names]
    started: Any = table["started_at"].cast(pa.int64())
    started = started.fill_null(0).to_numpy()
    # Owners stand in the order of their first runs, then of their names.
    encoded = _owners(table).dictionary_encode()
    codes, names = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
    first = np.full(len(names), np.iinfo(np.int64).max)
    np.minimum.at(first, codes, started)
    by_time = sorted(range(len(names)), key=lambda code: (int(first[code]), names[code]))
    ranks = np.empty(len(names), dtype=np.int32)
    ranks[by_time] = np.arange(len(names), dtype=np.int32)
    return np.lexsort((*keys, started, ranks[codes]))


def numbers(table: pa.Table, name: str, *, missing: int) -> Any:
    """A column of integers as numpy, `missing` for null."""
    column: Any = table[name]
    return column.fill_null(missing).to_numpy()


def owner_ranges(ordered: pa.Table) -> dict[str, tuple[int, int]]:
    """Where each `job_id` stands in a table in canonical order: (first row, number of rows).

    Raises ValueError where rows of one do not stand together.
    """
    runs: Any = pc.call_function("run_end_encode", [_owners(ordered)])
    ranges: dict[str, tuple[int, int]] = {}
    begin = 0
    for name, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        if name in ranges:
            raise ValueError(f"rows of job_id {name} do not stand together")
        ranges[name] = (begin, end - begin)
        begin = end
    return ranges


def _owners(table: pa.Table) -> Any:
    column: Any = table["job_id"]
    return column.fill_null("").combine_chunks()
