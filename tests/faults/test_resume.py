"""Resume and rerun: what is there stays, what is missing is measured, what changed underneath is said."""

from __future__ import annotations

import itertools
import random
import re
import signal
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from tests.faults.harness import Bench, complete
from velosweep.machine.cores import physical_cores
from velosweep.values import Status

SWEEP = ("n_draft=4,8", "iterations=2")
two_cores = pytest.mark.skipif(len(physical_cores()) < 2, reason="two CPU lanes need two cores")


def interrupted(bench: Bench, *overrides: str, after: int = 2) -> None:
    """A sweep that was killed after so many samples."""
    bench.hold(after)
    drive = bench.sweep(*(overrides or SWEEP))
    bench.wait_until_held()
    drive.send(signal.SIGKILL)
    drive.wait()
    bench.release()


def test_the_same_command_with_the_same_folder_goes_on(bench: Bench) -> None:
    interrupted(bench)
    drive = bench.sweep(*SWEEP)

    assert drive.wait() == 0, drive.said
    assert re.search(r"Resuming: [1-5] of at most 6 measurements are already there", drive.said)
    complete(bench, n_draft=[4, 8], iterations=2)
    orders = [sample.order for sample in bench.samples()]
    assert len(orders) == len(set(orders))


def test_a_finished_sweep_is_not_measured_again(bench: Bench) -> None:
    bench.sweep(*SWEEP).wait()
    before, starts = bench.table(), len(bench.events("start"))
    drive = bench.run("resume", str(bench.root))

    assert drive.process.returncode == 0, drive.said
    assert bench.table().equals(before)
    assert len(bench.events("start")) == starts


def test_a_torn_journal_line_costs_that_sample_alone(bench: Bench) -> None:
    interrupted(bench, after=3)
    journal = bench.root / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    bench.run("resume", str(bench.root))

    complete(bench, n_draft=[4, 8], iterations=2)


@pytest.mark.parametrize("changed", ["model", "program"])
def test_what_changed_underneath_is_refused_with_the_difference_and_accepted_by_force(
    bench: Bench, changed: str
) -> None:
    interrupted(bench)
    if changed == "model":
        content = bytearray(bench.draft_model.read_bytes())
        content[-1] ^= 1
        bench.draft_model.write_bytes(content)
    else:
        bench.write_program(mark="another build")
    before = bench.taken()
    drive = bench.run("resume", str(bench.root))

    words = f"the file {bench.draft_model} is another one" if changed == "model" else "program was"
    assert drive.process.returncode == 2, drive.said
    assert words in drive.said
    assert "--force" in drive.said
    assert bench.taken() == before
    assert bench.leftovers() == []
    drive = bench.run("resume", str(bench.root), "--force")
    assert drive.process.returncode == 0, drive.said
    complete(bench, n_draft=[4, 8], iterations=2)
    assert bench.states() == ["done", "done"]
    assert [accepted for accepted in bench.record()["accepted"] if words in accepted]


def test_another_grid_in_the_same_folder_overwrites_nothing(bench: Bench) -> None:
    bench.sweep("n_draft=4").wait()
    kept = [bench.root / "0" / name for name in ("summary.json", ".hydra/config.yaml", ".hydra/overrides.yaml")]
    before = [path.read_text() for path in kept]
    drive = bench.sweep("n_draft=8")

    assert drive.wait() == 2, drive.said
    assert "would overwrite" in drive.said
    assert [path.read_text() for path in kept] == before
    assert bench.run("resume", str(bench.root)).process.returncode == 0


def test_a_smaller_grid_in_the_same_folder_answers_for_its_own_jobs(bench: Bench) -> None:
    assert bench.sweep("n_draft=4,8", "iterations=1").wait() == 0
    drive = bench.sweep("n_draft=4", "iterations=1")

    assert drive.wait() == 0, drive.said
    assert bench.states() == ["done", "done"]


