"""Sweeps on a real SLURM of one node; its servers are stand-ins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import psutil
import pytest

from tests.faults.conftest import bench, tiny_pair  # noqa: F401
from tests.faults.harness import Bench, Drive
from tests.hydra_app.slurm_cluster import SlurmCluster, slurm_cluster
from velosweep.values import Status

SWEEP = ("n_draft=2,4", "iterations=2", "hydra/launcher=slurm", "hydra.launcher.tasks=2")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as started:
        yield started


def test_two_tasks_measure_a_sweep_and_ask_for_no_gpu(bench: Bench, cluster: SlurmCluster) -> None:  # noqa: F811
    drive = bench.sweep(*SWEEP, env={**bench.environment, **cluster.environment})

    assert drive.wait() == 0, drive.said
    assert bench.states() == ["done", "done"]
    assert set(bench.taken().values()) == {1}
    assert {sample.lane for sample in bench.samples()} == {0, 1}
    assert "ccounting" not in drive.said


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

    assert drive.wait() == 2, drive.said
    assert f"SLURM refused the tasks: {said}" in drive.said
    assert "hydra.launcher.partition" in drive.said


def test_cancelled_in_mid_run_the_same_command_goes_on_and_nothing_is_measured_twice(
    bench: Bench,  # noqa: F811
    cluster: SlurmCluster,
) -> None:
    """The cluster has no accounting: what became of a task without a result is asked of its queue."""
    words = [*SWEEP, "hydra.launcher.array_parallelism=1"]  # the second task waits for the first
    bench.set(ms_per_token=50)
    drive = bench.sweep(*words, env={**bench.environment, **cluster.environment})
    bench.wait_for(lambda: pair_on_disk(bench))
    cluster.ask("scancel", "--name=velosweep")

    assert drive.wait() == 1, drive.said
    told = " ".join(drive.out.read_text().split())
    assert told.count("was cancelled; run the same command again to go on") == 2
    assert "ccounting" not in drive.said
    kept = {sample.started_at for sample in bench.samples()}
    bench.set(ms_per_token=1)
    again = bench.sweep(*words, env={**bench.environment, **cluster.environment})
    assert again.wait() == 0, again.said
    assert kept <= {sample.started_at for sample in bench.samples()}
    assert set(bench.taken().values()) == {1}
    assert bench.leftovers() == []


def test_a_drained_node_is_told_while_the_tasks_wait_for_it(bench: Bench, cluster: SlurmCluster) -> None:  # noqa: F811
    node = ("scontrol", "update", f"NodeName={cluster.node}")
    cluster.ask(*node, "State=DRAIN", "Reason=repair")
    try:
        drive = bench.sweep("n_draft=2", "iterations=1", SWEEP[2], env={**bench.environment, **cluster.environment})
        bench.wait_for(lambda: "DRAINED" in drive.said)
    finally:
        cluster.ask(*node, "State=RESUME")

    assert "1 waiting (Nodes required for job are DOWN, DRAINED or reserved" in words_of(drive)
    assert "`sinfo -R` may say why, `scancel" in words_of(drive)
    assert drive.wait() == 0, drive.said
    assert set(bench.taken().values()) == {1}


def test_a_task_that_is_put_into_the_queue_again_goes_on_there(
    bench: Bench,  # noqa: F811
    cluster: SlurmCluster,
) -> None:
    """SLURM sends USR2 a while before the time limit, as submitit asks, and before it makes room for others."""
    bench.set(ms_per_token=50)
    words = ["n_draft=2", "iterations=4", SWEEP[2]]
    drive = bench.sweep(*words, env={**bench.environment, **cluster.environment})
    bench.wait_for(lambda: pair_on_disk(bench))
    cluster.ask("scancel", "--name=velosweep", "--signal=USR2")
    bench.wait_for(lambda: "BeginTime" in cluster.ask("squeue", "--noheader", "--format=%r"))
    bench.wait_for(lambda: not any(map(is_server, bench.servers())))  # they end with the task
    bench.set(ms_per_token=1)
    job = cluster.ask("squeue", "--noheader", "--format=%A").strip()
    # else two minutes later; within the second in which it was stopped the node refuses it: "credential revoked"
    cluster.ask("scontrol", "update", f"JobId={job}", "StartTime=now+3")

    assert drive.wait() == 0, drive.said
    assert set(bench.taken().values()) == {1}


def is_server(process: psutil.Process) -> bool:
    """Whether a process that may have ended by now is a server."""
    try:
        return any("llama-server" in word for word in process.cmdline())
    except psutil.Error:
        return False


def pair_on_disk(bench: Bench) -> bool:  # noqa: F811
    """Whether a task has measured vanilla and a setting."""
    return any(len(bench.taken(journal.parent)) > 1 for journal in bench.root.glob(".groups/*/journal.jsonl"))


def words_of(drive: Drive) -> str:
    """All that stood on the screen, without its line breaks."""
    return " ".join(drive.said.split())


@pytest.mark.real
def test_streams_and_depths_are_measured_by_tasks_as_they_are_here(bench: Bench, cluster: SlurmCluster) -> None:  # noqa: F811
    drive = bench.start(
        *("-m", "engine=embedded", f"model_pair.main_model={bench.main_model}"),
        *(f"model_pair.draft_model={bench.draft_model}", f"hydra.sweep.dir={bench.root}", "n_draft=4"),
        *("concurrency=1,2", "depth=0,100", "n_predict=24", "engine.context=256", "engine.threads=1", "iterations=2"),
        *("hydra/launcher=slurm", "hydra.launcher.tasks=2"),
        env={**bench.environment, **cluster.environment},
    )

    assert drive.wait() == 0, drive.said
    taken = Counter(
        (sample.concurrency, sample.depth, sample.status) for sample in bench.samples() if not sample.warmup
    )
    assert taken == {(streams, depth, Status.OK): 4 for streams in (1, 2) for depth in (0, 100)}
