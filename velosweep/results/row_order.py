"""The order of rows: one that depends on the rows alone, so that the same runs give the same bytes."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

# What decides a row's place, and all that has to be read to know it.
KEYS = ("job_id", "started_at", "lane", "order", "iteration")


def in_canonical_order(table: pa.Table) -> pa.Table:
    """The same rows in an order that depends on them alone: not on which lane or process brought them first.

    Rows of one `job_id` stand together in the order they were taken; job_ids follow one another by their
    first run, so that jobs stand beside the vanilla runs they share and filters skip whole row groups.
    """
    places = canonical_places(table)
    return table if is_sorted(places) else table.take(places)


def canonical_places(table: pa.Table) -> Any:
    """The places of a table's rows (its KEYS are enough) in canonical order."""
    import numpy as np

    keys = [numbers(table, key, missing=-1) for key in ("iteration", "order", "lane") if key in table.column_names]
    return np.lexsort((*keys, _started(table), _owner_ranks(table)))


def is_sorted(places: Any) -> bool:
    """Whether each place is behind the one before."""
    return bool((places[1:] > places[:-1]).all())


def numbers(table: pa.Table, name: str, *, missing: int) -> Any:
    """A column of integers as numpy, `missing` for null."""
    column: Any = table[name]
    return column.fill_null(missing).to_numpy()


def _started(table: pa.Table) -> Any:
    import pyarrow as pa

    column: Any = table["started_at"]
    return column.cast(pa.int64()).fill_null(0).to_numpy()


def _owner_ranks(table: pa.Table) -> Any:
    """For each row the place of its `job_id` among all, by first run and then by name."""
    import numpy as np

    codes, names = owners(table)
    first = np.full(len(names), np.iinfo(np.int64).max)
    np.minimum.at(first, codes, _started(table))
    by_time = sorted(range(len(names)), key=lambda code: (int(first[code]), names[code]))
    ranks = np.empty(len(names), dtype=np.int32)
    ranks[by_time] = np.arange(len(names), dtype=np.int32)
    return ranks[codes]


def owners(table: pa.Table) -> tuple[Any, list[str]]:
    """`job_id` as (an integer a row, what it stands for)."""
    column = _encoded(table).combine_chunks()
    return column.indices.to_numpy(), column.dictionary.to_pylist()


def _encoded(table: pa.Table) -> Any:
    column: Any = table["job_id"]
    return column.fill_null("").dictionary_encode()


def owner_ranges(ordered: pa.Table) -> dict[str, tuple[int, int]]:
    """Where each `job_id` stands in a table in canonical order: (first row, number of rows).

    Raises ValueError where rows of one do not stand together.
    """
    import numpy as np

    ranges: dict[str, tuple[int, int]] = {}
    row = 0
    for chunk in _encoded(ordered).chunks:
        codes, names = chunk.indices.to_numpy(), chunk.dictionary.to_pylist()
        edges = [0, *(np.flatnonzero(codes[1:] != codes[:-1]) + 1).tolist(), len(codes)]
        for begin, end in pairwise(edges):
            if end == begin:
                continue
            name = names[codes[begin]]
            first, count = ranges.get(name, (row, 0))
            if first + count != row:
                raise ValueError(f"rows of job_id {name} do not stand together")
            ranges[name] = (first, count + end - begin)
            row += end - begin
    return ranges
