"""What somebody's samples.parquet may say, and what is refused in a sentence before anything is computed of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.results.made import journal_of, rounds
from velosweep.cli import main
from velosweep.results.derived_files import analyse
from velosweep.results.loading import load_sweep_samples
from velosweep.results.parquet_files import write_samples
from velosweep.values import Status

YEAR_9999 = datetime(9999, 12, 31, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of which there is samples.parquet alone."""
    root = tmp_path_factory.mktemp("foreign")
    paths = journal_of(root, rounds(iterations=4))
    write_samples(paths.samples, load_sweep_samples(root)[0])
    paths.journal.unlink()
    return root


def with_value(foreign: Path, root: Path, column: str, value: Any) -> Path:
    """The sweep with this value in every third row of a column."""
    table = pq.read_table(foreign / "samples.parquet")
    place = table.schema.get_field_index(column)
    values = [value if row % 3 == 0 else old for row, old in enumerate(table[column].to_pylist())]
    table = table.set_column(place, table.schema.field(place), pa.array(values, type=table.schema.field(place).type))
    pq.write_table(table, root / "samples.parquet")
    return root


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("total_time_ms", float("nan")),
        ("prompt_ms", float("inf")),
        ("predicted_ms", 1e308),
        ("tokens_per_second", -1.0),
        ("time_to_first_token_ms", 1e-320),
        ("predicted_tokens", -5),
        ("memory_bytes", 1 << 62),
        ("iteration", None),
        ("mode", None),
        ("mode", "Both"),
        ("started_at", YEAR_9999),
        ("accepted_per_position", [3, None]),
        ("batch_ms", [1.0, float("nan")]),
        ("batch_tokens", [1, 2, 3]),
    ],
)
def test_what_no_run_can_have_is_refused_with_file_column_and_value(
    column: str, value: Any, foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = with_value(foreign, tmp_path, column, value)
    statuses = [main(["report", str(root)]), main(["compare", str(foreign), str(root)])]

    assert statuses == [2, 2]
    first, remedy, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith(f"velosweep: {root / 'samples.parquet'} has '")
    assert first.endswith(f"' in the column {column}, which no run can have")
    assert "what is not known is null there" in remedy


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("status", None),
        ("started_at", None),
        ("prompt_ms", None),
        ("accepted_per_position", []),
        ("launch", None),
        ("prompt", None),
    ],
)
def test_what_is_not_known_is_no_damage(
    column: str, value: Any, foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["report", str(with_value(foreign, tmp_path, column, value)), "-v"])

    assert (status, capsys.readouterr().err) == (0, "")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("status", [Status.OK, Status.INVALID])
def test_a_time_beyond_all_measure_in_a_journal_is_of_a_run_that_does_not_count(
    status: Status, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = rounds(iterations=4)
    figures = dict.fromkeys(
        ("tokens_per_second", "time_to_first_token_ms", "total_time_ms", "prompt_ms", "predicted_ms", "energy_j"), 1e308
    )
    taken[0] = replace(taken[0], status=status, stream_first_token_ms=(1e308,), batch_ms=(1e308,), **figures)  # type: ignore[arg-type]
    root = journal_of(tmp_path, taken).root

    assert main(["report", str(root), "--format", "json"]) == 0
    said = capsys.readouterr().out
    assert "e+30" not in said
    assert "invalid_runs" in said


def test_two_columns_of_one_name_are_damage(foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pq.read_table(foreign / "samples.parquet")
    table = table.append_column(table.schema.field("n_draft"), table["n_draft"])
    pq.write_table(table, tmp_path / "samples.parquet")

    assert main(["report", str(tmp_path)]) == 2
    assert f"{tmp_path / 'samples.parquet'} is damaged" in capsys.readouterr().err


def test_answers_to_prompts_that_are_not_known_are_shown_all_the_same(
    foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pq.read_table(foreign / "samples.parquet").drop_columns(["prompt", "answer"])
    pq.write_table(table.append_column("answer", pa.array(["yes"] * len(table))), tmp_path / "samples.parquet")

    assert (main(["report", str(tmp_path)]), capsys.readouterr().err) == (0, "")


def test_a_further_column_of_another_program_is_no_setting(foreign: Path, tmp_path: Path) -> None:
    table = pq.read_table(foreign / "samples.parquet").replace_schema_metadata(None)
    pq.write_table(table.append_column("weather", pa.array(["fair"] * len(table))), tmp_path / "samples.parquet")

    assert all(row.settings == {} for row in analyse(tmp_path).comparisons)
