"""A journal as a table without a Python object a row: checksums line by line, parsing in Arrow, batch by batch."""

from __future__ import annotations

import json
import mmap
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from velosweep.files import explained
from velosweep.results.journal import scan
from velosweep.results.parquet_schema import COLUMNS, ROW_GROUP, check_schema, schema
from velosweep.results.row_order import KEYS, canonical_places

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_LINES = 32_768
_SAMPLE = b'"kind":"sample"'
_KIND = slice(18, 18 + len(_SAMPLE))

Damaged = list[tuple[int, str]]


@dataclass(slots=True)
class _Batch:
    """Lines of samples: where each begins in the file, its number from 1, its bytes."""

    begins: list[int]
    numbers: list[int]
    lines: list[bytes]


def journal_to_table(path: Path) -> tuple[pa.Table, Damaged]:
    """The journal's samples in their order, and (line number, why) of lines that can't be read.

    Raises StorageError, or SchemaError for a newer program's journal.
    """
    import pyarrow as pa

    damaged: Damaged = []
    tables = [_parsed(batch, damaged, tuple(COLUMNS)) for batch in _batches(path, damaged)]
    return (pa.concat_tables(tables) if tables else schema().empty_table()), sorted(damaged)


def journal_row_groups(path: Path, damaged: Damaged) -> Iterator[pa.Table]:
    """The journal's samples in canonical order, ROW_GROUP rows at a time.

    Memory: some 50 bytes a sample and one group; each line is read twice. `damaged` is filled before the first
    group comes. Raises as `journal_to_table`.
    """
    import pyarrow as pa

    begins, sizes = array("q"), array("I")
    keys = []
    for batch in _batches(path, damaged):
        keys.append(_parsed(batch, damaged, KEYS))
        begins.extend(batch.begins)
        sizes.extend(len(line) for line in batch.lines)
    damaged.sort()
    if not keys:
        return
    places = canonical_places(pa.concat_tables(keys))
    del keys
    with explained(path, doing="read"), path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        with content:
            for first in range(0, len(places), ROW_GROUP):
                group = places[first : first + ROW_GROUP].tolist()
                yield _parse([content[begins[place] : begins[place] + sizes[place]] for place in group], COLUMNS)


def _batches(path: Path, damaged: Damaged) -> Iterator[_Batch]:
    """The lines of samples, BATCH_LINES at a time; appends to `damaged` what can't be trusted."""
    batch = _Batch([], [], [])
    begin = 0
    for number, line, why in scan(path):
        if why is not None:
            damaged.append((number, why))
        elif line[_KIND] == _SAMPLE:
            batch.begins.append(begin)
            batch.numbers.append(number)
            batch.lines.append(line)
            if len(batch.lines) == BATCH_LINES:
                yield batch
                batch = _Batch([], [], [])
        elif number == 1:
            check_schema(path, json.loads(line).get("schema_version", 0))
        begin += len(line)
    if batch.lines:
        yield batch


def _parsed(batch: _Batch, damaged: Damaged, columns: Sequence[str]) -> pa.Table:
    """The batch as a table; a line that is no sample in spite of its checksum is moved to `damaged`."""
    import pyarrow as pa

    try:
        return _parse(batch.lines, columns)
    except pa.ArrowInvalid:
        good = [place for place, line in enumerate(batch.lines) if _is_sample(line)]
        bad = set(range(len(batch.lines))) - set(good)
        damaged.extend((batch.numbers[place], "not a sample") for place in bad)
        batch.begins = [batch.begins[place] for place in good]
        batch.numbers = [batch.numbers[place] for place in good]
        batch.lines = [batch.lines[place] for place in good]
        return _parse(batch.lines, columns) if good else schema().empty_table().select(list(columns))


def _is_sample(line: bytes) -> bool:
    import pyarrow as pa

    try:
        _parse([line], tuple(COLUMNS))
    except pa.ArrowInvalid:
        return False
    return True


def _parse(lines: list[bytes], columns: Iterable[str]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.json as pj

    wanted = pa.schema([schema().field(name) for name in columns])
    # Arrow's JSON reader knows no time zone: the time is read as text and cast.
    raw = pa.schema([field.with_type(pa.string()) if pa.types.is_timestamp(field.type) else field for field in wanted])
    text = b"".join(lines)
    table = pj.read_json(
        cast("IO[bytes]", pa.BufferReader(text)),  # Arrow takes its own files, its stubs do not
        read_options=pj.ReadOptions(block_size=len(text)),
        parse_options=pj.ParseOptions(explicit_schema=raw, unexpected_field_behavior="ignore"),
    )
    return table.select(wanted.names).cast(wanted)
