"""Servers that crash, hang, lie or never come up: the cause is in the job's record and on screen, others go on.

One sweep gives every server a fault of its own, so that each test also shows that the other jobs are unharmed.
"""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from tests.faults.harness import Bench
from velosweep.values import Status

# What a person must be able to read of each fault.
RUN_FAULTS = {
    "crash:SIGSEGV": "killed by SIGSEGV",
    "crash-midway:SIGABRT": "killed by SIGABRT",
    "garbage": "no HTTP",
    "half-json": "isn't JSON",
    "status:500": "the slot is on fire",
    "silent-close": "without an answer",
    "oom": "too little free memory",
    "nan": "no usable predicted_ms",
    "negative": "is no time",
    "absurd": "not believable",
    "short": "only 10 of 20 tokens",
}
LOAD_FAULTS = {
    "crash:SIGSEGV": "killed by SIGSEGV",
    "crash:SIGABRT": "killed by SIGABRT",
    "oom": "memory is too small for the model",
    "junk": "exit status 3",
    "hang": "not ready after 4 s",
    "deaf": "not ready after 4 s",
}


def arm_with_each(bench: Bench, kinds: list[str], **values: object) -> str:
    """Give n_draft 1, 2, … a fault each, the last one none; the override that sweeps them."""
    for n_draft, kind in enumerate(kinds, start=1):
        bench.fault(kind, arm=n_draft, **values)
    return "n_draft=" + ",".join(str(n_draft) for n_draft in range(1, len(kinds) + 2))


def test_a_server_that_always_fails_is_given_up_with_its_cause_and_the_others_are_measured(bench: Bench) -> None:
    drive = bench.sweep(arm_with_each(bench, list(RUN_FAULTS), at="run", run=None), "iterations=2")

    assert drive.wait() == 1, drive.said
    jobs = bench.record()["jobs"]
    good = jobs.pop()
    assert (good["state"], good["error"]) == ("done", None)
    for job, (kind, words) in zip(jobs, RUN_FAULTS.items(), strict=True):
        assert job["state"] == "failed", kind
        assert words in job["error"], kind
        assert job["error"].partition(";")[0] in drive.said
    taken = bench.taken()
    assert len(taken) == 2 * 2  # two iterations of vanilla and of the one that is well
    assert bench.leftovers() == []


def test_a_server_that_fails_once_is_repeated_with_its_pair_and_loses_nothing(bench: Bench) -> None:
    drive = bench.sweep(arm_with_each(bench, list(RUN_FAULTS), at="run", run=2, times=1))

    assert drive.wait() == 0, drive.said
    assert set(bench.states()) == {"done"}
    assert len(bench.taken()) == (len(RUN_FAULTS) + 2) * 3
    bad = [sample for sample in bench.samples() if sample.status is not Status.OK]
    assert sorted(sample.n_draft for sample in bad) == list(range(1, len(RUN_FAULTS) + 1))
    assert all(sample.error for sample in bad)
    # each pair was taken within one attempt: the vanilla run of the slot was repeated too
    attempts = Counter((s.mode.value, s.n_draft, s.iteration, s.attempt) for s in bench.samples() if not s.warmup)
    for sample in bad:
        assert attempts["Vanilla", 0, sample.iteration, 1] >= 1
        assert attempts["Speculative", sample.n_draft, sample.iteration, 1] == 1
    assert bench.leftovers() == []


def test_a_server_that_does_not_come_up_fails_its_job_alone(bench: Bench) -> None:
    grid = arm_with_each(bench, list(LOAD_FAULTS), at="load")
    drive = bench.sweep(grid, "iterations=2", "protocol.load_timeout_s=4")

    assert drive.wait() == 1, drive.said
    *jobs, good = bench.record()["jobs"]
    assert good["state"] == "done"
    for job, (kind, words) in zip(jobs, LOAD_FAULTS.items(), strict=True):
        assert job["state"] == "failed", kind
        assert words in job["error"], kind
        assert words in drive.said
    assert bench.leftovers() == []


