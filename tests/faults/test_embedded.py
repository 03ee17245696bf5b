"""The embedded llama.cpp dies with its driver, however that dies."""

from __future__ import annotations

import signal

import psutil
import pytest

from tests.faults.harness import Bench

pytestmark = pytest.mark.real


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_no_embedded_llama_outlives_its_driver(bench: Bench, number: signal.Signals) -> None:
    drive = bench.start(
        "-m",
        "engine=embedded",
        f"model_pair.main_model={bench.main_model}",
        f"model_pair.draft_model={bench.draft_model}",
        f"hydra.sweep.dir={bench.root}",
        "n_draft=4",
        "n_predict=1500",
        "iterations=50",
        "engine.threads=1",
    )
    bench.wait_for_runs(1)
    assert psutil.Process(drive.process.pid).children()
    drive.send(number)
    status = drive.wait()

    assert status == (-9 if number == signal.SIGKILL else 130)
    assert bench.leftovers() == []
