"""Going on with a saved sweep: what is refused is told in words that fit it."""

from pathlib import Path

import pytest

from tests.faults.conftest import bench, tiny_pair  # noqa: F401
from tests.faults.harness import Bench
from tests.reporting import planned, sweeps
from velosweep.commands.resume import SavedSweep
from velosweep.config.settings import RunSettings
from velosweep.errors import ModelFileError


def test_what_is_in_samples_alone_is_not_written_over(bench: Bench) -> None:  # noqa: F811
    assert bench.sweep("n_draft=2").wait(100) == 0
    (bench.root / "journal.jsonl").unlink()
    before = (bench.root / "samples.parquet").read_bytes()

    for drive in (bench.run("resume", str(bench.root)), bench.run("more", str(bench.root)), bench.sweep("n_draft=2")):
        assert drive.wait(100) == 2, drive.said
        assert "lacks its journal.jsonl" in " ".join(drive.said.split())
    assert (bench.root / "samples.parquet").read_bytes() == before


def test_runs_of_a_sweep_without_its_record_are_not_mixed_with_new_ones(bench: Bench) -> None:  # noqa: F811
    assert bench.sweep("n_draft=2").wait(100) == 0
    (bench.root / "sweep.json").unlink()
    before = (bench.root / "journal.jsonl").read_bytes()

    drive = bench.sweep("n_draft=2")

    assert (drive.wait(100), "lacks its sweep.json" in " ".join(drive.said.split())) == (2, True), drive.said
    assert (bench.root / "journal.jsonl").read_bytes() == before


def test_a_model_that_is_gone_is_to_be_put_back_and_not_to_be_set(tmp_path: Path) -> None:
    jobs = list(planned.jobs())
    saved = SavedSweep(root=tmp_path, record=sweeps.default_sweep().record, jobs=jobs, settings=RunSettings())

    with pytest.raises(ModelFileError) as refused:
        saved.measure_rest(saved.jobs)

    assert "No model at /models/llama-3.1-8b-q4_k_m.gguf" in refused.value.message
    assert "put it back" in (refused.value.remedy or "")
    assert "model_pair" not in str(refused.value)
