"""A sweep's samples a few jobs at a time, so that any number of them is collated in bounded memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from velosweep.records import JobRecord
from velosweep.results.parquet_schema import COLUMNS, STRINGS, check_file_schema, damaged_parquet, schema
from velosweep.results.row_order import owner_ranges
from velosweep.results.samples_file import completed

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# A sweep of no more rows is worked on as a whole.
CHUNK_ROWS = 250_000
# Of a larger one so many at a time: with more, memory grows and the processor's cache helps less. Figures of one
# baseline's jobs depend on one another (they share cost models), so a baseline's jobs are never divided.
PART_ROWS = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """Jobs, and all rows that they need: their own and their vanilla series', in canonical order."""

    jobs: tuple[JobRecord, ...]
    table: pa.Table


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Jobs to be worked on together, and where their rows stand in the file: (first, count), ascending."""

    jobs: tuple[JobRecord, ...]
    ranges: tuple[tuple[int, int], ...]


def parts_of_file(path: Path, jobs: Sequence[JobRecord]) -> list[Part]:
    """How a samples.parquet in canonical order is divided. Raises as `PartReader`."""
    import pyarrow as pa

    try:
        ranges = owner_ranges(_opened(path).read(["job_id"]))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged_parquet(path, error) from error
    return [
        Part(
            jobs=tuple(group),
            ranges=tuple(
                sorted({ranges[owner] for job in group for owner in (job.baseline_id, job.id) if owner in ranges})
            ),
        )
        for group in _grouped(jobs, ranges)
    ]


class PartReader:
    """Reads parts of a samples.parquet as chunks; texts come dictionary-encoded.

    Raises StorageError for a damaged file, SchemaError for a newer program's.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self._path = path
        try:
            self._reader = _Reader(_opened(path))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise damaged_parquet(path, error) from error

    def chunk(self, part: Part) -> Chunk:
        """The part's rows."""
        import pyarrow as pa

        try:
            return Chunk(jobs=part.jobs, table=self._reader.rows(part.ranges))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise damaged_parquet(self._path, error) from error


def _opened(path: Path) -> pq.ParquetFile:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path, read_dictionary=list(STRINGS), page_checksum_verification=True)
    check_file_schema(path, file.schema_arrow.metadata, file.schema_arrow.names)
    return file


def _grouped(jobs: Sequence[JobRecord], ranges: dict[str, tuple[int, int]]) -> Iterator[list[JobRecord]]:
    """Jobs by baseline, in the order of each baseline's first job, filled up to PART_ROWS."""
    by_baseline: dict[str, list[JobRecord]] = {}
    for job in jobs:
        by_baseline.setdefault(job.baseline_id, []).append(job)
    chunk: list[JobRecord] = []
    rows = 0
    for baseline, members in by_baseline.items():
        more = sum(ranges.get(owner, (0, 0))[1] for owner in {baseline, *(job.id for job in members)})
        if chunk and rows + more > PART_ROWS:
            yield chunk
            chunk, rows = [], 0
        chunk.extend(members)
        rows += more
    if chunk:
        yield chunk


class _Reader:
    """Rows of a file by their places; the row groups that were read last are kept, as neighbours share them."""

    def __init__(self, file: pq.ParquetFile) -> None:
        self._file = file
        counts = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        self._begins = [sum(counts[:number]) for number in range(len(counts) + 1)]
        self._kept: dict[int, pa.Table] = {}

    def rows(self, ranges: Sequence[tuple[int, int]]) -> pa.Table:
        """The rows of all (first, count), in that order."""
        import pyarrow as pa

        parts: list[pa.Table] = []
        needed: dict[int, pa.Table] = {}
        for first, count in _joined(ranges):
            place = first
            while place < first + count:
                number = bisect_right(self._begins, place) - 1
                end = min(first + count, self._begins[number + 1])
                if number not in needed:
                    needed[number] = self._kept.get(number) or self._file.read_row_group(number)
                parts.append(needed[number].slice(place - self._begins[number], end - place))
                place = end
        self._kept = needed
        if not parts:
            return schema().empty_table()
        return completed(pa.concat_tables(parts).unify_dictionaries()).select(list(COLUMNS))


def _joined(ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The same rows with neighbouring ranges made one: each piece of a table costs every call on it."""
    begin, end = 0, 0
    for first, count in ranges:
        if first != end:
            yield begin, end - begin
            begin = first
        end = first + count
    yield begin, end - begin
