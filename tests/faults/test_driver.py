"""The driver interrupted, ended or killed, at every stage: at most the run under way is lost, nothing stays behind,
and `velosweep resume` finishes the sweep with every measurement exactly once."""

from __future__ import annotations

import os
import pty
import signal
from collections.abc import Callable

import pytest

from tests.faults.harness import Bench, complete

GRID = [4, 8]
SWEEP = ("n_draft=4,8", "iterations=2")

STAGES: dict[str, Callable[[Bench], object]] = {
    "loading": lambda bench: bench.events("start"),
    "measuring": lambda bench: bench.events("held") and len(bench.taken()) >= 2,
    "writing": lambda bench: len(bench.taken()) == 6,
}


def go_on(bench: Bench) -> None:
    """Resume to the end."""
    bench.release()
    drive = bench.run("resume", str(bench.root))

    assert drive.process.returncode == 0, drive.said
    complete(bench, n_draft=GRID, iterations=2)
    assert bench.states() == ["done", "done"]
    assert bench.table().num_rows == sum(1 for _ in bench.samples())
    assert bench.leftovers() == []


@pytest.mark.parametrize(
    ("number", "stage"),
    [
        *((number, stage) for number in (signal.SIGTERM, signal.SIGKILL) for stage in STAGES),
        (signal.SIGHUP, "measuring"),
        pytest.param(signal.SIGHUP, "loading", marks=pytest.mark.long),
        pytest.param(signal.SIGHUP, "writing", marks=pytest.mark.long),
    ],
)
def test_a_driver_that_dies_loses_at_most_the_run_under_way(bench: Bench, number: signal.Signals, stage: str) -> None:
    bench.hold(6 if stage == "writing" else 2)
    bench.set(load_s=0.5 if stage == "loading" else 0)
    drive = bench.sweep(*SWEEP)
    bench.wait_for(lambda: STAGES[stage](bench))
    before = len(bench.taken())
    drive.send(number)
    status = drive.wait()

    assert len(bench.taken()) >= before
    assert bench.leftovers() == [] or number == signal.SIGKILL
    if number == signal.SIGKILL:
        assert status == -number
        assert [left for left in bench.leftovers() if "temporary file" not in left] == []
    elif stage != "writing":
        assert status == 130, drive.said
        assert f"velosweep resume {bench.root}" in drive.said
        assert bench.states() == ["pending", "pending"]
        assert (bench.root / "results.parquet").is_file()
    go_on(bench)


def test_ctrl_c_once_ends_after_the_run_under_way(bench: Bench) -> None:
    bench.hold(2)
    drive = bench.sweep(*SWEEP)
    bench.wait_until_held()
    drive.send(signal.SIGINT)
    bench.wait_for(lambda: "Ctrl-C again stops at once" in drive.said)
    bench.release()

    assert drive.wait() == 130, drive.said
    assert f"velosweep resume {bench.root}" in drive.said
    assert len(bench.taken()) == 2 + 1  # the run that was under way is on disk, and none was begun after it
    go_on(bench)


def test_ctrl_c_twice_ends_at_once(bench: Bench) -> None:
    bench.hold(2)
    drive = bench.sweep(*SWEEP)
    bench.wait_until_held()
    drive.send(signal.SIGINT)
    bench.wait_for(lambda: "Ctrl-C again" in drive.said)
    drive.send(signal.SIGINT)

    assert drive.wait() == 130, drive.said
    assert len(bench.taken()) == 2
    go_on(bench)


def test_ctrl_c_gives_up_a_load_at_once(bench: Bench) -> None:
    bench.fault("hang", at="load", arm="vanilla")
    drive = bench.sweep(*SWEEP)
    bench.wait_for(lambda: bench.events("start"))
    drive.send(signal.SIGINT)

    assert drive.wait() == 130, drive.said
    assert f"Interrupted before anything was measured. Go on with: velosweep resume {bench.root}\n" in drive.said
    assert not any(word in drive.said for word in ("Nothing was measured", "Report:", "saved"))
    assert bench.states() == ["pending", "pending"]
    bench.set(faults=[])
    go_on(bench)


def test_nohup_is_respected(bench: Bench) -> None:
    bench.hold(1)
    drive = bench.sweep(*SWEEP, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    bench.wait_until_held()
    drive.send(signal.SIGHUP)
    bench.release()

    assert drive.wait() == 0, drive.said
    complete(bench, n_draft=GRID, iterations=2)


def test_a_terminal_that_goes_away_silences_the_sweep_and_nothing_else(bench: Bench) -> None:
    bench.hold(1)
    master, terminal = pty.openpty()
    drive = bench.sweep(*SWEEP, stdout=terminal, stderr=terminal)
    os.close(terminal)
    bench.wait_until_held()
    os.close(master)
    bench.release()
    drive.wait()

    complete(bench, n_draft=GRID, iterations=2)
    assert bench.states() == ["done", "done"]
    assert bench.table().num_rows == 9
    assert bench.leftovers() == []


@pytest.mark.parametrize(("lines", "again"), [(0, False), (12, False), (0, True)])
def test_a_pipe_that_nobody_reads_any_more_stops_no_sweep(bench: Bench, lines: int, again: bool) -> None:
    if again:
        bench.hold(1)
        drive = bench.sweep(*SWEEP)
        bench.wait_until_held()
        drive.send(signal.SIGINT)
        bench.release()
        assert drive.wait() == 130, drive.said
    reading, writing = os.pipe()
    words = ["resume", str(bench.root)] if again else bench.overrides(*SWEEP)
    drive = bench.start(*words, stdout=writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as screen:
        for _ in range(lines):
            screen.readline()

    assert drive.wait() == 0, drive.said
    assert drive.said.count("the screen can't be written any more (Broken pipe); the sweep goes on without it") == 1
    assert len(drive.said.splitlines()) == 1
    complete(bench, n_draft=GRID, iterations=2)
    assert (bench.root / "report.html").is_file()


def test_a_failure_keeps_its_exit_status_where_neither_screen_is_read(bench: Bench) -> None:
    bench.fault("oom", at="load")
    reading, writing = os.pipe()
    drive = bench.sweep(*SWEEP, stdout=writing, stderr=writing)
    os.close(writing)
    os.close(reading)

    assert drive.wait() == 3
    assert bench.states() == ["failed", "failed"]


def test_a_sweep_that_was_killed_before_its_record_was_written_starts_over(bench: Bench) -> None:
    bench.fault("hang", at="load", arm="vanilla")
    drive = bench.sweep(*SWEEP)
    bench.wait_for((bench.root / "journal.jsonl").exists)
    drive.send(signal.SIGKILL)
    drive.wait()
    (bench.root / "sweep.json").unlink(missing_ok=True)
    bench.set(faults=[])

    assert bench.sweep(*SWEEP).wait() == 0
    complete(bench, n_draft=GRID, iterations=2)


def test_a_server_behind_a_wrapper_script_dies_with_the_driver_too(bench: Bench) -> None:
    real = bench.program.with_name("real-server")
    bench.program.rename(real)
    bench.program.write_text(f'#!/bin/sh\n"{real}" "$@"\nexit $?\n')
    bench.program.chmod(0o755)
    bench.hold(2)
    drive = bench.sweep(*SWEEP)
    bench.wait_until_held()
    drive.send(signal.SIGKILL)
    drive.wait()

    assert [left for left in bench.leftovers() if "temporary file" not in left] == []
