"""Sweeps on a real SLURM of one node; its servers are stand-ins."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.conftest import bench, tiny_pair  # noqa: F401
from tests.faults.harness import Bench
from tests.hydra_app.slurm_cluster import SlurmCluster, slurm_cluster

SWEEP = ("n_draft=2,4", "iterations=2", "hydra/launcher=slurm", "hydra.launcher.tasks=2")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as started:
        yield started


def test_two_tasks_measure_a_sweep_and_ask_for_no_gpu(bench: Bench, cluster: SlurmCluster) -> None:  # noqa: F811
    drive = bench.sweep(*SWEEP, env={**bench.environment, **cluster.environment})

    assert drive.wait(120) == 0, drive.said
    assert bench.states() == ["done", "done"]
    assert set(bench.taken().values()) == {1}
    assert {sample.lane for sample in bench.samples()} == {0, 1}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("partition=gone", "invalid partition specified: gone"),
        ("gpus_per_node=1", "Invalid generic resource (gres) specification"),
    ],
)
def test_what_the_cluster_does_not_have_is_refused_in_its_words(
    bench: Bench,  # noqa: F811
    cluster: SlurmCluster,
    asked: str,
    said: str,
) -> None:
    drive = bench.sweep(*SWEEP, f"hydra.launcher.{asked}", env={**bench.environment, **cluster.environment})

    assert drive.wait(60) == 2, drive.said
    assert f"SLURM refused the tasks: {said}" in drive.said
    assert "hydra.launcher.partition" in drive.said


def test_a_task_that_was_cancelled_is_told_and_the_same_command_goes_on(
    bench: Bench,  # noqa: F811
    cluster: SlurmCluster,
) -> None:
    """The cluster has no accounting: what became of a task without a result is asked of its queue."""
    words = [*SWEEP, "hydra.launcher.array_parallelism=1"]  # the second task waits for the first
    bench.set(ms_per_token=50)
    drive = bench.sweep(*words, env={**bench.environment, **cluster.environment})
    bench.wait_for(lambda: "PENDING" in cluster.ask("squeue", "--noheader", "--array", "--format=%T").split())
    bench.wait_for(lambda: "RUNNING" in cluster.ask("squeue", "--noheader", "--array", "--format=%T").split())
    cluster.ask("scancel", "--state=PENDING", "--name=velosweep")

    assert drive.wait(90) == 1, drive.said
    assert "was cancelled; run the same command again to go on" in " ".join(drive.said.split())
    again = bench.sweep(*words, env={**bench.environment, **cluster.environment})
    assert again.wait(90) == 0, again.said
    assert set(bench.taken().values()) == {1}
