"""A server that dies while several streams ask it: a round is measured again, and nothing else is lost."""

from __future__ import annotations

import psutil
import pytest

from tests.faults.harness import Bench
from velosweep.values import Status

pytestmark = pytest.mark.real


def test_a_server_killed_under_4_streams_costs_one_round(bench: Bench) -> None:
    drive = bench.start(
        "-m",
        "engine=embedded",
        f"model_pair.main_model={bench.main_model}",
        f"model_pair.draft_model={bench.draft_model}",
        f"hydra.sweep.dir={bench.root}",
        "concurrency=4",
        "n_draft=4",
        "n_predict=1000",
        "iterations=4",
        "engine.threads=1",
    )
    bench.wait_for_runs(2)
    children = psutil.Process(drive.process.pid).children()
    assert len(children) == 2
    max(children, key=lambda child: child.cpu_times().user).kill()

    assert drive.wait() == 0, drive.said
    assert set(bench.states()) == {"done"}
    good = bench.taken()
    failed = [sample for sample in bench.samples() if sample.status is not Status.OK]
    assert len(good) == 8
    assert sum(good.values()) <= 8 + 1  # a run of the round that was measured again stands twice
    assert all("died during the run" in (sample.error or "") for sample in failed)
    assert len(failed) <= 1
    assert {sample.concurrency for sample in bench.samples()} == {4}
