"""The folder of a sweep that was shared out goes on as that, and the folder of another one is no place for it."""

from __future__ import annotations

import shutil

from tests.faults.conftest import bench, tiny_pair  # noqa: F401
from tests.faults.harness import Bench
from tests.hydra_app.test_remote import GRID, SLURM


def test_a_shared_out_sweep_is_not_measured_further_on_the_driver(bench: Bench) -> None:  # noqa: F811
    shared_out = bench.sweep(*GRID, *SLURM[:2], "hydra.launcher.tasks=1")
    assert shared_out.wait() == 0
    assert "velosweep more" not in shared_out.said
    before = (bench.root / "journal.jsonl").read_bytes()

    drives = [bench.run("more", str(bench.root)), bench.run("resume", str(bench.root)), bench.sweep(*GRID)]

    for drive in drives:
        status, said = drive.wait(), " ".join(drive.said.split())
        assert (status, "Its groups were measured elsewhere" in said) == (2, True), drive.said
        assert f"hydra.sweep.dir={bench.root}" in said
        assert "hydra.launcher.tasks=1" in said
    shutil.rmtree(bench.root / ".groups")  # as in a copy without hidden files
    copied = [bench.run("more", str(bench.root)), bench.sweep(*GRID, *SLURM)]

    assert [drive.wait(100) for drive in copied] == [2, 2], [drive.said for drive in copied]
    assert "Its groups were measured elsewhere" in " ".join(copied[0].said.split())
    assert "copy .groups from where it was measured" in " ".join(copied[1].said.split())
    assert (bench.root / "journal.jsonl").read_bytes() == before


def test_a_sweep_measured_here_is_not_shared_out_which_would_write_over_its_samples(bench: Bench) -> None:  # noqa: F811
    assert bench.sweep("n_draft=2").wait() == 0
    before = (bench.root / "journal.jsonl").read_bytes()

    drive = bench.sweep("n_draft=2,4", *SLURM)

    assert (drive.wait(), (bench.root / "journal.jsonl").read_bytes()) == (2, before)
    assert "choose another hydra.sweep.dir" in drive.said
    assert not (bench.root / ".groups").exists()


def test_batches_are_refused_of_which_the_folder_would_keep_the_last(bench: Bench) -> None:  # noqa: F811
    drive = bench.sweep(*GRID, *SLURM, "hydra.sweeper.max_batch_size=1")

    assert drive.wait() == 2, drive.said
    assert "hydra.sweeper.max_batch_size" in drive.said
    assert not bench.root.exists()
