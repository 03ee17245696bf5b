"""Every wait of a sweep ends when a signal asks for it: for servers to load, for runs, for a rest, for a device."""

from __future__ import annotations

import signal
import time

import psutil
import pytest

from tests.faults.harness import PATIENCE_S, Bench, Drive

INT, TERM = signal.SIGINT, signal.SIGTERM


def ends(bench: Bench, drive: Drive, *numbers: int, status: int = 130) -> None:
    """Send the signals; the sweep ends soon, and not after the ten minutes and more that the waits last."""
    drive.send(numbers[0])
    if len(numbers) > 1:
        bench.wait_for(lambda: "Ctrl-C again" in drive.said)
        drive.send(numbers[1])

    assert drive.wait() == status, drive.said


@pytest.mark.parametrize(("kind", "lanes", "number"), [("hang", 1, TERM), ("hang", 2, INT), ("deaf", 2, TERM)])
def test_a_wait_for_servers_to_load(bench: Bench, kind: str, lanes: int, number: int) -> None:
    bench.set(devices=["Stand-in GPU"] * lanes)
    bench.fault(kind, at="load", arm=4)
    drive = bench.sweep("n_predict=20,30", "n_draft=4")
    bench.wait_for(lambda: len(bench.events("start")) == 2 * lanes)
    ends(bench, drive, number)

    assert bench.leftovers() == []


@pytest.mark.parametrize("numbers", [[TERM], [INT, INT]], ids=["TERM", "INT twice"])
def test_runs_that_hang_on_two_lanes(bench: Bench, numbers: list[int]) -> None:
    bench.set(devices=["Stand-in GPU"] * 2)
    bench.fault("hang", at="run", run=2)
    drive = bench.sweep("n_predict=20,30", "n_draft=4")
    warm_ups = 4
    bench.wait_for(lambda: sum(event["measured"] for event in bench.events("run")) == warm_ups)
    ends(bench, drive, *numbers)

    assert bench.leftovers() == []


@pytest.mark.parametrize("number", [INT, TERM], ids=["INT", "TERM"])
def test_a_rest_of_a_machine_that_became_slow(bench: Bench, number: int) -> None:
    bench.set(ms_per_token=1.0)
    cooldown = ("protocol.cooldown=true", "protocol.cooldown_drift=0.01", "protocol.cooldown_max_s=600")
    drive = bench.sweep("n_draft=4", "iterations=20", *cooldown)
    bench.wait_for_runs(2)
    bench.set(ms_per_token=5.0)
    bench.wait_for(lambda: bench.taken() and time.monotonic() - max(run["end"] for run in bench.events("run")) > 0.5)
    ends(bench, drive, number)

    assert bench.leftovers() == []


@pytest.mark.parametrize("number", [INT, TERM], ids=["INT", "TERM"])
def test_a_wait_for_a_device_in_use(bench: Bench, number: int) -> None:
    bench.set(ms_per_token=50)
    bench.sweep("n_draft=4", "iterations=500")
    bench.wait_for_runs(1)
    waiting = bench.sweep("n_draft=4", root=bench.folder / "waiting")
    bench.wait_for(lambda: "Waiting for" in waiting.said)
    ends(bench, waiting, number)

    assert "Stopped while waiting for" in " ".join(waiting.said.split())


@pytest.mark.parametrize("number", [INT, TERM, signal.SIGHUP, signal.SIGKILL], ids=["INT", "TERM", "HUP", "KILL"])
def test_a_question_to_a_program_before_anything_runs(bench: Bench, number: int) -> None:
    asked, temporary = bench.folder / "asked", bench.folder / "tmp"
    temporary.mkdir()
    bench.program.write_text(f"#!/bin/sh\necho $$ > {asked}.new; mv {asked}.new {asked}; exec sleep 600\n")
    drive = bench.start(*bench.overrides("n_draft=4"), env={**bench.environment, "TMPDIR": str(temporary)})
    bench.wait_for(asked.exists)
    asked_program = [psutil.Process(int(asked.read_text()))]
    ends(bench, drive, number, status=-number if number == signal.SIGKILL else 130)

    assert list(temporary.iterdir()) == []
    assert psutil.wait_procs(asked_program, timeout=PATIENCE_S)[1] == []
