"""The bench itself: a sweep on stand-in servers is a sweep like any other, and leaves nothing behind."""

from __future__ import annotations

from tests.faults.harness import Bench, complete


def test_a_sweep_on_the_stand_in_is_whole_and_leaves_nothing_behind(bench: Bench) -> None:
    drive = bench.sweep("n_draft=4,8")

    assert drive.wait() == 0, drive.said
    complete(bench, n_draft=[4, 8])
    assert bench.states() == ["done", "done"]
    assert bench.table().num_rows == 9 + 3  # one warm-up a server
    assert bench.leftovers() == []


def test_what_is_left_behind_is_seen(bench: Bench) -> None:
    bench.set(ms_per_token=50)
    drive = bench.sweep("n_draft=4", "iterations=2")
    bench.wait_for(lambda: bench.events("listening"))
    (bench.folder / "sweep" / ".x.1.part").touch()

    left = " ".join(bench.leftovers(patience_s=0))

    for word in ("process", "lock sweep/lock", "lock locks/cpu.lock", "port", "temporary file"):
        assert word in left
    drive.send(9)
