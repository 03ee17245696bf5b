"""Derived files are the same whether a sweep is worked on as a whole or a few jobs at a time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.results.made import job_record, journal_of, record, rounds
from velosweep.errors import StorageError
from velosweep.records import SweepRecord
from velosweep.results import chunks, journal_table
from velosweep.results import derived_files as derive
from velosweep.results import samples_file as samples
from velosweep.results.derived_files import Derived
from velosweep.results.paths import SweepPaths
from velosweep.results.sweep_record import write_record
from velosweep.statistics.summarise import iterate_jobs
from velosweep.values import Sample


def two_baselines() -> tuple[list[Sample], SweepRecord]:
    """Three jobs on one main model and three on another, taken by two lanes at a time."""
    first = rounds(iterations=6)
    other = [
        replace(
            one,
            job_id=f"other-{one.job_id}",
            job_num=None if one.job_num is None else one.job_num + 3,
            main_model="/models/other.gguf",
            lane=1,
        )
        for one in first
    ]
    jobs = [job_record(number) for number in range(3)]
    jobs += [
        job_record(number, id=f"other-job{number - 3}", baseline_id="other-base", n_draft=4 * (number - 2))
        for number in range(3, 6)
    ]
    mixed = [one for pair in zip(first, other, strict=True) for one in pair]
    return mixed, record(jobs=tuple(jobs))


def sweep(root: Path) -> SweepPaths:
    taken, asked = two_baselines()
    paths = journal_of(root, taken)
    write_record(paths.record, asked)
    return paths


def derived(root: Path) -> Derived:
    return derive.derive(root, lambda table, jobs: iterate_jobs(table, jobs=jobs))


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is large: the journal, and a sweep of more than one baseline."""
    monkeypatch.setattr(derive, "_LARGE_JOURNAL_BYTES", 0)
    monkeypatch.setattr(derive, "CHUNK_ROWS", 30)
    monkeypatch.setattr(chunks, "PART_ROWS", 30)


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row group holds ten rows, a batch of the journal seven."""
    for module in (samples, journal_table):
        monkeypatch.setattr(module, "ROW_GROUP", 10)
    monkeypatch.setattr(journal_table, "BATCH_LINES", 7)


def test_every_job_has_its_summary_in_the_record_order(tmp_path: Path) -> None:
    result = derived(sweep(tmp_path).root)

    assert [value["config"]["n_draft"] for value in result.summaries if value] == [4, 8, 12, 4, 8, 12]
    assert (result.sample_count, len(result.comparisons)) == (48, 12)


@pytest.mark.usefixtures("small_groups")
def test_in_pieces_the_same_bytes_are_written(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    whole = derived(sweep(tmp_path / "whole").root)
    request.getfixturevalue("in_pieces")
    pieces = derived(sweep(tmp_path / "pieces").root)

    assert files(tmp_path / "whole") == files(tmp_path / "pieces")
    assert list(whole.summaries) == list(pieces.summaries)
    assert pq.ParquetFile(tmp_path / "pieces" / "samples.parquet").num_row_groups == 5


def test_in_pieces_jobs_keep_their_order_where_baselines_take_turns(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    def taking_turns(root: Path) -> SweepPaths:
        taken, asked = two_baselines()
        turns = [asked.jobs[number] for number in (0, 3, 1, 4, 2, 5)]
        numbers = {job.id: number for number, job in enumerate(turns)}
        paths = journal_of(root, [replace(one, job_num=numbers.get(one.job_id)) for one in taken])
        jobs = tuple(replace(job, num=number, directory=str(number)) for number, job in enumerate(turns))
        write_record(paths.record, replace(asked, jobs=jobs))
        return paths

    whole = derived(taking_turns(tmp_path / "whole").root)
    request.getfixturevalue("in_pieces")
    pieces = derived(taking_turns(tmp_path / "pieces").root)

    assert files(tmp_path / "whole") == files(tmp_path / "pieces")
    assert [row.job_num for row in whole.comparisons] == [row.job_num for row in pieces.comparisons]


@pytest.mark.usefixtures("in_pieces")
def test_a_large_file_whose_rows_are_in_another_order_is_refused(tmp_path: Path) -> None:
    paths = sweep(tmp_path)
    derived(tmp_path)
    paths.journal.unlink()
    table = pq.read_table(paths.samples)
    pq.write_table(table.sort_by([("order", "ascending")]), paths.samples)

    with pytest.raises(StorageError, match=r"rows of job_id .* do not stand together"):
        derived(tmp_path)


@pytest.mark.parametrize("large", [False, True])
def test_what_else_is_to_be_made_is_made_of_what_is_returned(
    tmp_path: Path, request: pytest.FixtureRequest, *, large: bool
) -> None:
    if large:
        request.getfixturevalue("in_pieces")
    given: list[Derived] = []

    result = derive.derive(sweep(tmp_path).root, lambda table, jobs: iterate_jobs(table, jobs=jobs), then=given.append)

    assert [id(one) for one in given] == [id(result)]
    assert len(json.loads((tmp_path / "summaries.json").read_bytes())) == 6


@pytest.mark.usefixtures("in_pieces")
def test_where_the_report_fails_no_half_array_is_left(tmp_path: Path) -> None:
    def fail(_: Derived) -> None:
        raise StorageError("no space left")

    with pytest.raises(StorageError, match="no space left"):
        derive.derive(sweep(tmp_path).root, lambda table, jobs: iterate_jobs(table, jobs=jobs), then=fail)

    assert not [path for path in tmp_path.iterdir() if "summaries" in path.name]


@pytest.mark.usefixtures("in_pieces")
def test_a_large_sweeps_samples_are_left_on_disk(tmp_path: Path) -> None:
    result = derived(sweep(tmp_path).root)

    assert result.samples is None
    assert {()} == {row.vanilla.tokens_per_second.samples for row in result.comparisons if row.vanilla}
    assert all(len(value["vanilla"]["tokens_per_second"]["samples"]) == 6 for value in result.summaries if value)


@pytest.mark.usefixtures("in_pieces", "small_groups")
def test_without_a_journal_a_large_samples_file_is_the_record_and_left_as_it_is(tmp_path: Path) -> None:
    paths = sweep(tmp_path)
    derived(tmp_path)
    before = files(tmp_path)
    paths.journal.unlink()
    stamp = paths.samples.stat().st_mtime_ns

    derived(tmp_path)

    assert before == {**files(tmp_path), "journal.jsonl": before["journal.jsonl"]}
    assert stamp == paths.samples.stat().st_mtime_ns


@pytest.mark.usefixtures("in_pieces", "small_groups")
def test_in_pieces_damaged_lines_are_reported_too(tmp_path: Path) -> None:
    paths = sweep(tmp_path)
    lines = paths.journal.read_bytes().splitlines(keepends=True)
    lines[5] = lines[5].replace(b"synthetic", b"synthesis")
    paths.journal.write_bytes(b"".join(lines)[:-9])

    result = derived(tmp_path)

    assert result.sample_count == 46
    assert [int(text.split("line ")[1].split(":")[0]) for text in result.damaged] == [6, 49]


@pytest.mark.usefixtures("in_pieces")
def test_a_large_damaged_file_is_named(tmp_path: Path) -> None:
    paths = sweep(tmp_path)
    derived(tmp_path)
    paths.journal.unlink()
    content = bytearray(paths.samples.read_bytes())
    for place in range(100, 2000, 50):
        content[place] ^= 0xFF
    paths.samples.write_bytes(content)

    with pytest.raises(StorageError, match=r"samples\.parquet is damaged"):
        derived(tmp_path)


def test_nothing_measured_leaves_empty_files_of_the_right_form(tmp_path: Path) -> None:
    paths = journal_of(tmp_path, [])
    write_record(paths.record, record())

    result = derived(tmp_path)

    assert result.summaries == [None, None, None]
    assert paths.summaries.read_text("utf-8") == "[]\n"
    assert (pq.read_table(paths.samples).num_rows, pq.read_table(paths.results).num_rows) == (0, 0)


def test_configuration_stands_in_the_files(tmp_path: Path) -> None:
    derived(sweep(tmp_path).root)

    metadata = pq.read_schema(tmp_path / "samples.parquet").metadata
    job = pq.read_schema(tmp_path / "4" / "samples.parquet").metadata

    assert b'"jobs":{"job0":["n_draft=4"]' in metadata[b"configuration"]
    assert b'"id":"other-job1"' in job[b"configuration"]
    assert isinstance(pq.read_table(tmp_path / "4" / "samples.parquet"), pa.Table)
