"""Reading results back: of one sweep, one job, or a folder of sweeps. `velosweep.load` and `load_results`."""

import os
import shlex
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from velosweep.errors import StorageError
from velosweep.results import parquet_files, results_file
from velosweep.results.absurd_values import refuse_absurd
from velosweep.results.journal_table import damage_in_words, in_canonical_order, journal_to_table
from velosweep.results.parquet_files import (
    check_file_schema,
    damaged_parquet,
    read_parquet,
    read_row_groups,
    reading_parquet,
    with_all_columns,
)
from velosweep.results.paths import GROUP_FOLDER, RECORD, RESULTS, SAMPLES, SweepPaths
from velosweep.results.setting_columns import sample_columns, with_setting_columns
from velosweep.results.sweep_record import read_record

if TYPE_CHECKING:
    import pyarrow.dataset as ds

_BATCHES_BEFORE_FILTER = 2  # read ahead of it: more cost memory and gain no time
_PLACE = "place in the file"  # not the name of any column
_OWN_COLUMN = {SAMPLES: "mode", RESULTS: "verdict"}  # what no other file of ours has
Filters = Any  # a pyarrow.compute.Expression, or Parquet's list form: [("n_draft", "=", 8), ("status", "=", "ok")]


def load(
    directory: str | os.PathLike[str], *, filters: Filters = None, columns: Sequence[str] | None = None
) -> pa.Table:
    """The samples under `directory`: one sweep, one job, or a folder of sweeps at any depth.

    A sweep's own file is read and its jobs' copies are not, so that each physical run stands once. A sweep
    that was interrupted before its files were written is read from its journal.
    `filters`: a `pyarrow.compute` expression or a list such as [("n_draft", "=", 8), ("status", "=", "ok")];
    row groups without a matching row are not read. `columns`: only these, in this order.
    Settings that a sweep varies beside the contract's columns follow these, null for a sweep that doesn't vary them.
    Raises StorageError where nothing is found or a file is damaged (of a journal's damaged lines it warns), SchemaError
    for a newer program's file.
    """
    return _load(Path(directory), SAMPLES, parquet_files.samples_schema(), filters, columns)


def load_results(
    directory: str | os.PathLike[str], *, filters: Filters = None, columns: Sequence[str] | None = None
) -> pa.Table:
    """The results under `directory`: one row a job and prompt, and one a job (`prompt_id` null).

    Otherwise as `load`.
    """
    folder, of_job = Path(directory), None
    if not find_files(folder, RESULTS):  # a job's folder has no results of its own: they stand with its sweep's
        of_job = next((found for parent in folder.absolute().parents if (found := _job_of(parent, folder))), None)
    if of_job is not None:
        folder, job_id = of_job
        own = pc.field("job_id") == pa.scalar(job_id)
        if filters is not None and not isinstance(filters, pc.Expression):
            filters = pq.filters_to_expression(filters)
        filters = own if filters is None else own & filters
    return _load(folder, RESULTS, results_file.results_schema(), filters, columns)


def _with_further(schema: pa.Schema, files: Iterable[pa.Schema]) -> pa.Schema:
    """A contract's columns and then those that files have beside them, of a type that holds the values of all."""
    varied = dict[str, pa.DataType]()
    for field in (field for file in files for field in file if field.name not in schema.names):
        alike = varied.setdefault(field.name, field.type) == field.type
        numbers = {pa.int64(), pa.float64()}
        if not alike:  # no type holds both a number and a text as it is: the latter holds all
            varied[field.name] = pa.float64() if {field.type, varied[field.name]} <= numbers else pa.string()
    return pa.schema([*schema, *(pa.field(name, kind) for name, kind in varied.items())]).with_metadata(schema.metadata)


def _job_of(root: Path, folder: Path) -> tuple[Path, str] | None:
    """The sweep in `root` and the id of its job whose folder is `folder`; None where there is none."""
    paths = SweepPaths(root)
    if not paths.record.is_file() or not (root / RESULTS).is_file():
        return None
    place = folder.absolute()
    found = (job.id for job in read_record(paths.record).jobs if paths.job_directory(job).absolute() == place)
    job_id = next(found, None)
    return None if job_id is None else (root, job_id)


