"""Sweeps on a real Dask: a scheduler and workers that were started as processes; their servers are stand-ins."""

from __future__ import annotations

import signal

from tests.faults.conftest import bench, tiny_pair  # noqa: F401
from tests.faults.harness import Bench
from tests.hydra_app.test_remote import arrived, dask_workers, everything_ends

GRID = ("n_draft=2,4", "iterations=3", "hydra/launcher=dask")


def test_a_killed_scheduler_is_told_and_the_same_command_goes_on_whatever_the_number_of_workers(
    bench: Bench,  # noqa: F811
) -> None:
    bench.hold(3)
    with dask_workers(bench, 1) as cluster:
        drive = bench.sweep(*GRID, f"hydra.launcher.address={cluster.address}")
        bench.wait_for(lambda: bench.events("held") and len(arrived(bench.root)) >= 3)
        cluster.scheduler.kill()
        bench.release()

        assert drive.wait() == 1, drive.said
    assert "failed: the Dask scheduler was lost; start it again, then run the same command" in " ".join(
        drive.said.split()
    )
    assert "Traceback" not in drive.said
    kept = arrived(bench.root)
    with dask_workers(bench, 2) as cluster:
        again = bench.sweep(*GRID, f"hydra.launcher.address={cluster.address}")

        assert again.wait() == 0, again.said
    assert bench.states() == ["done", "done"]
    assert kept <= {sample.started_at for sample in bench.samples()}
    assert set(bench.taken().values()) == {1}
    assert everything_ends(bench)


def test_a_scheduler_without_workers_is_told_while_it_is_waited_for(bench: Bench) -> None:  # noqa: F811
    with dask_workers(bench, 0) as cluster:
        drive = bench.sweep(*GRID, f"hydra.launcher.address={cluster.address}")
        bench.wait_for(lambda: "No Dask worker" in drive.said)
        drive.send(signal.SIGINT)

        assert drive.wait() == 130, drive.said
    address = cluster.address
    assert f"is connected to {address}: waiting for one (`dask worker {address}`)" in " ".join(drive.said.split())
