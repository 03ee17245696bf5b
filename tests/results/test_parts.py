"""Processes that work side by side write what one would, and say what went wrong in them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from tests.results.test_derive import derived, files, sweep
from velosweep.errors import StorageError
from velosweep.records import JobRecord
from velosweep.results import chunks
from velosweep.results import derived_files as derive
from velosweep.results import worker_pool as crew
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.summarise import iterate_jobs

pytestmark = pytest.mark.usefixtures("in_pieces")


@pytest.fixture
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is large: the journal, and a sweep of more than one baseline."""
    monkeypatch.setattr(derive, "_LARGE_JOURNAL_BYTES", 0)
    monkeypatch.setattr(derive, "CHUNK_ROWS", 30)
    monkeypatch.setattr(chunks, "PART_ROWS", 30)


@pytest.fixture
def two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two, however few the parts and the processors."""
    monkeypatch.setattr(crew, "_workers", lambda _: 2)


def compare_elsewhere(samples: pa.Table, jobs: Mapping[str, JobRecord]) -> Iterator[Sequence[Comparison]]:
    """What `derive` is given, with the process that was here as the category of a prompt."""
    for rows in iterate_jobs(samples, jobs=jobs):
        yield [replace(row, prompt_category=str(os.getpid())) for row in rows]


def test_several_processes_write_the_same_bytes_as_one(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    one = derived(sweep(tmp_path / "one").root)
    request.getfixturevalue("two_processes")
    several = derived(sweep(tmp_path / "several").root)

    assert files(tmp_path / "one") == files(tmp_path / "several")
    assert one.comparisons == several.comparisons
    assert list(one.summaries) == list(several.summaries)


@pytest.mark.usefixtures("two_processes")
def test_a_large_sweep_is_worked_on_elsewhere(tmp_path: Path) -> None:
    found = derive.derive(sweep(tmp_path).root, compare_elsewhere)

    assert str(os.getpid()) not in {row.prompt_category for row in found.comparisons}


@pytest.mark.usefixtures("two_processes")
def test_what_goes_wrong_in_a_process_is_said(tmp_path: Path) -> None:
    paths = sweep(tmp_path)
    (tmp_path / "3").write_text("a file where a job's folder should be")

    with pytest.raises(StorageError) as caught:
        derived(paths.root)

    assert "move it away" in (caught.value.remedy or "")


@pytest.mark.usefixtures("two_processes")
def test_a_process_that_is_killed_leaves_a_sweep_that_can_be_collated_again(tmp_path: Path) -> None:
    paths = sweep(tmp_path)

    with pytest.raises(StorageError) as caught:
        derive.derive(paths.root, lambda table, jobs: os._exit(9))

    assert "velosweep collate" in (caught.value.remedy or "")
    assert not paths.results.exists()
