"""What changes around a sweep while it runs: its model files and the clock."""

from __future__ import annotations

import itertools
import os
from datetime import timedelta

from tests.faults.harness import Bench, complete


def test_a_model_replaced_during_the_sweep_is_not_loaded_again(bench: Bench) -> None:
    bench.hold(1)
    drive = bench.sweep("n_draft=4,8", "iterations=2", "protocol.launches=2")
    bench.wait_until_held()
    other = bench.draft_model.with_name("other")
    other.write_bytes(bench.draft_model.read_bytes() + b"more")
    other.replace(bench.draft_model)
    bench.release()

    assert drive.wait() == 1, drive.said
    assert bench.states() == ["partial", "partial"]
    assert "was changed during the sweep" in bench.record()["jobs"][0]["error"]
    assert "was changed during the sweep" in drive.said
    taken = bench.taken()
    assert {key[3] for key in taken if key[1] == "Speculative"} == {0}  # the first launch is whole
    assert bench.leftovers() == []


def test_a_model_removed_during_the_sweep_is_named_and_a_resume_finishes_once_it_is_back(bench: Bench) -> None:
    bench.hold(1)
    drive = bench.sweep("n_draft=4,8", "iterations=2", "protocol.launches=2")
    bench.wait_until_held()
    away = bench.main_model.with_name("away")
    bench.main_model.rename(away)
    bench.release()

    assert drive.wait() == 1, drive.said
    assert f"{bench.main_model} is gone" in bench.record()["jobs"][0]["error"]
    away.rename(bench.main_model)
    drive = bench.run("resume", str(bench.root))
    assert drive.process.returncode == 0, drive.said
    complete(bench, n_draft=[4, 8], iterations=2)
    assert bench.states() == ["done", "done"]


def test_a_model_written_to_while_it_is_loaded_ends_its_arms(bench: Bench) -> None:
    bench.hold(1)
    drive = bench.sweep("n_draft=4,8", "iterations=4")
    bench.wait_until_held()
    with bench.draft_model.open("r+b") as file:
        file.write(b"GGUX")
    bench.release()

    assert drive.wait() == 1, drive.said
    assert "was changed during the sweep" in bench.record()["jobs"][1]["error"]
    assert bench.leftovers() == []


def test_a_touched_model_is_still_the_same(bench: Bench) -> None:
    bench.hold(1)
    drive = bench.sweep("n_draft=4", "iterations=2", "protocol.launches=2")
    bench.wait_until_held()
    os.utime(bench.main_model)
    bench.release()

    assert drive.wait() == 0, drive.said
    complete(bench, n_draft=[4], iterations=2)


def test_a_clock_set_back_moves_no_figure(bench: Bench) -> None:
    code = """
import time, datetime
import velosweep.measuring.resident_servers as resident_servers

class SetBack(datetime.datetime):
    asked = 0

    @classmethod
    def now(cls, tz=None):
        cls.asked += 1
        return datetime.datetime.now(tz) - datetime.timedelta(hours=2 if cls.asked > 4 else 0)

resident_servers.datetime = SetBack
real = time.time
time.time = lambda: real() - (7200 if SetBack.asked > 4 else 0)
"""
    drive = bench.sweep("n_draft=4", "iterations=4", code=code)

    assert drive.wait() == 0, drive.said
    complete(bench, n_draft=[4], iterations=4)
    samples = sorted(bench.samples(), key=lambda sample: sample.order)
    steps = [later.started_at - earlier.started_at for earlier, later in itertools.pairwise(samples)]
    assert min(steps) < timedelta(hours=-1)  # the clock did go back
    assert all(0 < (sample.total_time_ms or 0) < 60_000 for sample in samples)
    assert bench.states() == ["done"]
