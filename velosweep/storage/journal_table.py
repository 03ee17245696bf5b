"""A journal as a table without a Python object a row: checksums line by line, parsing in Arrow, batch by batch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from velosweep.storage.journal import check_schema, scan
from velosweep.storage.samples import COLUMNS, schema

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_LINES = 32_768
_SAMPLE = b'"kind":"sample"'
_KIND = slice(18, 18 + len(_SAMPLE))


def journal_to_table(path: Path) -> tuple[pa.Table, list[tuple[int, str]]]:
    """The journal's samples in their order, and (line number, why) of lines that can't be read.

    Raises StorageError, or SchemaError for a newer program's journal.
    """
    import pyarrow as pa

    damaged: list[tuple[int, str]] = []
    tables = list(journal_batches(path, damaged))
    return (pa.concat_tables(tables) if tables else schema().empty_table()), damaged


def journal_batches(path: Path, damaged: list[tuple[int, str]]) -> Iterator[pa.Table]:
    """Tables of at most BATCH_LINES samples each; appends to `damaged` what can't be read."""
    lines: list[bytes] = []
    for number, line, why in scan(path):
        if why is not None:
            damaged.append((number, why))
        elif line[_KIND] == _SAMPLE:
            lines.append(line)
            if len(lines) == BATCH_LINES:
                yield _parse(lines)
                lines.clear()
        elif number == 1:
            check_schema(path, json.loads(line).get("schema_version", 0))
    if lines:
        yield _parse(lines)


def _parse(lines: list[bytes]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.json as pj

    wanted = schema()
    # Arrow's JSON reader knows no time zone: the time is read as text and cast.
    raw = pa.schema([field.with_type(pa.string()) if pa.types.is_timestamp(field.type) else field for field in wanted])
    text = b"".join(lines)
    table = pj.read_json(
        cast("IO[bytes]", pa.BufferReader(text)),  # Arrow takes its own files, its stubs do not
        read_options=pj.ReadOptions(block_size=len(text)),
        parse_options=pj.ParseOptions(explicit_schema=raw, unexpected_field_behavior="ignore"),
    )
    return table.select(list(COLUMNS)).cast(wanted)
