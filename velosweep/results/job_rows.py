"""Each job's rows of a table of samples: its own, and the vanilla runs of the blocks that it was measured in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from velosweep.records import JobRecord
from velosweep.results.parquet_schema import COLUMNS, STRINGS, schema
from velosweep.results.row_order import numbers, owner_ranges

if TYPE_CHECKING:
    import pyarrow as pa


def rows_by_job(table: pa.Table, jobs: Sequence[JobRecord]) -> Iterator[tuple[JobRecord, pa.Table]]:
    """Each job with its rows of a `table` in canonical order, with the contract's columns and types.

    A job without rows of its own (vanilla only, or failed) has all runs of its baseline. In at most two chunks, whose
    edges depend on the rows alone; where `table`'s texts are dictionaries they are so, too, in one chunk: of what these
    rows say, in the order in which they say it.
    """
    rows = _Rows(table)
    for job in jobs:
        yield job, rows.of(job)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """Rows that stand together: columns that are no dictionaries, and of those that are and differ from row to row
    `codes[name]`; `only[name]`: the one that all rows have, None for several."""

    count: int
    plain: pa.Table
    codes: Mapping[str, Any]
    only: Mapping[str, int | None]


class _Rows:
    """A table by owner. What concerns all jobs is done once: Arrow's calls cost as much for ten rows as for thousands,
    and most texts are the same in all rows of an owner or of the table, so that rows need not be looked at one by one.
    """

    def __init__(self, table: pa.Table) -> None:
        import pyarrow as pa

        self._block = numbers(table, "block", missing=0)
        self._ranges = owner_ranges(table)
        self._texts = {name: _Text(table[name]) for name in STRINGS if pa.types.is_dictionary(table[name].type)}
        self._differing = [name for name, text in self._texts.items() if text.only is None]
        plain = pa.schema([field for field in schema() if field.name not in self._texts])
        self._plain = table.select(plain.names).cast(plain).combine_chunks()
        kinds = [field.with_type(_encoded_type()) if field.name in self._texts else field for field in schema()]
        self._schema = pa.schema(kinds).with_metadata(schema().metadata)
        self._shared: dict[tuple[str, bytes], _Part] = {}
        self._alike: dict[int, dict[str, Any]] = {}

    def of(self, job: JobRecord) -> pa.Table:
        """The rows of a job and those of its baseline."""
        begin, count = self._ranges.get(job.id, (0, 0))
        first, size = self._ranges.get(job.baseline_id, (0, 0))
        own = self._part(begin, count)
        if job.baseline_id == job.id:
            return self._joined([own])
        blocks = _distinct(self._block[begin : begin + count])
        key = (job.baseline_id, blocks.tobytes())
        if key not in self._shared:
            self._shared[key] = self._of_blocks(first, size, blocks)
        parts = [own, self._shared[key]] if begin < first and count else [self._shared[key], own]
        return self._joined([part for part in parts if part.count] or [own])

    def _part(self, begin: int, count: int, inside: Any = None) -> _Part:
        """Rows from `begin`; of them those `inside` (a mask), where there is one."""
        import pyarrow as pa

        plain = self._plain.slice(begin, count)
        codes = {name: self._texts[name].codes[begin : begin + count] for name in self._differing}
        if inside is not None:
            plain = plain.filter(pa.array(inside)).combine_chunks()
            codes = {name: column[inside] for name, column in codes.items()}
        only = {name: _only(column) for name, column in codes.items()}
        return _Part(count=plain.num_rows, plain=plain, codes=codes, only=only)

    def _of_blocks(self, first: int, size: int, blocks: Any) -> _Part:
        """An owner's rows measured in `blocks`; all where none are named or none others are there."""
        import numpy as np

        inside = np.isin(self._block[first : first + size], blocks)
        return self._part(first, size, None if not len(blocks) or inside.all() else inside)

    def _joined(self, parts: Sequence[_Part]) -> pa.Table:
        import pyarrow as pa

        plain = pa.concat_tables([part.plain for part in parts])
        if not self._texts:
            return plain.replace_schema_metadata(self._schema.metadata)
        columns = self._same(plain.num_rows) | dict(zip(plain.column_names, plain.columns, strict=True))
        for name in self._differing:
            columns[name] = self._texts[name].joined(name, parts)
        return pa.Table.from_arrays([columns[name] for name in COLUMNS], schema=self._schema)

    def _same(self, count: int) -> dict[str, Any]:
        """The columns of texts that are the same in all rows of the table, for so many rows."""
        if count not in self._alike:
            self._alike[count] = {
                name: text.repeated(text.only, count) for name, text in self._texts.items() if text.only is not None
            }
        return self._alike[count]


class _Text:
    """A dictionary column as codes, -1 for null; `only`: the code that all rows have, None for several or no rows."""

    def __init__(self, column: Any) -> None:
        import pyarrow as pa

        column = column.unify_dictionaries()
        indices: Any = pa.chunked_array([chunk.indices for chunk in column.chunks], pa.int32())
        self.codes = indices.fill_null(-1).to_numpy()
        self.only = _only(self.codes)
        self._values = column.chunk(0).dictionary.to_pylist() if column.num_chunks else []
        self._dictionaries: dict[tuple[int | None, ...], Any] = {}

    def repeated(self, code: int, count: int) -> Any:
        """So many rows of one text, or of null."""
        import pyarrow as pa

        if code < 0:
            return pa.nulls(count, _encoded_type())
        return pa.DictionaryArray.from_arrays(_steps((count,)), self._dictionary((code,)))

    def joined(self, name: str, parts: Sequence[_Part]) -> Any:
        """The column `name` of the parts' rows as one array, whose dictionary is in the order of these rows."""
        import numpy as np
        import pyarrow as pa

        counts = tuple(part.count for part in parts)
        codes = tuple(dict.fromkeys(part.only[name] for part in parts))
        if len(codes) == 1 and codes[0] is not None:
            return self.repeated(codes[0], sum(counts))
        if all(code is not None and code >= 0 for code in codes):
            return pa.DictionaryArray.from_arrays(_steps(counts), self._dictionary(codes))
        together = np.concatenate([part.codes[name] for part in parts])
        found: Any = pa.array(together, mask=together < 0).dictionary_encode()
        return pa.DictionaryArray.from_arrays(found.indices, self._texts(found.dictionary.to_pylist()))

    def _dictionary(self, codes: tuple[int | None, ...]) -> Any:
        """As `_texts`, kept: few codes stand alone in an owner's rows."""
        if codes not in self._dictionaries:
            self._dictionaries[codes] = self._texts(codes)
        return self._dictionaries[codes]

    def _texts(self, codes: Sequence[int | None]) -> Any:
        import pyarrow as pa

        return pa.array([self._values[code] for code in codes if code is not None], pa.string())


@lru_cache(maxsize=64)
def _steps(counts: tuple[int, ...]) -> Any:
    """0 as often as the first count says, 1 as often as the next, and so on."""
    import numpy as np
    import pyarrow as pa

    return pa.array(np.repeat(np.arange(len(counts), dtype=np.int32), counts))


def _encoded_type() -> pa.DictionaryType[Any, Any, Any]:
    import pyarrow as pa

    return pa.dictionary(pa.int32(), pa.string())


def _only(codes: Any) -> int | None:
    """The number that all have; None for several or none."""
    return int(codes[0]) if len(codes) and codes[0] == codes[-1] and (codes == codes[0]).all() else None


def _distinct(block: Any) -> Any:
    import numpy as np

    return np.unique(block) if _only(block) is None else block[:1]
