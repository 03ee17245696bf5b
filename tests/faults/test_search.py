"""hydra/sweeper=tune by the real command line on stand-in servers: it finds, it says, it goes on after an end."""

from __future__ import annotations

import signal

import pyarrow.parquet as pq

from tests.faults.harness import Bench

TUNE = ["hydra/sweeper=tune", "n_draft=2,4,8", "tuner.confirm_pairs=3", "tuner.max_rounds=6"]


def test_a_search_says_its_winner_and_keeps_every_decision(bench: Bench) -> None:
    bench.set(ms_per_token=2.0, speculative_factor=0.5, acceptance=0.7)
    drive = bench.sweep(*TUNE)

    assert drive.wait() == 0, drive.said
    assert "95 % sure)" in drive.said or "another setting may be faster" in drive.said
    assert "× faster" in drive.said
    decisions = pq.read_table(bench.root / "tuner.parquet").to_pylist()
    assert {row["phase"] for row in decisions} <= {"calibrate", "race"}
    assert {row["n_draft"] for row in decisions} == {0, 2, 4, 8}
    (winner,) = bench.record()["advised"]
    assert winner in {job["id"] for job in bench.record()["jobs"]}
    assert bench.leftovers() == []


def test_a_search_that_was_killed_goes_on_where_it_was(bench: Bench) -> None:
    bench.set(ms_per_token=3.0, speculative_factor=0.5, acceptance=0.7)
    bench.hold(5)
    drive = bench.sweep(*TUNE)
    bench.wait_until_held()
    drive.send(signal.SIGKILL)
    drive.wait()
    bench.release()
    before = bench.taken()
    again = bench.run("resume", str(bench.root))

    assert again.process.returncode == 0, again.said
    assert "95 % sure)" in again.said or "another setting may be faster" in again.said
    assert set(bench.taken().values()) == {1}
    assert set(before) <= set(bench.taken())
    assert bench.leftovers() == []


def test_a_search_needs_the_launcher_that_plans_all_candidates_together(bench: Bench) -> None:
    drive = bench.sweep(*TUNE, "hydra/launcher=basic")

    assert drive.wait() == 2
    assert "gpu_lanes" in drive.said


def test_a_budget_that_is_no_time_is_refused(bench: Bench) -> None:
    drive = bench.sweep(*TUNE, "tuner.budget=soon")

    assert drive.wait() == 2
    assert "10min" in drive.said


def test_kinds_that_learn_from_requests_get_a_fresh_server_in_each_round_of_a_search(bench: Bench) -> None:
    bench.sweep(*TUNE, "speculation=ngram-mod").wait()

    runs = [key for key in bench.taken() if key[1] == "Speculative"]
    starts = [event for event in bench.events("start") if event["n_draft"]]
    assert len(starts) == len(runs) > 3