def test_two_processes_never_write_one_sweep(bench: Bench) -> None:
    bench.set(ms_per_token=50)
    first = bench.sweep("n_draft=4,8", "iterations=30")
    bench.wait_for_runs(1)
    second, third = bench.sweep("n_draft=4,8", "iterations=30"), bench.start("resume", str(bench.root))

    assert (second.wait(), third.wait()) == (2, 2)
    assert f"is being written by process {first.process.pid}" in second.said
    assert f"is being written by process {first.process.pid}" in third.said
    bench.set(ms_per_token=0.2)
    assert first.wait() == 0, first.said
    complete(bench, n_draft=[4, 8], iterations=30)


def test_a_second_sweep_on_a_device_says_for_whom_it_waits_and_begins_when_that_one_is_gone(bench: Bench) -> None:
    bench.set(ms_per_token=50)
    other = bench.folder / "other"
    first = bench.sweep("n_draft=4,8", "iterations=30")
    bench.wait_for_runs(1)
    refused = bench.sweep(*SWEEP, "on_busy=fail", root=bench.folder / "third")
    second = bench.sweep(*SWEEP, root=other)
    bench.wait_for(lambda: "Waiting for" in second.said)

    assert f"in use by {bench.root} (process {first.process.pid}" in second.said
    assert refused.wait() == 2
    assert f"in use by {bench.root}" in refused.said
    assert list((bench.folder / "third").glob("*")) == []
    first.send(signal.SIGKILL)
    bench.set(ms_per_token=0.2)
    assert second.wait() == 0, second.said
    assert len(bench.taken(other)) == 6
    runs = sorted((event["begin"], event["end"]) for event in bench.events("run"))
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(runs))
    assert bench.leftovers() == []


@two_cores
def test_two_lanes_on_the_cpu_run_side_by_side_on_cores_of_their_own(bench: Bench) -> None:
    bench.set(ms_per_token=10)
    drive = bench.sweep("n_draft=4,8", "cpu_lanes=2")

    assert drive.wait() == 0, drive.said
    complete(bench, n_draft=[4, 8], groups=2)
    runs = [event for event in bench.events("run") if event["measured"]]
    lanes = {tuple(event["cores"]) for event in runs}
    assert len(lanes) == 2
    assert len({core for cores in lanes for core in cores}) == sum(map(len, lanes))
    one, other = ([(e["begin"], e["end"]) for e in runs if tuple(e["cores"]) == cores] for cores in lanes)
    assert any(begin < end_ and begin_ < end for begin, end in one for begin_, end_ in other)
    for spans in (sorted(one), sorted(other)):  # never two measurements at once within a lane
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))


@two_cores
def test_a_sweep_resumed_on_fewer_lanes_keeps_its_baselines(bench: Bench) -> None:
    interrupted(bench, "n_draft=4,8", "cpu_lanes=2", "iterations=4", after=4)
    drive = bench.sweep("n_draft=4,8", "iterations=4")

    assert drive.wait() == 0, drive.said
    complete(bench, n_draft=[4, 8], iterations=4, groups=2)


def test_gpu_lanes_show_each_server_its_own_gpu(bench: Bench) -> None:
    bench.set(ms_per_token=5, devices=["Stand-in GPU"] * 3)
    drive = bench.sweep("n_draft=4,8,12", "iterations=2")

    assert drive.wait() == 0, drive.said
    complete(bench, n_draft=[4, 8, 12], iterations=2, groups=3)
    assert {event["device"] for event in bench.events("start")} == {"0", "1", "2"}
    assert len(bench.events("start")) == 6
    assert {sample.lane for sample in bench.samples()} == {0, 1, 2}


