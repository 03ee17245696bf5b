"""Thousands of short measurements: the driver's memory stays flat and no handle is left open."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil
import pytest

from tests.faults.harness import Bench


@dataclass(frozen=True)
class Look:
    """The driver at one moment."""

    samples: int
    resident_bytes: int
    handles: int
    threads: int


def watch(bench: Bench, n_draft: range, iterations: int) -> list[Look]:
    """Run a sweep of quick runs and look at its driver all along."""
    bench.control.pop("state")
    bench.set(ms_per_token=0.01, prompt_ms=0)
    grid = "n_draft=" + ",".join(map(str, n_draft))
    drive = bench.sweep(grid, f"iterations={iterations}")
    driver = psutil.Process(drive.process.pid)
    journal = bench.root / "journal.jsonl"
    looks = []
    while drive.process.poll() is None and not (bench.root / "results.parquet").exists():
        try:
            lines = journal.read_bytes().count(b'"kind":"sample"')
            looks.append(Look(lines, driver.memory_info().rss, driver.num_fds(), driver.num_threads()))
        except (FileNotFoundError, psutil.Error):
            pass
        time.sleep(0.2 if iterations < 500 else 2)

    assert drive.wait(600) == 0, drive.said
    taken = bench.taken()
    assert set(taken.values()) == {1}
    assert len(taken) == (len(n_draft) + 1) * iterations
    assert bench.table().num_rows == len(taken) + len(n_draft) + 1
    assert bench.leftovers() == []
    measuring = [look for look in looks if 0.2 * len(taken) < look.samples < 0.97 * len(taken)]
    print("\n".join(map(str, [*measuring[:: max(1, len(measuring) // 12)], measuring[-1]])))
    return measuring


def test_five_hundred_measurements_leave_no_handle_open(bench: Bench) -> None:
    looks = watch(bench, range(1, 5), 100)

    assert max(look.handles for look in looks) - min(look.handles for look in looks) <= 3  # a request under way
    assert looks[-1].resident_bytes - looks[0].resident_bytes < 8 << 20


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_twenty_thousand_measurements_keep_the_driver_flat(bench: Bench) -> None:
    looks = watch(bench, range(1, 10), 2000)

    assert max(look.handles for look in looks) - min(look.handles for look in looks) <= 3
    assert looks[-1].threads <= looks[0].threads + 1
    per_sample = (looks[-1].resident_bytes - looks[0].resident_bytes) / (looks[-1].samples - looks[0].samples)
    assert per_sample < 1000  # what a lane must remember of a measurement, and the display's tally
