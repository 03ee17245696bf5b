"""A sweep that version 0.1.0 recorded is collated to the files and figures of that version."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import velosweep
from velosweep.reporting.collation import collate
from velosweep.results.journal import read_journal

OLD = Path(__file__).parents[1] / "golden" / "old_sweep"
RECORDED = ("sweep.json", "journal.jsonl")
INTERVALS = {"ci_low", "ci_high", "ci_method"}  # since judged by the noise of all settings, where there are several
DERIVED = sorted(
    str(path.relative_to(OLD)) for path in OLD.rglob("*.json") if path.name not in ("sweep.json", "results.json")
)


@pytest.fixture(scope="module")
def collated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what was recorded, with the files that this program derives."""
    root = tmp_path_factory.mktemp("old_sweep")
    for name in RECORDED:
        shutil.copy(OLD / name, root / name)
    assert collate(root).damaged == ()
    return root


def test_every_summary_is_the_same_to_the_byte(collated: Path) -> None:
    assert len(DERIVED) == 7
    assert {name: (collated / name).read_bytes() for name in DERIVED} == {
        name: (OLD / name).read_bytes() for name in DERIVED
    }


def test_every_row_of_the_results_is_the_same(collated: Path) -> None:
    expected = json.loads((OLD / "results.json").read_text("utf-8"))
    rows = json.loads(json.dumps(velosweep.load_results(collated).to_pylist(), default=str))

    assert len(rows) == len(expected) == 6
    for row, before in zip(rows, expected, strict=True):
        for name, value in before.items():  # columns may have been added since
            if name in INTERVALS:
                continue
            figures = isinstance(value, float) or (isinstance(value, list) and name != "findings")
            assert row[name] == (pytest.approx(value, rel=1e-12) if figures else value), name


def test_intervals_are_todays_and_name_their_method(collated: Path) -> None:
    expected = json.loads((OLD / "results.json").read_text("utf-8"))
    rows = velosweep.load_results(collated).to_pylist()

    assert {row["ci_method"] for row in rows} == {"moderated log-ratio t within rounds, conditional on this launch"}
    for row, before in zip(rows, expected, strict=True):
        assert row["ci_low"] < row["speedup_gm"] < row["ci_high"]
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((before["ci_low"], before["ci_high"]), rel=0.02)


def test_every_run_is_in_the_samples_and_each_job_has_its_own_and_its_baselines(collated: Path) -> None:
    samples = read_journal(OLD / "journal.jsonl").samples

    assert velosweep.load(collated).num_rows == len(samples) == 34
    assert [velosweep.load(collated / job).num_rows for job in ("0", "1")] == [22, 23]


def test_its_report_is_written(collated: Path) -> None:
    assert "Speculative" in (collated / "report.html").read_text("utf-8")