def kill_at_random(bench: Bench, kills: int, *, seed: int) -> None:
    """Kill the driver or one of its servers again and again, resume, and expect every measurement to be there."""
    chance = random.Random(seed)
    grid, iterations = [4, 8, 12], 2 + kills // 2
    sweep = ("n_draft=4,8,12", f"iterations={iterations}")
    bench.set(ms_per_token=2)
    drive = bench.sweep(*sweep)
    for _ in range(kills):
        goal = len(bench.samples()) + chance.randint(1, 5)
        bench.wait_for(lambda goal=goal: len(bench.samples()) >= goal or bench.drives[-1].process.poll() is not None)
        if drive.process.poll() is not None:
            drive = bench.start("resume", str(bench.root))
            continue
        if chance.random() < 0.5 and (servers := bench.servers()):
            victim = chance.choice(servers)
            try:
                victim.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        else:
            drive.send(signal.SIGKILL)
            drive.wait()
            assert [left for left in bench.leftovers() if "temporary file" not in left] == []
            drive = bench.start("resume", str(bench.root))
    drive.wait(300)
    drive = bench.run("resume", str(bench.root))

    assert drive.process.returncode == 0, drive.said
    taken = bench.taken()
    assert len(taken) == (len(grid) + 1) * iterations
    # a measurement stands twice only where a failed pair was repeated, and then its number of attempt says so
    first = [s for s in bench.samples() if s.status is Status.OK and not s.warmup and s.attempt == 0]
    assert len({(s.job_id, s.iteration) for s in first}) == len(first)
    results = pq.read_table(Path(bench.root) / "results.parquet").to_pylist()
    assert [row["n_pairs"] for row in results if row["prompt_id"] is None] == [iterations] * len(grid)
    assert bench.leftovers() == []


def test_sweeps_killed_at_random_moments_end_with_every_measurement(bench: Bench) -> None:
    kill_at_random(bench, 4, seed=1)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_sweeps_killed_thirty_times_at_random_moments_end_with_every_measurement(bench: Bench) -> None:
    kill_at_random(bench, 30, seed=2)


def test_a_rerun_repeats_the_experiment_and_ends_with_the_comparison(bench: Bench) -> None:
    bench.set(jitter=0.05)
    bench.sweep("n_draft=4,8", "iterations=4").wait()
    bench.write_program(mark="another build")
    again = bench.folder / "again"
    drive = bench.run("rerun", str(bench.root), "--out", str(again))

    assert drive.process.returncode == 0, drive.said
    assert len(bench.taken(again)) == len(bench.taken()) == 12
    assert "program" in drive.said
    assert "reproduced" in drive.said.lower()
    assert bench.states(again) == ["done", "done"]
    assert "Nothing was left" not in drive.said
    assert f"velosweep rerun {bench.root}" in (again / "report.html").read_text("utf-8")
    resumed = bench.run("resume", str(again))
    assert resumed.process.returncode == 0, resumed.said
    assert resumed.said.index("Nothing was left to measure") < resumed.said.index("speedup")
    assert bench.leftovers() == []


def test_a_dry_rerun_prints_the_plan_and_leaves_nothing(bench: Bench) -> None:
    assert bench.sweep("n_draft=4,8", "iterations=2").wait() == 0
    drive = bench.run("rerun", str(bench.root), "dry_run=true", "--out", str(bench.folder / "again"))

    assert drive.wait() == 0, drive.said
    assert not (bench.folder / "again").exists()


def test_a_rerun_that_sets_what_the_sweep_varies_or_can_not_run_leaves_nothing(bench: Bench) -> None:
    assert bench.sweep("n_draft=4,8", "iterations=1").wait() == 0
    drive = bench.run("rerun", str(bench.root), "n_draft=16", "--out", str(bench.folder / "again"))

    assert drive.process.returncode == 2
    assert "This sweep varies n_draft (4, 8)\n  leave n_draft= out" in drive.said

    drive = bench.run("rerun", str(bench.root), "llama_cpp.path=/nowhere", "--out", str(bench.folder / "again"))

    assert drive.process.returncode == 2
    assert "llama_cpp.path=/nowhere does not exist" in drive.said
    assert not (bench.folder / "again").exists()
