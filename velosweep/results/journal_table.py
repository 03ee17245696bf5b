"""A journal as a table without a Python object a row: checksums line by line, parsing in Arrow, batch by batch.

And the order of a table's rows, which depends on the rows alone, so that the same runs give the same bytes.
"""

import json
import mmap
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from velosweep.files import as_storage_error
from velosweep.results.journal import scan
from velosweep.results.parquet_files import COLUMNS, ROW_GROUP, arrow_schema, check_schema, samples_schema
from velosweep.results.paths import JOURNAL

BATCH_LINES = 32_768
_SAMPLE = b'"kind":"sample"'
_KIND = slice(18, 18 + len(_SAMPLE))

Damaged = list[tuple[int, str]]


class _Line(NamedTuple):
    """A line of a sample: where it begins in the file, its number from 1, its bytes."""

    begin: int
    number: int
    content: bytes


def damage_in_words(damaged: Damaged) -> tuple[str, ...]:
    """Each damaged line of a journal, and why."""
    return tuple(f"{JOURNAL}, line {number}: {why}" for number, why in damaged)


def journal_to_table(path: Path) -> tuple[pa.Table, Damaged]:
    """The journal's samples in their order, and (line number, why) of lines that can't be read.

    Raises StorageError, or SchemaError for a newer program's journal.
    """
    damaged: Damaged = []
    tables = [table for _, table in _parsed_batches(path, damaged, tuple(COLUMNS))]
    return pa.concat_tables([samples_schema().empty_table(), *tables]), sorted(damaged)


def journal_columns(path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """These columns of the journal's samples in their order, a batch at a time. Raises as `journal_to_table`."""
    return (table for _, table in _parsed_batches(path, [], columns))


def journal_row_groups(path: Path, damaged: Damaged, further: Callable[[], pa.Table]) -> Iterator[pa.Table]:
    """The journal's samples and the `further` ones in canonical order, ROW_GROUP rows at a time.

    Memory: some 50 bytes a sample, the further ones and one group; each line is read twice. `damaged` is filled before
    `further` is asked for, which is before the first group comes. Raises as `journal_to_table`.
    """
    begins, ends = array("q"), array("q")
    keys = []
    for lines, table in _parsed_batches(path, damaged, ORDER_KEYS):
        keys.append(table)
        begins.extend(line.begin for line in lines)
        ends.extend(line.begin + len(line.content) for line in lines)
    damaged.sort()
    others = further()
    keys.append(others.select(list(ORDER_KEYS)))
    places = canonical_places(pa.concat_tables(keys))
    del keys
    with (
        as_storage_error(path, doing="read"),
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        for first in range(0, len(places), ROW_GROUP):
            group = places[first : first + ROW_GROUP]
            own = group < len(begins)
            texts = [content[begins[place] : ends[place]] for place in group[own].tolist()]
            table = _parse(texts, COLUMNS) if texts else others.slice(0, 0)
            if not own.all():
                together = pa.concat_tables([table, others.take(group[~own] - len(begins))])
                table = together.take(np.argsort(np.concatenate([np.flatnonzero(own), np.flatnonzero(~own)])))
            yield table


def _parsed_batches(path: Path, damaged: Damaged, columns: Sequence[str]) -> Iterator[tuple[Sequence[_Line], pa.Table]]:
    """Some lines of samples at a time, and what they say; appends to `damaged` what can't be read."""
    for lines in _batches(path, damaged):
        try:
            yield lines, _parse([line.content for line in lines], columns)
        except pa.ArrowInvalid:  # a line is no sample in spite of its checksum
            for line in lines:
                try:
                    yield [line], _parse([line.content], tuple(COLUMNS)).select(list(columns))
                except pa.ArrowInvalid:
                    damaged.append((line.number, "not a sample"))


def _batches(path: Path, damaged: Damaged) -> Iterator[list[_Line]]:
    """The lines of samples, BATCH_LINES at a time; appends to `damaged` what can't be trusted."""
    lines: list[_Line] = []
    begin = 0
    for number, content, why in scan(path):
        if why is not None:
            damaged.append((number, why))
        elif content[_KIND] == _SAMPLE:
            lines.append(_Line(begin, number, content))
        elif number == 1:
            try:
                check_schema(path, json.loads(content).get("schema_version", 0))
            except (ValueError, TypeError, RecursionError):
                damaged.append((number, "not a journal line"))
        begin += len(content)
        if len(lines) == BATCH_LINES:
            yield lines
            lines = []
    if lines:
        yield lines


def _parse(lines: list[bytes], columns: Iterable[str]) -> pa.Table:
    wanted = arrow_schema({name: COLUMNS[name] for name in columns})
    # Arrow's JSON reader knows no time zone: the time is read as text and cast.
    raw = pa.schema([field.with_type(pa.string()) if pa.types.is_timestamp(field.type) else field for field in wanted])
    text = b"".join(lines)
    table = pj.read_json(
        cast("IO[bytes]", pa.BufferReader(text)),  # Arrow takes its own files, its stubs do not
        read_options=pj.ReadOptions(block_size=len(text)),
        parse_options=pj.ParseOptions(explicit_schema=raw, unexpected_field_behavior="ignore"),
    )
    return table.select(wanted.names).cast(wanted)


# What decides a row's place, and all that has to be read to know it.
ORDER_KEYS = ("job_id", "started_at", "lane", "order", "iteration")


def in_canonical_order(table: pa.Table) -> pa.Table:
    """The same rows in an order that depends on them alone: not on which lane or process brought them first.

    Rows of one `job_id` stand together in the order they were taken; job_ids follow one another by their
    first run, so that jobs stand beside the vanilla runs they share and filters skip whole row groups.
    """
    places = canonical_places(table)
    return table if (places[1:] > places[:-1]).all() else table.take(places)


def canonical_places(table: pa.Table) -> Any:
    """The places of a table's rows (its ORDER_KEYS are enough) in canonical order."""
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


def owner_ranges(ordered: Iterable[pa.Table]) -> dict[str, tuple[int, int]]:
    """Where each `job_id` stands in rows in canonical order, which come in parts: (first row, number of rows).

    Raises ValueError where rows of one do not stand together.
    """
    ranges: dict[str, tuple[int, int]] = {}
    last: str | None = None
    begin = 0
    for part in ordered:
        runs: Any = pc.call_function("run_end_encode", [_owners(part)])
        first = begin
        for name, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
            start = ranges[name][0] if name == last else begin
            if name in ranges and name != last:
                raise ValueError(f"rows of job_id {name} do not stand together")
            ranges[name] = (start, first + end - start)
            begin, last = first + end, name
    return ranges


def _owners(table: pa.Table) -> Any:
    column: Any = table["job_id"]
    return column.fill_null("").combine_chunks()
