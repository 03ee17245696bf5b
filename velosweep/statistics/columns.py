"""The columns of samples as numpy arrays: numbers with NaN for null, texts as codes into their vocabulary.

Tolerant of tables written by other programs: only the required columns must be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from velosweep.errors import StorageError
from velosweep.values import NEEDED_COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

# All that compare_jobs reads: a reader of large files can leave the other columns on disk.
READ = (
    *NEEDED_COLUMNS,
    *("sweep_id", "job_num", "model_pair", "main_model", "draft_model", "speculation", "n_draft", "n_predict"),
    *("prompt_set", "prompt_id", "prompt", "prompt_category", "order", "launch", "warmup", "status"),
    *("predicted_tokens", "predicted_ms", "draft_tokens", "accepted_tokens", "accepted_per_position", "rounds"),
    *("output_sha256", "first_divergence", "started_at", "device", "host", "engine", "llama_cpp_build"),
    *("gpu_temperature_c", "gpu_clock_mhz", "energy_j", "load_average", "block", "attempt", "temperature"),
    *("throttle_reasons", "gpu_processes", "cpu_busy"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A text column: `codes[i]` indexes `values`, -1 for null."""

    codes: Any
    values: tuple[str, ...]

    def at(self, row: int) -> str | None:
        """The text of one row, None for null."""
        code = int(self.codes[row])
        return None if code < 0 else self.values[code]


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """A table of samples, column by column as arrays, each made when it is first asked for."""

    table: pa.Table
    _there: dict[str, bool] = field(default_factory=dict)
    _numbers: dict[str, Any] = field(default_factory=dict)
    _integers: dict[tuple[str, int], Any] = field(default_factory=dict)
    _texts: dict[str, Text] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def has(self, name: str) -> bool:
        """Whether the column is there with at least one value."""
        if name not in self._there:
            self._there[name] = name in self.table.column_names and self.table[name].null_count < len(self)
        return self._there[name]

    def number(self, name: str) -> Any:
        """float64 with NaN for null; all NaN where the column is missing."""
        import numpy as np

        if name not in self._numbers:
            missing = np.broadcast_to(np.float64(np.nan), len(self))  # takes no memory
            self._numbers[name] = _floats(self.table[name]) if self.has(name) else missing
        return self._numbers[name]

    def integer(self, name: str, default: int = 0) -> Any:
        """int64 with `default` for null and for a missing column."""
        import numpy as np
        import pyarrow as pa

        if (name, default) in self._integers:
            return self._integers[name, default]
        if self.has(name):
            column = self.table[name]
            if pa.types.is_boolean(column.type):
                column = column.cast(pa.int8())
            array = _filled(column.cast(pa.int64()), default)
        else:
            array = np.broadcast_to(np.int64(default), len(self))
        self._integers[name, default] = array
        return array

    def microseconds(self, name: str) -> Any:
        """A timestamp column as int64 microseconds since 1970 UTC; the least int64 for null or missing."""
        import numpy as np
        import pyarrow as pa

        least = int(np.iinfo(np.int64).min)
        if not self.has(name):
            return np.broadcast_to(np.int64(least), len(self))
        if (name, least) not in self._integers:
            zone = pa.timestamp("us", tz="UTC")
            column = self.table[name].cast(zone, safe=False).cast(pa.int64())
            self._integers[name, least] = _filled(column, least)
        return self._integers[name, least]

    def text(self, name: str) -> Text:
        """Codes and vocabulary (in sorted order, so that codes don't depend on the order of rows)."""
        if name not in self._texts:
            self._texts[name] = _encoded(self.table[name]) if self.has(name) else _no_text(len(self))
        return self._texts[name]

    def lists(self, name: str) -> tuple[Any, Any] | None:
        """A list<int> column as (offsets of n + 1, flat values); an empty or null list has no values."""
        import numpy as np

        if not self.has(name):
            return None
        lists: Any = self.table[name].combine_chunks()
        if hasattr(lists, "chunks"):
            lists = lists.chunk(0)
        lengths = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        return np.concatenate([[0], np.cumsum(lengths)]), lists.flatten().to_numpy(zero_copy_only=False)


def columns_of(table: pa.Table) -> Columns:
    """The table's columns. Raises StorageError naming a required column that is missing."""
    missing = [name for name in NEEDED_COLUMNS if name not in table.column_names]
    if missing:
        raise StorageError(
            f"The samples have no column {', '.join(missing)}",
            remedy=f"needed are at least {', '.join(NEEDED_COLUMNS)}",
        )
    return Columns(table=table)


def dense(arrays: Sequence[Any]) -> Any:
    """One int64 code a row that orders rows as the tuple of `arrays` does (integers of any range)."""
    import numpy as np

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


def _filled(column: Any, value: float) -> Any:
    import pyarrow.compute as pc

    fill_null: Any = pc.fill_null
    return fill_null(column, value).to_numpy()


def _floats(column: Any) -> Any:
    import pyarrow as pa

    return _filled(column.cast(pa.float64()), float("nan"))


def _encoded(column: Any) -> Text:
    import numpy as np
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    column = column.unify_dictionaries()
    values = [str(value) for value in column.chunk(0).dictionary.to_pylist()] if column.num_chunks else []
    indices = [chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False) for chunk in column.chunks]
    codes = np.concatenate(indices).astype(np.int64) if indices else np.zeros(0, dtype=np.int64)
    vocabulary = sorted(set(values))
    rank = {value: index for index, value in enumerate(vocabulary)}
    ranks = np.array([*(rank[value] for value in values), -1], dtype=np.int64)
    return Text(codes=ranks[codes], values=tuple(vocabulary))


def _no_text(rows: int) -> Text:
    import numpy as np

    return Text(codes=np.broadcast_to(np.int64(-1), rows), values=())
