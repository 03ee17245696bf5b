"""sweep.json: what was asked, on which machine, how each job ended; and finding that out."""

from __future__ import annotations

import json
from pathlib import Path

from velosweep.errors import SchemaError, StorageError
from velosweep.files import explained, write_text
from velosweep.records import SweepRecord
from velosweep.results.parquet_schema import check_schema
from velosweep.results.serialization import from_plain, to_plain


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
        return from_plain(SweepRecord, content)
    except (SchemaError, StorageError):
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{path} is damaged ({type(error).__name__}: {error})",
            remedy="restore it from a copy; the samples beside it can still be read with velosweep.load",
        ) from error
