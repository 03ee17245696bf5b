"""`velosweep more`, `command` and `serve` on stand-in servers."""

from __future__ import annotations

import re
import signal

from tests.faults.harness import Bench, complete


def test_more_adds_rounds_and_repeats_none(bench: Bench) -> None:
    bench.sweep("n_draft=4,8", "iterations=2").wait()
    ids = [job["id"] for job in bench.record()["jobs"]]
    drive = bench.run("more", str(bench.root), "--iterations", "3")

    assert drive.process.returncode == 0, drive.said
    complete(bench, n_draft=[4, 8], iterations=5)
    assert [job["id"] for job in bench.record()["jobs"]] == ids
    assert "Iteration 5/5" in drive.said

    assert bench.run("more", str(bench.root), "-i", "1").process.returncode == 0
    complete(bench, n_draft=[4, 8], iterations=6)


def test_more_that_was_interrupted_is_resumed_with_its_rounds(bench: Bench) -> None:
    bench.sweep("n_draft=4", "iterations=2").wait()
    bench.hold(5)
    drive = bench.start("more", str(bench.root), "-i", "2")
    bench.wait_until_held()
    drive.send(signal.SIGKILL)
    drive.wait()
    bench.release()

    assert bench.run("resume", str(bench.root)).process.returncode == 0
    complete(bench, n_draft=[4], iterations=4)


def test_added_rounds_are_spread_over_the_launches(bench: Bench) -> None:
    bench.sweep("n_draft=4", "iterations=4", "protocol.launches=2").wait()
    bench.run("more", str(bench.root), "-i", "2")

    taken = {(key[3], key[4]) for key in bench.taken()}
    assert taken == {(0, 1), (0, 2), (1, 3), (1, 4), (0, 5), (1, 6)}


def test_more_of_a_search_confirms_its_winner_with_more_pairs(bench: Bench) -> None:
    bench.sweep("hydra/sweeper=tune", "n_draft=2,4", "tuner.confirm_pairs=2").wait()
    before = bench.record()["searches"][0]["pairs"]
    drive = bench.run("more", str(bench.root), "-i", "3")

    assert drive.process.returncode == 0, drive.said
    assert (before, bench.record()["searches"][0]["pairs"]) == (2, 5)


def test_best_is_a_sweep_like_any_other(bench: Bench) -> None:
    bench.hold(3)
    words = ["--llama-server", str(bench.program), "--out", str(bench.root), "-n", "20", "-p", "Why?"]
    drive = bench.start("best", str(bench.main_model), "--models", str(bench.draft_model.parent), *words)
    bench.wait_until_held()
    drive.send(signal.SIGINT)
    bench.release()
    assert drive.wait() == 130, drive.said
    taken = set(bench.taken())

    assert bench.run("resume", str(bench.root)).process.returncode == 0
    assert taken <= set(bench.taken())
    assert bench.record()["searches"]
    for command in (["report"], ["collate"], ["command"], ["more", "-i", "1"]):
        assert bench.run(command[0], str(bench.root), *command[1:]).process.returncode == 0
    again = bench.run("rerun", str(bench.root), "--out", str(bench.folder / "again"))
    assert bench.record(bench.folder / "again")["searches"], again.said


def test_more_of_an_adaptive_sweep_is_refused_with_what_to_do(bench: Bench) -> None:
    bench.sweep("n_draft=4", "protocol=adaptive", "protocol.adaptive.max_pairs=6").wait()
    drive = bench.run("more", str(bench.root))

    assert drive.process.returncode == 2
    assert f"velosweep rerun {bench.root} protocol.adaptive.target=0.005" in drive.said


def test_serve_starts_the_answer_and_command_prints_it(bench: Bench) -> None:
    bench.sweep("n_draft=4,8", "iterations=3").wait()
    printed = bench.run("command", str(bench.root)).said
    drive = bench.start("serve", str(bench.root), "--llama-server", str(bench.program), "--", "--port", "0")
    bench.wait_for(lambda: "listening" in drive.said)
    drive.send(signal.SIGTERM)
    drive.wait()

    arguments = printed.strip().partition("llama-server ")[2]
    assert re.search(r"--spec-draft-n-max [48]", arguments)
    assert f"{bench.program} {arguments} --port 0" in drive.said