def load_sweep_samples(root: Path) -> tuple[pa.Table, tuple[str, ...]]:
    """One sweep's samples in canonical order, from its journal, else from samples.parquet; and in words what of them
    could not be read.

    Raises StorageError where there is neither.
    """
    paths = SweepPaths(root)
    if paths.journal.is_file():
        table, damaged = journal_to_table(paths.journal)
        notes = damage_in_words(damaged)
        if damaged and paths.samples.is_file():
            lost, note = lost_rows([table], paths.samples)
            table, notes = pa.concat_tables([table, lost]), (*notes, note)
        return in_canonical_order(table), notes
    if paths.samples.is_file():
        with reading_parquet(paths.samples):  # columns of other types, and what has no order
            table = with_all_columns(read_parquet(paths.samples)).select(list(parquet_files.COLUMNS))
            table = table.cast(parquet_files.samples_schema())
        refuse_absurd(paths.samples, table)
        return in_canonical_order(table), ()
    found = sweeps_below(root)
    remedy = f"name one sweep, such as {shlex.quote(str(found[-1]))}" if found else "name the folder of a sweep"
    raise _nothing(root, f"{paths.journal.name} or {SAMPLES}", remedy)


# What tells a physical run from all others of its sweep.
RUN = ("job_id", "mode", "block", "launch", "iteration", "prompt_id", "attempt", "warmup", "order", "started_at")


def lost_rows(journal: Iterable[pa.Table], samples: Path) -> tuple[pa.Table, str]:
    """What an earlier collation wrote of runs that a damaged journal no longer has; and in words how many those are.

    `journal`: its runs, RUN of them at least.
    """
    known = {run for table in journal for run in _runs(table)}
    lost = [parquet_files.samples_schema().empty_table()]
    try:
        for rows in read_row_groups(samples):
            lost.append(rows.filter(pa.array((run not in known for run in _runs(rows)), type=pa.bool_())))
    except StorageError as error:
        return lost[0], f"none of them could be recovered from {samples.name}: {error.message}"
    saved = pa.concat_tables(lost)
    return saved, f"{saved.num_rows} of them recovered from {samples.name}"


def _runs(table: pa.Table) -> Iterator[int]:
    """A number for each row's run; of two runs it is hardly ever the same."""
    own: list[Any] = table.select(list(RUN)).columns
    columns = [column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in own]
    return map(hash, zip(*(column.to_pylist() for column in columns), strict=True))


def sweeps_below(folder: Path) -> list[Path]:
    """Sweeps as they lie in `outputs` or in a day's folder of it; no deeper, for `folder` may be a whole home."""
    found = (record.parent for depth in ("*", "*/*") for record in folder.glob(f"{depth}/{RECORD}"))
    return sorted(path for path in found if GROUP_FOLDER not in path.parts)


def sweeps_by_age(folder: Path) -> list[Path]:
    """The sweeps below `folder` and its outputs/, the one that was measured last at the end."""

    def measured_at(root: Path) -> float:  # when it was last added to: its record may be written anew by collating
        paths = SweepPaths(root)
        return (paths.journal if paths.journal.is_file() else paths.record).stat().st_mtime

    return sorted({*sweeps_below(folder / "outputs"), *sweeps_below(folder)}, key=measured_at)


def find_files(directory: Path, name: str) -> list[Path]:
    """Files called `name`, one a sweep or job, never a sweep's and its jobs' together; sorted."""
    if directory.is_file():
        return [directory]
    found: list[Path] = []
    for folder, below, files in os.walk(directory):
        if name in files or RECORD in files:
            below.clear()  # what lies below are copies, by job
            if name in files:
                found.append(Path(folder, name))
            elif name == SAMPLES and SweepPaths(Path(folder)).journal.is_file():
                found.append(SweepPaths(Path(folder)).journal)
        else:
            below[:] = sorted(entry for entry in below if not entry.startswith("."))
    return sorted(found)


def _load(directory: Path, name: str, schema: pa.Schema, filters: Filters, columns: Sequence[str] | None) -> pa.Table:
    files = find_files(directory, name)
    if not files:
        raise _nothing(directory, name, "name the folder of a sweep, of a job, or of several sweeps")
    expression = filters
    if filters is not None and not isinstance(filters, pc.Expression):
        expression = pq.filters_to_expression(filters)
    encoded: list[str] = []
    if expression is not None:
        # Of many rows read few are kept, whose texts alone need be copied. Those that the filter names stay as they
        # are, since some of Arrow's functions take no dictionaries.
        encoded = [
            field.name for field in schema if pa.types.is_string(field.type) and field.name not in str(expression)
        ]
    fragments = [_fragment(file, encoded, name) for file in files if file.suffix == ".parquet"]
    tables = [_interrupted(file, name) for file in files if file.suffix != ".parquet"]
    schema = _with_further(schema, [*(part.physical_schema for part in fragments), *(part.schema for part in tables)])
    unknown = [column for column in columns or () if column not in schema.names]
    if unknown:
        raise StorageError(f"No column {unknown[0]!r} in {name}", remedy=f"choose of: {', '.join(schema.names)}")
    for number, table in enumerate(tables):
        values = [table[n] if n in table.column_names else pa.nulls(table.num_rows) for n in schema.names]
        whole = pa.table(values, names=schema.names).cast(schema)
        tables[number] = whole if expression is None else whole.filter(expression)
    if fragments:
        tables.insert(0, _scan(fragments, schema, encoded, expression, columns))
    wanted = pa.schema([schema.field(name) for name in (schema.names if columns is None else columns)]).with_metadata(
        schema.metadata
    )
    return pa.concat_tables([table.select(wanted.names).cast(wanted) for table in tables])


