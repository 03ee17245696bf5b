"""sweep.json: what was asked, on which machine, how each job ended."""

from __future__ import annotations

import json
import types
import typing
from dataclasses import is_dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Union

from velosweep.errors import SchemaError, StorageError
from velosweep.files import explained, write_text
from velosweep.records import SweepRecord
from velosweep.results.parquet_files import check_schema, to_plain


def write_record(path: Path, record: SweepRecord) -> None:
    """Write sweep.json atomically. Raises StorageError."""
    content = {"schema_version": record.schema_version, **to_plain(record)}
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_record(path: Path) -> SweepRecord:
    """Read sweep.json. Raises StorageError where it is missing or damaged, SchemaError for a newer program's."""
    if not path.is_file():
        raise StorageError(f"No {path.name} in {path.parent}", remedy="name the folder of a sweep")
    try:
        with explained(path, doing="read"):
            content = json.loads(path.read_text("utf-8"))
        check_schema(path, content["schema_version"])
        record: SweepRecord = _from_plain(SweepRecord, content)
        return record
    except (SchemaError, StorageError):
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{path} is damaged ({type(error).__name__}: {error})",
            remedy="restore it from a copy; the samples beside it can still be read with velosweep.load",
        ) from error


_hints = lru_cache(typing.get_type_hints)


def _from_plain(kind: Any, value: dict[str, Any]) -> Any:
    """The inverse of `to_plain`; keys that `kind` doesn't know are left out, absent ones take their default.

    Raises TypeError or ValueError for what doesn't fit.
    """
    return kind(**{name: _decode(hint, value[name]) for name, hint in _hints(kind).items() if name in value})


def _decode(hint: Any, value: Any) -> Any:
    if type(value) is hint:
        return value
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        kinds = [argument for argument in arguments if argument is not types.NoneType]
        return None if value is None else _decode(kinds[0], value)
    if origin is tuple:
        return tuple(_decode(arguments[0], item) for item in value)
    if is_dataclass(hint):
        return _from_plain(hint, value)
    if hint is datetime:
        return datetime.fromisoformat(value.replace("Z", "+00:00"))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint):
        raise TypeError(f"expected {hint.__name__}, found {value!r}")
    return value
