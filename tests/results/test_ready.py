"""Files that were written while the sweep went on are those that its end would have written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from tests.results.test_derive import files, sweep, two_baselines
from velosweep.records import JobRecord
from velosweep.results import derived_files as derive
from velosweep.results.parts import Setting
from velosweep.results.precomputed import PrecomputedResults, ready
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.summarise import iterate_jobs
from velosweep.values import Sample

OTHERS = ("other-job0", "other-job1", "other-job2", "other-base")


class Compare:
    """Compares, and remembers which jobs."""

    def __init__(self) -> None:
        self.jobs: list[str] = []

    def __call__(self, table: pa.Table, jobs: Mapping[str, JobRecord]) -> Iterable[Sequence[Comparison]]:
        found = list(iterate_jobs(table, jobs=jobs))
        self.jobs += sorted({row.job_id for rows in found for row in rows})
        return found


def first_ready(root: Path, samples: Sequence[Sample]) -> PrecomputedResults:
    """The second baseline's jobs, worked out from these of the sweep's samples."""
    _, record = two_baselines()
    setting = Setting(root=root, sweep_id=record.sweep_id, single=False, compare=Compare())
    return ready(setting, record.jobs[3:], [one for one in samples if one.job_id in OTHERS])


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    root = sweep(tmp_path / "whole").root
    derive.derive(root, Compare())
    return files(root)


def test_the_end_does_the_rest_and_every_file_is_the_same(tmp_path: Path, whole: dict[str, bytes]) -> None:
    root, compare = sweep(tmp_path / "ahead").root, Compare()
    one = first_ready(root, two_baselines()[0])
    early = files(root)

    derived = derive.derive(root, compare, [one])

    assert compare.jobs == ["job0", "job1", "job2"]
    assert files(root) == whole
    assert early.items() <= whole.items()
    assert [row.job_num for row in derived.comparisons if row.prompt_id is None] == list(range(6))


def test_when_all_is_ready_nothing_is_compared_again(tmp_path: Path, whole: dict[str, bytes]) -> None:
    root, compare = sweep(tmp_path / "ahead").root, Compare()
    samples, record = two_baselines()
    setting = Setting(root=root, sweep_id=record.sweep_id, single=False, compare=Compare())
    all_ready = ready(setting, record.jobs, samples)

    derive.derive(root, compare, [all_ready])

    assert compare.jobs == []
    assert files(root) == whole


def test_what_has_more_rows_since_is_done_again(tmp_path: Path, whole: dict[str, bytes]) -> None:
    root, compare = sweep(tmp_path / "ahead").root, Compare()
    some = two_baselines()[0][:-4]
    one = first_ready(root, some)

    derive.derive(root, compare, [one])

    assert set(compare.jobs) == {"job0", "job1", "job2", *OTHERS[:3]}
    assert files(root) == whole


def test_what_was_asked_otherwise_is_done_again_and_how_a_job_ended_is_no_matter(tmp_path: Path) -> None:
    samples, record = two_baselines()
    one = first_ready(sweep(tmp_path).root, samples)
    jobs = {job.id: replace(job, state="done", error="once") for job in record.jobs}

    assert one.stands(jobs, one.rows)
    assert not one.stands(jobs | {"other-job0": replace(jobs["other-job0"], n_draft=99)}, one.rows)
    assert not one.stands({}, one.rows)
