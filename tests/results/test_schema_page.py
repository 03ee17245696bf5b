"""SCHEMA.md says what the code writes."""

from __future__ import annotations

import re
from dataclasses import fields
from itertools import product
from pathlib import Path

from tests.results.made import record
from velosweep.records import SweepRecord
from velosweep.results import parquet_files as schema
from velosweep.results import results_file as results
from velosweep.values import SCHEMA_VERSION

PAGE = (Path(schema.__file__).parent / "SCHEMA.md").read_text("utf-8")


def documented(heading: str) -> dict[str, str]:
    """The columns in the table under a heading, names with braces written out."""
    section = PAGE.split(f"## {heading}", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", section, flags=re.MULTILINE)
    found: dict[str, str] = {}
    for name, kind in rows:
        if name == "{mode}_{metric}_{figure}":
            every = product(("vanilla", "speculative"), results.METRICS, results.FIGURES)
            found.update({"_".join(parts): kind.strip() for parts in every})
        else:
            found[name] = kind.strip()
    return found


def test_samples_columns_are_documented_in_their_order() -> None:
    assert list(schema.COLUMNS.items()) == list(documented("samples.parquet").items())


def test_results_columns_are_documented_in_their_order() -> None:
    assert list(results.COLUMNS.items()) == list(documented("results.parquet").items())


def test_the_history_ends_with_the_version_that_is_written() -> None:
    versions = re.findall(r"^\| (\d+) \|", PAGE, flags=re.MULTILINE)

    assert str(SCHEMA_VERSION) == versions[-1]


def test_the_records_keys_are_named() -> None:
    section = PAGE.split("## sweep.json", 1)[1]

    assert [field.name for field in fields(SweepRecord) if f"`{field.name}`" not in section] == []


def test_metadata_keys_are_named() -> None:
    written = set(schema.file_metadata(schema.sweep_metadata(record())))

    assert {"schema_version", "velosweep_version", "configuration"} == written
    assert all(f"`{key}`" in PAGE for key in written)
