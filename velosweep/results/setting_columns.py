"""What a sweep varies beside the contract's columns: each such setting is a column at the end of our Parquet files."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velosweep.errors import StorageError
from velosweep.planning.job_settings import CORE, Settings, column_name, drafting, settings_of, value_of, varying_keys
from velosweep.results.parquet_files import COLUMNS, arrow_schema, read_parquet
from velosweep.values import Scalar

if TYPE_CHECKING:
    import pyarrow as pa

    from velosweep.records import JobRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingColumn:
    """One setting's values by job id. `kind`: the contract's name of a type that holds all of them."""

    name: str
    key: str
    kind: str
    values: Mapping[str, Scalar]


def varied_columns(jobs: Mapping[str, Settings], known: Collection[str]) -> list[SettingColumn]:
    """What jobs (their settings by id) differ in, without `CORE` and the columns `known`."""
    keys = [key for key in varying_keys(list(jobs.values())) if key not in CORE and column_name(key) not in known]
    return [_column(key, {job: value_of(settings, key) for job, settings in jobs.items()}) for key in keys]


def _column(key: str, values: dict[str, Scalar]) -> SettingColumn:
    kinds = {type(value) for value in values.values()} - {type(None)}
    kind = "bool" if kinds == {bool} else "int64" if kinds == {int} else "double" if kinds <= {int, float} else "string"
    if kind == "string":
        values = {job: None if value is None else str(value) for job, value in values.items()}
    return SettingColumn(name=column_name(key), key=key, kind=kind, values=values)


def sample_columns(jobs: "Sequence[JobRecord]") -> list[SettingColumn]:
    """The columns of a sweep's samples. A shared vanilla run has what all jobs of its baseline have, else null; null,
    too, for what a server without speculation doesn't see."""
    columns = varied_columns({job.id: settings_of(job) for job in jobs}, COLUMNS)
    members: dict[str, list[str]] = {}
    for job in jobs if columns else ():
        members.setdefault(job.baseline_id, []).append(job.id)
    return [
        replace(column, values={owner: _shared(column, ids) for owner, ids in members.items()} | dict(column.values))
        for column in columns
    ]


def _shared(column: SettingColumn, jobs: Iterable[str]) -> Scalar:
    values = {column.values[job] for job in jobs}
    return values.pop() if len(values) == 1 and not drafting(column.key) else None


def with_setting_columns(table: "pa.Table", columns: Iterable[SettingColumn]) -> "pa.Table":
    """Samples with these columns at the end, whose values follow from each row's `job_id`."""
    import pyarrow as pa

    encoded = table["job_id"].combine_chunks().dictionary_encode()
    owners: list[Any] = encoded.dictionary.to_pylist()
    for column in columns:
        (field,) = arrow_schema({column.name: column.kind})
        of_owners: list[Any] = [column.values.get(owner) for owner in owners]
        table = table.append_column(field, pa.array(of_owners, field.type).take(encoded.indices))
    return table


def stored_columns(path: Path) -> list[SettingColumn]:
    """The columns that an earlier collation wrote, for a sweep whose sweep.json is gone; none of another program's."""
    from velosweep.config.schema import KEY_TYPES

    try:
        table = read_parquet(path)
    except StorageError:
        return []
    if b"schema_version" not in (table.schema.metadata or {}):
        return []
    names = [name for name in table.column_names if name not in COLUMNS]
    keys = {column_name(key): key for key in KEY_TYPES}
    first = table.group_by("job_id", use_threads=False).aggregate([(name, "first") for name in names])
    owners: list[Any] = first["job_id"].to_pylist()
    return [
        SettingColumn(
            name=name,
            key=keys.get(name, name),
            kind=str(table.schema.field(name).type),
            values=dict(zip(owners, first[f"{name}_first"].to_pylist(), strict=True)),
        )
        for name in names
    ]
