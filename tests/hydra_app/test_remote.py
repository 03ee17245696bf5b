"""A sweep shared out over SLURM tasks or Dask workers takes the samples that a local one takes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

import velosweep
from tests.faults.conftest import bench, tiny_pair  # noqa: F401
from tests.faults.harness import PATIENCE_S, Bench, complete
from velosweep.results.journal import read_journal
from velosweep.values import Mode, Sample, Status

SLURM = ("hydra/launcher=slurm", "hydra.launcher.cluster=local", "hydra.launcher.tasks=2")
ONE_WORKER = ("hydra/launcher=dask", "hydra.launcher.workers=1")
DASK = ("hydra/launcher=dask", "hydra.launcher.workers=2")
GRID = ("n_draft=2,4,6", "iterations=3")


def speculative(samples: tuple[Sample, ...]) -> Counter[tuple[str, int | None, int, str]]:
    """The good measurements of the jobs' own arms: the same wherever they were taken."""
    return Counter(
        (sample.job_id, sample.job_num, sample.iteration, sample.prompt_id)
        for sample in samples
        if sample.status is Status.OK and not sample.warmup and sample.mode is Mode.SPECULATIVE
    )


@pytest.mark.parametrize("launcher", [SLURM, DASK], ids=["slurm", "dask"])
def test_the_same_samples_are_taken_as_by_the_local_launcher(bench: Bench, launcher: tuple[str, ...]) -> None:  # noqa: F811
    local, remote = bench.folder / "local", bench.folder / "remote"
    here = bench.sweep(*GRID, root=local)
    assert here.wait() == 0, here.said

    drive = bench.sweep(*GRID, *launcher, root=remote)

    assert drive.wait() == 0, drive.said
    assert speculative(bench.samples(remote)) == speculative(bench.samples(local))
    assert bench.states(remote) == ["done"] * 3
    assert velosweep.load(remote).num_rows == len(bench.samples(remote))
    assert {path.name for path in remote.iterdir()} >= {"0", "1", "2", "samples.parquet", "summaries.json"}
    assert everything_ends(bench)
    each_group_has_a_vanilla_series_of_its_own(bench.samples(remote))


def each_group_has_a_vanilla_series_of_its_own(samples: Iterable[Sample]) -> None:
    taken: dict[int, set[tuple[Mode, int]]] = {}
    for sample in samples:
        if not sample.warmup:
            taken.setdefault(sample.lane, set()).add((sample.mode, sample.iteration))

    assert set(taken) == {0, 1}
    for runs in taken.values():
        assert {(mode, iteration) for mode in Mode for iteration in (1, 2, 3)} <= runs


def test_a_killed_slurm_task_costs_the_others_nothing_and_the_same_command_goes_on(bench: Bench) -> None:  # noqa: F811
    bench.hold(2)
    drive = bench.sweep(*GRID, *SLURM)
    bench.wait_for(lambda: bench.events("held") and groups_with_samples(bench.root))
    victim = groups_with_samples(bench.root)[0]
    writers(bench, victim.name)[0].kill()
    bench.release()

    assert drive.wait() == 1, drive.said
    assert "settings failed or failed in part: " in drive.err.read_text()
    assert "failed" in bench.states() or "partial" in bench.states()
    assert "done" in bench.states()
    kept = speculative(bench.samples())

    again = bench.sweep(*GRID, *SLURM)

    assert again.wait() == 0, again.said
    assert bench.states() == ["done"] * 3
    assert kept <= speculative(bench.samples())
    assert set(speculative(bench.samples()).values()) == {1}


def groups_with_samples(root: Path) -> list[Path]:
    """Folders of groups that have measured something."""
    return [path.parent for path in root.glob(".groups/*/journal.jsonl") if b'"kind":"sample"' in path.read_bytes()]


