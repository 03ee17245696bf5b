"""A real sweep on the embedded llama.cpp with two lanes at once."""

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