def _other_file(file: Path, name: str) -> StorageError:
    reads = "velosweep.load reads samples, velosweep.load_results results"
    return StorageError(f"{file} is no {name}", remedy=f"name the folder of a sweep; {reads}")


def _interrupted(journal: Path, name: str) -> pa.Table:
    """The samples of a sweep whose files were not written. Warns of damage."""
    table, damaged = journal_to_table(journal)
    if name != SAMPLES or (damaged and not table.num_rows):
        raise _other_file(journal, name)
    if damaged:
        warnings.warn(f"{journal} is damaged: of {len(damaged)} lines nothing is loaded", stacklevel=4)
    record = journal.with_name(RECORD)
    return with_setting_columns(table, sample_columns(read_record(record).jobs)) if record.is_file() else table


def _fragment(file: Path, encoded: list[str], name: str) -> "ds.ParquetFileFragment":
    """A file to scan, which keeps its footer, parsed once, here, for version, columns and scan.

    Raises StorageError where it is no file of this `name`.
    """
    import pyarrow.dataset as ds
    import pyarrow.fs

    # Files on a disk need not be fetched in large pieces, which double the memory.
    kind = ds.ParquetFileFormat(dictionary_columns=encoded, pre_buffer=False)
    with reading_parquet(file):
        fragment = cast("ds.ParquetFileFragment", kind.make_fragment(str(file), pyarrow.fs.LocalFileSystem()))
        columns = fragment.metadata.schema.names
        check_file_schema(file, fragment.metadata.metadata, columns)
    if _OWN_COLUMN[name] not in columns:
        raise _other_file(file, name)
    return fragment


def _scan(
    files: "Sequence[ds.ParquetFileFragment]",
    schema: pa.Schema,
    encoded: Sequence[str],
    expression: Any,
    columns: Sequence[str] | None,
) -> pa.Table:
    import pyarrow.dataset as ds

    for name in encoded:
        schema = schema.set(schema.get_field_index(name), pa.field(name, pa.dictionary(pa.int32(), pa.string())))
    try:
        parts = [part for file in files for part in _matching(file, schema, expression)]
        return ds.FileSystemDataset(parts, schema, files[0].format, files[0].filesystem).to_table(
            filter=expression,
            columns=None if columns is None else list(columns),
            batch_readahead=16 if expression is None else _BATCHES_BEFORE_FILTER,
        )
    except (pa.ArrowException, OSError) as error:
        for file in files:
            read_parquet(Path(file.path))  # raises for the one that is damaged
        raise damaged_parquet(Path(files[0].path), error) from error


def _matching(fragment: "ds.ParquetFileFragment", schema: pa.Schema, expression: Any) -> "list[ds.Fragment]":
    """The row groups of a file that have matching rows, as one fragment, since each fragment opens the file anew.

    They are found by their least and greatest values, which rule out few ids as those are hashes, and then by reading
    the filter's own columns alone.
    """
    if expression is None or fragment.num_row_groups < 2:
        return [fragment]
    subset: Callable[..., ds.ParquetFileFragment] = cast("Any", fragment).subset
    likely = subset(filter=expression, schema=schema)
    groups = likely.row_groups
    words = str(expression)
    rows = likely.to_table(schema=schema, columns=[name for name in schema.names if name in words])
    found = rows.append_column(_PLACE, pa.array(np.arange(rows.num_rows))).filter(expression)[_PLACE].to_numpy()
    ends = np.cumsum([group.num_rows for group in groups])
    matching = np.unique(np.searchsorted(ends, found, side="right")).tolist()
    return [subset(row_group_ids=[groups[number].id for number in matching])] if matching else []


def _nothing(directory: Path, name: str, remedy: str) -> StorageError:
    what = "no such folder" if not directory.exists() else f"no {name} in it"
    return StorageError(f"No results at {directory}: {what}", remedy=remedy)