def test_a_server_that_crashes_once_over_its_load_is_started_again_and_a_refusal_is_final(bench: Bench) -> None:
    grid = arm_with_each(bench, ["crash:SIGSEGV", "crash:SIGABRT", "junk"], at="load", times=1)
    drive = bench.sweep(grid, "iterations=2", "protocol.retries=1")

    assert drive.wait() == 1, drive.said
    assert bench.states() == ["done", "done", "failed", "done"]
    starts = Counter(path.name.rpartition("-")[0] for path in (bench.root / "logs").glob("*.log"))
    assert sorted(starts.values()) == [1, 1, 1, 2, 2]  # vanilla, the refused one and the sound one came once
    assert bench.leftovers() == []


def test_a_run_that_hangs_or_crawls_is_ended_by_a_timeout_that_follows_from_the_arm(bench: Bench) -> None:
    bench.set(devices=["Stand-in GPU"] * 4)  # a lane for each, so that they are waited for at the same time
    grid = arm_with_each(bench, ["hang", "hang-midway", "stubborn-hang"], at="run", run=3, times=1)
    bench.fault("slow", arm=4, run=3, times=1, factor=20_000)  # 40 s; 5.1 s are allowed
    drive = bench.sweep(grid, "iterations=2")

    assert drive.wait() == 0, drive.said
    assert set(bench.states()) == {"done"}
    late = [sample for sample in bench.samples() if sample.status is not Status.OK]
    assert sorted(sample.n_draft for sample in late) == [1, 2, 3, 4]
    assert {sample.status for sample in late} == {Status.TIMEOUT}
    assert all("No complete answer" in (sample.error or "") for sample in late)
    assert bench.leftovers() == []


def test_the_first_run_of_a_server_is_bounded_by_the_protocol(bench: Bench) -> None:
    bench.fault("hang", arm=4, run=2)
    drive = bench.sweep("n_draft=4,8", "iterations=2", "protocol.run_timeout_s=3", "protocol.retries=0")

    assert drive.wait() == 1, drive.said
    assert bench.states() == ["failed", "done"]
    assert "within 3 s" in bench.record()["jobs"][0]["error"]


def test_without_its_vanilla_server_a_comparison_fails_as_a_whole(bench: Bench) -> None:
    bench.fault("crash:SIGSEGV", arm="vanilla")
    drive = bench.sweep("n_draft=4,8")

    assert drive.wait() == 3, drive.said
    assert bench.states() == ["failed", "failed"]
    assert "killed by SIGSEGV" in bench.record()["jobs"][1]["error"]
    assert bench.leftovers() == []


def test_a_server_given_up_late_leaves_its_pairs_and_a_partial_job(bench: Bench) -> None:
    bench.fault("crash:SIGABRT", arm=4, run=4)
    bench.fault("crash:SIGABRT", arm=4, run=2, **{"from": 2})  # the relaunched server, after its warm-up
    drive = bench.sweep("n_draft=4,8", "iterations=4")

    assert drive.wait() == 1, drive.said
    assert bench.states() == ["partial", "done"]
    assert bench.record()["jobs"][0]["error"] in drive.said


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_server_killed_from_outside_is_started_anew(bench: Bench, number: signal.Signals) -> None:
    bench.hold(2)
    drive = bench.sweep("n_draft=4")
    bench.wait_until_held()
    victim = next(event["pid"] for event in bench.events("start") if event["n_draft"] == 4)
    next(process for process in bench.servers() if process.pid == victim).send_signal(number)
    bench.release()

    assert drive.wait() == 0, drive.said
    assert bench.states() == ["done"]
    assert len(bench.taken()) == 6
    assert sum(event["n_draft"] == 4 for event in bench.events("start")) == 2
    assert bench.leftovers() == []