def everything_ends(bench: Bench) -> bool:  # noqa: F811
    """Whether all processes of the sweep end soon."""
    deadline = time.monotonic() + PATIENCE_S
    while (left := bench.processes()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not left


def writers(bench: Bench, folder: str = "", *, but: int | None = None) -> list[psutil.Process]:  # noqa: F811
    """Processes that write a journal whose path holds `folder`.

    Children of the driver are looked at, too: with setproctitle installed a Dask worker hides its environment.
    """
    found = []
    drivers = [psutil.Process(drive.process.pid) for drive in bench.drives if drive.process.poll() is None]
    children = [child for driver in drivers for child in driver.children(recursive=True)]
    for process in {*bench.processes(), *children}:
        with suppress(psutil.Error):
            paths = [file.path for file in process.open_files()]
            if process.pid != but and any(path.endswith("journal.jsonl") and folder in path for path in paths):
                found.append(process)
    return found


def test_what_a_lost_dask_worker_had_sent_is_kept_and_not_measured_again(bench: Bench) -> None:  # noqa: F811
    bench.hold(5)
    drive = bench.sweep(*GRID, *ONE_WORKER)
    bench.wait_for(lambda: bench.events("held") and len(arrived(bench.root)) >= 5)
    assert not (bench.root / "journal.jsonl").exists()
    writers(bench, but=drive.process.pid)[0].kill()
    before = arrived(bench.root)
    bench.release()

    assert drive.wait() == 0, drive.said

    complete(bench, n_draft=(2, 4, 6))
    assert before <= {sample.started_at for sample in bench.samples()}
    runs = [event for event in bench.events("run") if event["counts"]]
    assert len(runs) <= 12 + 1  # the one under way when the worker died
    assert bench.states() == ["done"] * 3
    assert "Iteration 3/3" in drive.said
    assert not list(bench.root.glob(".groups/*/journal-*"))
    assert everything_ends(bench)


class DaskProcesses(NamedTuple):
    """A scheduler and its workers."""

    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]


@contextmanager
def dask_workers(bench: Bench, count: int) -> Iterator[DaskProcesses]:  # noqa: F811
    """A scheduler of its own with workers that nobody restarts; all are connected, for a sweep counts them."""
    options = {"env": bench.environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    file = bench.folder / "scheduler.json"
    file.unlink(missing_ok=True)
    scheduler = [
        sys.executable,
        "-m",
        "distributed.cli.dask_scheduler",
        "--host=127.0.0.1",
        "--port=0",
        "--no-dashboard",
    ]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--nthreads=1", "--no-nanny", "--no-dashboard"]
    started = [subprocess.Popen([*scheduler, f"--scheduler-file={file}"], **options)]  # type: ignore[call-overload]
    logs = [bench.folder / f"worker-{number}.log" for number in range(count)]
    for log in logs:
        with log.open("wb") as stderr:
            started.append(subprocess.Popen([*worker, f"--scheduler-file={file}"], **{**options, "stderr": stderr}))  # type: ignore[call-overload]
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not file.is_file() or not file.read_text().endswith("}"):
            assert time.monotonic() < deadline, "no scheduler"
            time.sleep(0.1)
        while not all("Registered to" in log.read_text() for log in logs):
            assert time.monotonic() < deadline, "a worker is not connected"
            time.sleep(0.1)
        yield DaskProcesses(json.loads(file.read_text())["address"], started[0], started[1:])
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_a_scheduler_that_repeats_a_lost_worker_s_task_costs_no_measurement(bench: Bench) -> None:  # noqa: F811
    bench.hold(4)
    with dask_workers(bench, 2) as (address, _, workers):
        drive = bench.sweep(*GRID, "hydra/launcher=dask", f"hydra.launcher.address={address}", "hydra.launcher.tasks=1")
        bench.wait_for(lambda: bench.events("held") and len(arrived(bench.root)) >= 4)
        before = arrived(bench.root)
        holder = next(worker for worker in workers if psutil.Process(worker.pid).children())
        holder.kill()
        bench.release()

        assert drive.wait() == 0, drive.said

    assert before <= {sample.started_at for sample in bench.samples()}
    assert set(speculative(bench.samples()).values()) == {1}
    assert bench.states() == ["done"] * 3


def test_a_group_that_goes_to_another_machine_begins_anew(bench: Bench) -> None:  # noqa: F811
    bench.hold(5)
    drive = bench.sweep(*GRID, *ONE_WORKER)
    bench.wait_for(lambda: bench.events("held") and len(arrived(bench.root)) >= 5)
    before = arrived(bench.root)
    (record,) = bench.root.glob(".groups/*/sweep.json")
    content = json.loads(record.read_text())
    content["environment"]["host"] = "the-machine-that-was-lost"
    record.write_text(json.dumps(content))
    writers(bench, but=drive.process.pid)[0].kill()
    bench.release()

    assert drive.wait() == 0, drive.said

    complete(bench, n_draft=(2, 4, 6))
    assert not before & {sample.started_at for sample in bench.samples()}
    (aside,) = bench.root.glob(".groups/*/journal-0.jsonl")
    assert before <= {sample.started_at for sample in read_journal(aside).samples}


def arrived(root: Path) -> set[datetime]:
    """When the good runs were started that the driver has journalled for its groups."""
    return {
        sample.started_at
        for path in root.glob(".groups/*/journal.jsonl")
        for sample in read_journal(path).samples
        if sample.status is Status.OK and not sample.warmup
    }
