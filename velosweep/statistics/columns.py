"""The columns of samples as numpy arrays: numbers with NaN for null, texts as codes into their vocabulary.

Tolerant of tables written by other programs: only the required columns must be there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from velosweep.errors import StorageError
from velosweep.values import NEEDED_COLUMNS

T = TypeVar("T")

_MOST = 1e15  # milliseconds, joules, whatever: squares and sums of it are numbers still


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A text column: `codes[i]` indexes `values`, -1 for null."""

    codes: Any
    values: tuple[str, ...]

    def at(self, row: int) -> str | None:
        """The text of one row, None for null."""
        code = int(self.codes[row])
        return None if code < 0 else self.values[code]

    def code(self, value: str) -> int:
        """The code of a text, -2 where no row has it."""
        return self.values.index(value) if value in self.values else -2


class Columns:
    """A table of samples, column by column as arrays, each made when it is first asked for."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self._arrays: dict[tuple[str, object], Any] = {}

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def has(self, name: str) -> bool:
        """Whether the column is there with at least one value."""
        return self._cached_array(
            (name, "has"), lambda: name in self.table.column_names and self.table[name].null_count < len(self)
        )

    def _cached_array(self, key: tuple[str, object], make: Callable[[], T]) -> T:
        if key not in self._arrays:
            self._arrays[key] = make()
        found: T = self._arrays[key]
        return found

    def number(self, name: str) -> Any:
        """float64 with NaN for null, for a float beyond all measure, and where the column is missing."""
        return self._cached_array((name, "number"), lambda: self._measured(name))

    def _measured(self, name: str) -> Any:
        found = self._filled(name, pa.float64(), float("nan"))
        if self.has(name) and pa.types.is_integer(self.table[name].type):
            return found
        return np.where(np.abs(found) <= _MOST, found, np.nan)

    def integer(self, name: str, default: int = 0) -> Any:
        """int64 with `default` for null and for a missing column."""
        return self._cached_array((name, default), lambda: self._filled(name, pa.int64(), default))

    def microseconds(self, name: str) -> Any:
        """A timestamp column as int64 microseconds since 1970 UTC; the least int64 for null or missing."""
        return self._cached_array((name, "us"), lambda: self._filled(name, pa.timestamp("us", tz="UTC"), -(2**63)))

    def _filled(self, name: str, kind: Any, default: float) -> Any:
        if not self.has(name):
            return np.broadcast_to(np.float64(default) if isinstance(default, float) else np.int64(default), len(self))
        column: Any = self.table[name]
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.int8())
        column = column.cast(kind, safe=kind == pa.int64())  # a float is near enough, of any size
        if pa.types.is_timestamp(kind):
            column = column.cast(pa.int64())
        fill_null: Any = pc.fill_null
        return fill_null(column, default).to_numpy()

    def text(self, name: str) -> Text:
        """Codes and vocabulary (in sorted order, so that codes don't depend on the order of rows)."""
        return self._cached_array((name, "text"), lambda: self._encoded(name))

    def _encoded(self, name: str) -> Text:
        if not self.has(name):
            return Text(codes=np.broadcast_to(np.int64(-1), len(self)), values=())
        column: Any = self.table[name]
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        column = column.unify_dictionaries()
        values = [str(value) for value in column.chunk(0).dictionary.to_pylist()]
        indices = [chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False) for chunk in column.chunks]
        vocabulary = sorted(set(values))
        rank = {value: index for index, value in enumerate(vocabulary)}
        ranks = np.array([*(rank[value] for value in values), -1], dtype=np.int64)
        return Text(codes=ranks[np.concatenate(indices)], values=tuple(vocabulary))

    def lists(self, name: str) -> tuple[Any, Any] | None:
        """A list<int> column as (offsets of n + 1, flat values); an empty or null list has no values."""
        return self._cached_array((name, "lists"), lambda: self._flattened(name) if self.has(name) else None)

    def _flattened(self, name: str) -> tuple[Any, Any]:
        lists: Any = self.table[name].combine_chunks()
        lengths = lists.value_lengths().fill_null(0).to_numpy()
        return np.concatenate([[0], np.cumsum(lengths)]), lists.flatten().to_numpy(zero_copy_only=False)

    def ended_well(self) -> Any:
        """Mask of the rows whose status is ok, or not recorded."""
        status = self.text("status")
        return (status.codes == status.code("ok")) | (status.codes == -1)


def sample_columns(table: pa.Table) -> Columns:
    """The table's columns. Raises StorageError naming a required column that is missing."""
    missing = [name for name in NEEDED_COLUMNS if name not in table.column_names]
    if missing:
        raise StorageError(
            f"The samples have no column {', '.join(missing)}",
            remedy=f"needed are at least {', '.join(NEEDED_COLUMNS)}",
        )
    return Columns(table)


def combined_key(arrays: Sequence[Any]) -> Any:
    """One int64 code a row that orders rows as the tuple of `arrays` does (integers of any range)."""
    code = np.zeros(len(arrays[0]), dtype=np.int64)
    size = 1
    for array in arrays:
        low = int(array.min()) if len(array) else 0
        width = int(array.max()) - low + 1 if len(array) else 1
        if width > 2**20:
            values, array = np.unique(array, return_inverse=True)
            low, width = 0, len(values)
        if size * width > 2**62:
            values, code = np.unique(code, return_inverse=True)
            size = len(values)
        code = code * width + (array - low)
        size *= width
    return code
