"""Real sweeps on the embedded llama.cpp: two lanes at once, and two sweeps that want one device."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from pathlib import Path

import psutil
import pytest

import velosweep
from tests.forked import Forked
from velosweep.machine.cores import physical_cores

pytestmark = pytest.mark.real


def start(cwd, *arguments):
    environment = {**os.environ, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1", "VELOSWEEP_LOCK_DIR": str(cwd / "locks")}
    environment.pop("LLAMA_CPP_PATH", None)
    screen = Path(tempfile.mkdtemp(dir=cwd), "screen")
    words = ("engine=embedded", "n_predict=16", *arguments)
    return Forked(words, cwd=cwd, env=environment, out=screen, err=screen), screen


def children_until_it_ends(process):
    """The processor sets in which its children were seen."""
    driver, seen = psutil.Process(process.pid), set()
    while process.poll() is None:
        try:
            # the child takes its cores before it becomes the server
            found = [child for child in driver.children(recursive=True) if "-S" not in child.cmdline()]
            seen |= {tuple(child.cpu_affinity()) for child in found}
        except psutil.Error:
            pass
        time.sleep(0.05)
    return seen


@pytest.mark.skipif(len(physical_cores()) < 2, reason="two lanes need two cores")
def test_two_lanes_run_at_once_each_on_its_own_cores_and_serially(tmp_path):
    process, screen = start(tmp_path, "-m", "n_draft=2,4", "iterations=2", "cpu_lanes=2", "hydra.sweep.dir=out")
    masks = children_until_it_ends(process)

    assert process.returncode == 0, screen.read_text("utf-8")
    rows = velosweep.load(tmp_path / "out").to_pylist()
    assert {row["lane"] for row in rows} == {0, 1}
    assert {row["status"] for row in rows} == {"ok"}
    for lane in (0, 1):
        spans = sorted((row["started_at"].timestamp(), row["total_time_ms"]) for row in rows if row["lane"] == lane)
        for (begin, took_ms), (following, _) in itertools.pairwise(spans):
            assert begin + took_ms / 1000 <= following
    confined = [set(mask) for mask in masks if len(mask) < len(os.sched_getaffinity(0))]
    assert any(not one & other for one in confined for other in confined)


def test_a_second_sweep_is_refused_or_waits_while_the_device_is_in_use(tmp_path):
    first, _ = start(tmp_path, "iterations=5000", "hydra.run.dir=first")
    try:
        holder = tmp_path / "locks" / "cpu.json"
        end = time.monotonic() + 60
        while not holder.is_file() and time.monotonic() < end and first.poll() is None:
            time.sleep(0.05)
        refused, said = start(tmp_path, "on_busy=fail", "hydra.run.dir=refused")
        refused.wait(120)
        waiting, heard = start(tmp_path, "iterations=1", "hydra.run.dir=waited")
        while "Waiting for" not in heard.read_text("utf-8") and waiting.poll() is None:
            time.sleep(0.05)
        still_waiting = waiting.poll() is None
    finally:
        first.kill()
        first.wait()

    assert refused.returncode == 2
    assert f"in use by {tmp_path / 'first'} (process {first.pid}" in " ".join(said.read_text("utf-8").split())
    assert still_waiting, heard.read_text("utf-8")
    assert waiting.wait(120) == 0, heard.read_text("utf-8")
