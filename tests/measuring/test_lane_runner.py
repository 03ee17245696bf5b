"""A lane's schedule, exactly: which runs are taken, in which order, and what happens when one fails.

The engine here is a stand-in with chosen answers; real llama.cpp runs in tests/integration.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import replace

import pytest

from tests.measuring.standin_lane import Bench, StandInEngine, StandInSession, good
from tests.planning.jobs import jobs_over_n_draft, of_builds
from tests.strategies import samples_to_table
from velosweep.config.settings import Adaptive, EngineSettings, Prompt, PromptSet, Protocol, Speculation
from velosweep.errors import LaunchFailed, RunFailed, RunTimeout
from velosweep.llama_cpp.engine import Generation, Request, ServerConfig
from velosweep.measuring.events import GroupEnded
from velosweep.planning.identity import identify
from velosweep.statistics.summarise import compare_jobs
from velosweep.values import Mode, Status

NOBODY = (1 << 22) + 1  # above every process id of Linux


def test_servers_are_warmed_up_and_then_measured_in_alternating_rounds() -> None:
    bench = Bench()
    bench.run(jobs_over_n_draft(4, 8, iterations=2))

    assert bench.engine.calls == [
        "vanilla/warmup",
        "n_draft 4/warmup",
        "n_draft 8/warmup",
        "vanilla",
        "n_draft 4",
        "n_draft 8",
        "n_draft 8",
        "n_draft 4",
        "vanilla",
    ]


def runs_of_builds(bench: Bench, *programs: str, launches: int = 1, iterations: int = 2) -> list[str]:
    """The order in which one setting's runs of several builds are taken: build and server."""
    taken: list[str] = []

    def answer(session: StandInSession, request: Request) -> Generation:
        if request.prompt.id != "warmup":
            taken.append(f"{session.server.engine.program} {session.server.label}")
        return good(session.server, request)

    jobs = [
        replace(job, protocol=replace(job.protocol, launches=launches))
        for job in jobs_over_n_draft(4, iterations=iterations)
    ]
    bench.engine.answer = answer
    bench.run(of_builds(jobs, *programs))
    return taken


def test_builds_are_measured_in_the_same_rounds_whose_order_turns_round() -> None:
    bench = Bench()
    forth = ["old vanilla", "old n_draft 4", "new vanilla", "new n_draft 4"]

    assert runs_of_builds(bench, "old", "new") == [*forth, *forth[::-1]]
    assert len([event for event in bench.events if isinstance(event, GroupEnded)]) == 2
    assert len(bench.engine.sessions) == 4


def test_groups_of_which_one_had_come_further_share_rounds_again_when_they_go_on() -> None:
    bench = Bench()
    whole = runs_of_builds(bench, "old", "new", iterations=4)
    of_new = {key[0] for key in list(bench.done)[2:4]}
    bench.done = {key: run for key, run in bench.done.items() if key[3] <= (2 if key[0] in of_new else 1)}

    taken = runs_of_builds(bench, "old", "new", iterations=4)

    assert taken == [*whole[6:8], *whole[8:]]


def test_each_launch_starts_the_servers_of_all_builds_anew_and_every_other_one_begins_with_the_last_build() -> None:
    bench = Bench()
    taken = runs_of_builds(bench, "old", "new", launches=2)

    forth = ["old vanilla", "old n_draft 4", "new vanilla", "new n_draft 4"]
    assert taken == [*forth, *forth[::-1]]
    assert len(bench.engine.sessions) == 8


def test_builds_whose_servers_do_not_fit_at_once_come_one_after_the_other() -> None:
    taken = runs_of_builds(Bench(room=3), "old", "new")

    assert [word.partition(" ")[0] for word in taken] == ["old"] * 4 + ["new"] * 4


def test_a_build_whose_server_fails_leaves_the_other_to_be_measured() -> None:
    bench = Bench()

    def on_ready(server: ServerConfig) -> None:
        if server.engine.program == "new":
            raise LaunchFailed("no such flag")

    bench.engine.on_ready = on_ready

    assert runs_of_builds(bench, "old", "new") == ["old vanilla", "old n_draft 4", "old n_draft 4", "old vanilla"]


def test_a_partner_that_is_lost_in_a_repeated_pair_costs_the_other_settings_nothing() -> None:
    bench = Bench()
    runs: Counter[str] = Counter()

    def answer(session: StandInSession, request: Request) -> Generation:
        label = session.server.label
        runs[label] += request.prompt.id != "warmup"
        if label == "vanilla" and runs[label] == 2:
            raise RunFailed("cut off")
        session.alive = label != "n_draft 8" or runs[label] < 2  # it dies after its second run
        return good(session.server, request)

    def on_ready(server: ServerConfig) -> None:
        if server.label == "n_draft 8" and runs["n_draft 8"]:
            raise LaunchFailed("no memory is left")

    bench.engine.answer, bench.engine.on_ready = answer, on_ready
    bench.run(jobs_over_n_draft(4, 8, iterations=3))

    assert [event.error for event in bench.failures()] == ["no memory is left"]
    assert bench.counted()["Vanilla 0 ok"] == 3
    assert bench.counted()["Speculative 4 ok"] == 4  # once more, with the vanilla run that was repeated


def test_batches_are_timed_after_the_first_runs_of_each_server_alone() -> None:
    asked: dict[str, list[tuple[int, ...]]] = {}

    def answer(session: StandInSession, request: Request) -> Generation:
        asked.setdefault(session.server.label, []).append(request.batches)
        return good(session.server, request)

    Bench(engine=StandInEngine(answer=answer)).run(jobs_over_n_draft(4, 8, iterations=4))

    assert asked == {
        "vanilla": [(), (5, 9), (5, 9), (5, 9), ()],
        "n_draft 4": [(), (5,), (5,), (5,), ()],
        "n_draft 8": [(), (9,), (9,), (9,), ()],
    }


def test_a_shared_vanilla_run_stands_once_and_belongs_to_no_single_job() -> None:
    bench = Bench()
    jobs = jobs_over_n_draft(4, 8, iterations=1)
    bench.run(jobs)

    vanilla = [s for s in bench.samples if s.mode is Mode.VANILLA and not s.warmup]

    assert [(s.job_id, s.job_num, s.n_draft) for s in vanilla] == [(jobs[0].baseline_id, None, 0)]


def test_what_a_script_started_is_none_of_others_work_once_it_is_ready() -> None:
    bench, own = Bench(), list[set[int]]()

    def answer(session: StandInSession, request: Request) -> Generation:
        own.append(set(bench.monitor.own_pids))
        return good(session.server, request)

    def start(server: ServerConfig) -> None:
        bench.engine.sessions[-1].pid = NOBODY

    bench.engine.on_ready, bench.engine.answer = start, answer
    bench.run(jobs_over_n_draft(4, iterations=1, skip_vanilla=True))

    assert own == [{NOBODY}] * 2
    assert bench.monitor.own_pids == set()


@pytest.mark.parametrize("pid", [None, NOBODY])
def test_conditions_are_not_those_of_another_machine_than_the_attached_servers(pid: int | None) -> None:
    bench = Bench()
    bench.engine.on_ready = lambda server: setattr(bench.engine.sessions[-1], "pid", pid)
    elsewhere = EngineSettings(kind="attached", speculative_url="http://elsewhere:8080")
    bench.run(jobs_over_n_draft(4, iterations=1, skip_vanilla=True, engine=elsewhere))

    assert [sample.load_average is None for sample in bench.samples] == [pid is None] * 2


def test_each_server_is_started_once_and_closed_at_the_end() -> None:
    bench = Bench()
    bench.run(jobs_over_n_draft(4, 8, iterations=3))

    assert [session.server.label for session in bench.engine.sessions] == ["vanilla", "n_draft 4", "n_draft 8"]
    assert [session.closed for session in bench.engine.sessions] == [1, 1, 1]


def test_jobs_that_ask_the_same_server_for_other_lengths_share_it() -> None:
    bench = Bench()
    first = jobs_over_n_draft(4, iterations=1, n_predict=10)
    second = jobs_over_n_draft(4, iterations=1, n_predict=20)
    bench.run([*first, replace(second[0], num=1)])

    assert [session.server.label for session in bench.engine.sessions] == ["vanilla", "n_draft 4"]


def test_several_launches_start_every_server_anew() -> None:
    bench = Bench()
    (job,) = jobs_over_n_draft(4, iterations=4)
    bench.run(identify([replace(job, protocol=replace(job.protocol, launches=2))], {}))

    assert Counter(session.server.label for session in bench.engine.sessions) == {"vanilla": 2, "n_draft 4": 2}
    assert Counter((s.launch, s.iteration) for s in bench.samples if s.mode is Mode.VANILLA and not s.warmup) == {
        (0, 1): 1,
        (0, 2): 1,
        (1, 3): 1,
        (1, 4): 1,
    }


def test_speculation_that_learns_gets_a_fresh_server_each_iteration() -> None:
    bench = Bench()
    jobs = jobs_over_n_draft(4, iterations=3, speculation=Speculation(kinds=("ngram-mod",)))
    bench.run(jobs)

    assert Counter(session.server.label for session in bench.engine.sessions) == {"vanilla": 1, "n_draft 4": 3}


def test_a_failed_run_repeats_its_whole_pair() -> None:
    bench = Bench()
    failing = itertools.count()

    def answer(session: StandInSession, request: Request) -> Generation:
        if session.server.n_draft == 4 and request.prompt.id != "warmup" and next(failing) == 0:
            raise RunFailed("the answer was cut short")
        return good(session.server, request)

    bench.engine.answer = answer
    bench.run(jobs_over_n_draft(4, iterations=2))

    assert bench.counted() == {"Vanilla 0 ok": 3, "Speculative 4 failed": 1, "Speculative 4 ok": 2}
    assert [(s.mode, s.attempt) for s in bench.samples if s.iteration == 1] == [
        (Mode.VANILLA, 0),
        (Mode.SPECULATIVE, 0),
        (Mode.VANILLA, 1),
        (Mode.SPECULATIVE, 1),
    ]


def test_a_server_that_keeps_failing_is_given_up_and_the_others_go_on() -> None:
    bench = Bench()

    def answer(session: StandInSession, request: Request) -> Generation:
        if session.server.n_draft == 4 and request.prompt.id != "warmup":
            raise RunFailed("no")
        return good(session.server, request)

    bench.engine.answer = answer
    jobs = jobs_over_n_draft(4, 8, iterations=3)
    bench.run(jobs)

    assert bench.counted()["Speculative 8 ok"] == 3
    assert bench.counted()["Speculative 4 failed"] == 2
    assert [(event.server.label, [job.id for job in event.jobs]) for event in bench.failures()] == [
        ("n_draft 4", [jobs[0].id])
    ]


def test_a_server_that_does_not_come_up_fails_its_job_alone() -> None:
    bench = Bench()

    def on_ready(server: ServerConfig) -> None:
        if server.n_draft == 4:
            raise LaunchFailed("out of memory")

    bench.engine.on_ready = on_ready
    bench.run(jobs_over_n_draft(4, 8, iterations=2))

    assert bench.counted() == {"Vanilla 0 ok": 2, "Speculative 8 ok": 2}
    assert [event.error for event in bench.failures()] == ["out of memory"]


def test_without_a_baseline_nothing_is_measured_in_vain() -> None:
    bench = Bench()

    def on_ready(server: ServerConfig) -> None:
        if server.mode is Mode.VANILLA:
            raise LaunchFailed("no room")

    bench.engine.on_ready = on_ready
    bench.run(jobs_over_n_draft(4, 8, iterations=2))

    assert bench.counted() == Counter()
    assert {job.num for event in bench.failures() for job in event.jobs} == {0, 1}


def test_a_run_that_hangs_is_recorded_and_its_server_started_anew() -> None:
    bench = Bench()
    hanging = itertools.count()

    def answer(session: StandInSession, request: Request) -> Generation:
        if session.server.n_draft == 4 and request.prompt.id != "warmup" and next(hanging) == 1:
            raise RunTimeout("no answer for 9 s")
        return good(session.server, request)

    bench.engine.answer = answer
    bench.run(jobs_over_n_draft(4, iterations=3))

    assert bench.counted()["Speculative 4 timeout"] == 1
    assert bench.counted()["Speculative 4 ok"] == 3
    assert Counter(session.server.label for session in bench.engine.sessions)["n_draft 4"] == 2


def test_the_timeout_follows_what_the_server_has_shown() -> None:
    bench = Bench()
    bench.run(jobs_over_n_draft(4, iterations=2, n_predict=100))

    # warm-up and first runs: the bound; then ten times the slowest good run (1 s) and five seconds
    assert bench.engine.timeouts_s[:4] == [600.0] * 4
    assert bench.engine.timeouts_s[4:] == [pytest.approx(15.0)] * 2


def test_a_speculative_run_that_drafted_nothing_is_invalid() -> None:
    bench = Bench()
    bench.engine.answer = lambda session, request: replace(
        good(session.server, request), draft_tokens=0, accepted_tokens=0
    )
    bench.run(jobs_over_n_draft(4, iterations=1))

    statuses = {s.status for s in bench.samples if s.mode is Mode.SPECULATIVE and not s.warmup}

    assert statuses == {Status.INVALID}
    assert bench.failures()


def test_the_first_divergence_from_vanilla_output_is_noted() -> None:
    bench = Bench()

    def answer(session: StandInSession, request: Request) -> Generation:
        tokens = tuple(range(request.n_predict))
        if session.server.n_draft == 8:
            tokens = (*tokens[:7], 999, *tokens[8:])
        return good(session.server, request, tokens=tokens)

    bench.engine.answer = answer
    bench.run(jobs_over_n_draft(4, 8, iterations=1, n_predict=20))

    divergence = {s.n_draft: s.first_divergence for s in bench.samples if not s.warmup}

    assert divergence == {0: None, 4: None, 8: 7}


def test_what_an_earlier_run_measured_is_not_measured_again() -> None:
    first = Bench()
    jobs = jobs_over_n_draft(4, 8, iterations=3)
    first.after_sample = lambda sample: first.stop.request() if len(first.samples) == 8 else None
    first.run(jobs)
    second = Bench(done=dict(first.done))
    second.run(jobs)

    keys = [(s.job_id, s.iteration) for bench in (first, second) for s in bench.samples if not s.warmup]

    assert len(first.samples) == 8
    assert len(keys) == len(set(keys)) == 9


def test_a_request_to_stop_ends_after_the_run_under_way_and_closes_every_server() -> None:
    bench = Bench()
    bench.after_sample = lambda sample: bench.stop.request()
    bench.run(jobs_over_n_draft(4, iterations=5))

    assert len(bench.samples) == 1
    assert all(session.closed for session in bench.engine.sessions)


def test_an_adaptive_protocol_stops_a_server_that_has_converged_and_goes_on_with_the_others() -> None:
    bench = Bench()
    chance = random.Random(0)
    noise = {0: 0.0005, 4: 0.0005, 8: 0.02}

    def answer(session: StandInSession, request: Request) -> Generation:
        n_draft = session.server.n_draft
        return good(session.server, request, ms_per_token=10.0 * chance.lognormvariate(0, noise[n_draft]))

    bench.engine.answer = answer
    adaptive = Adaptive(min_pairs=6, look_every=2, max_pairs=16, target=0.005)
    jobs = identify(
        [replace(job, protocol=Protocol(adaptive=adaptive)) for job in jobs_over_n_draft(4, 8, n_predict=1000)], {}
    )
    bench.run(jobs)

    assert bench.counted() == {"Vanilla 0 ok": 16, "Speculative 4 ok": 6, "Speculative 8 ok": 16}


def test_skip_vanilla_measures_speculative_servers_alone() -> None:
    bench = Bench()
    bench.run(jobs_over_n_draft(4, iterations=2, skip_vanilla=True))

    assert bench.counted() == {"Speculative 4 ok": 2}


def test_a_group_ends_once_and_its_samples_are_numbered_in_the_order_in_which_they_ran() -> None:
    bench = Bench()
    bench.run(jobs_over_n_draft(4, iterations=2))

    assert len([event for event in bench.events if isinstance(event, GroupEnded)]) == 1
    assert [sample.order for sample in bench.samples] == list(range(len(bench.samples)))


COOLING = {"cooldown": True, "cooldown_max_s": 0.001}


def test_a_machine_that_got_slow_rests_and_is_looked_at_again_at_most_twice() -> None:
    bench = Bench()
    slow = itertools.count()
    bench.engine.answer = lambda session, request: good(
        session.server, request, ms_per_token=10.0 if next(slow) < 4 else 20.0
    )
    (job,) = jobs_over_n_draft(4, iterations=3)
    bench.run(identify([replace(job, protocol=replace(job.protocol, **COOLING, cooldown_drift=0.1))], {}))

    looks = [s for s in bench.samples if s.warmup and s.iteration > 0]

    assert [s.iteration for s in looks] == [3, 3]
    assert all(s.n_predict == 100 for s in looks)


def test_a_machine_that_has_recovered_is_not_rested_again_before_vanilla_has_run_again() -> None:
    bench, taken = Bench(), itertools.count()
    bench.engine.answer = lambda session, request: good(
        session.server, request, ms_per_token=20.0 if next(taken) == 4 else 10.0
    )
    (job,) = jobs_over_n_draft(4, iterations=3, order="block")
    bench.run(identify([replace(job, protocol=replace(job.protocol, **COOLING))], {}))

    assert [s.tokens_per_second for s in bench.samples if s.mode is Mode.VANILLA and not s.warmup] == [100, 100, 50]
    assert [s.iteration for s in bench.samples if s.warmup and s.iteration > 0] == [1]


def test_a_look_at_a_slow_machine_belongs_to_no_single_job_either() -> None:
    bench, taken = Bench(), itertools.count()
    bench.engine.answer = lambda session, request: good(
        session.server, request, ms_per_token=10.0 if next(taken) < 6 else 20.0
    )
    jobs = jobs_over_n_draft(4, 8, iterations=4)
    bench.run(identify([replace(job, protocol=replace(job.protocol, **COOLING)) for job in jobs], {}))

    looks = [s for s in bench.samples if s.warmup and s.iteration > 0]

    assert {s.iteration for s in looks} == {3, 4}  # a round that begins with vanilla, and one that ends with it
    assert {s.job_num for s in looks} == {None}


def test_a_look_at_a_slow_machine_asks_as_the_runs_that_it_is_compared_with_did() -> None:
    bench = Bench()
    asked: list[Request] = []

    def answer(session: StandInSession, request: Request) -> Generation:
        asked.append(request)
        return good(session.server, request, ms_per_token=10.0 if len(asked) <= 4 else 20.0)

    bench.engine.answer = answer
    (job,) = jobs_over_n_draft(4, iterations=3)
    job = replace(job, prompts=replace(job.prompts, chat=True), protocol=replace(job.protocol, **COOLING))
    bench.run(identify([job], {}))

    assert sum(sample.warmup and sample.iteration > 0 for sample in bench.samples) > 0
    assert [request.chat for request in asked] == [request.prompt.id != "warmup" for request in asked]


@pytest.mark.parametrize(("slow_looks", "looks_taken", "marked"), [(0, 1, False), (1, 2, False), (2, 2, True)])
def test_a_round_after_two_looks_at_a_slow_machine_is_marked_untrusted(
    slow_looks: int, looks_taken: int, marked: bool
) -> None:
    bench = Bench()
    calls = itertools.count(1)

    def answer(session: StandInSession, request: Request) -> Generation:
        # two warm-ups, four runs of the first round, four of the second: that is when the machine gets slow
        slow = 7 <= next(calls) <= 10 + slow_looks
        # the first prompt is slower by itself: a look at it says nothing when held against both
        ms = 15.0 if request.prompt.id == "p0" else 10.0
        return good(session.server, request, ms_per_token=2 * ms if slow else ms)

    bench.engine.answer = answer
    (job,) = jobs_over_n_draft(4, iterations=3)
    prompts = tuple(Prompt(id=f"p{number}", text="Why?") for number in range(2))
    job = replace(job, prompts=PromptSet(name="two", prompts=prompts))
    bench.run(identify([replace(job, protocol=replace(job.protocol, **COOLING))], {}))

    looks = [s for s in bench.samples if s.warmup and s.iteration > 0]
    (row,) = [row for row in compare_jobs(samples_to_table(bench.samples)) if row.prompt_id is None]

    assert [(s.iteration, s.prompt_id) for s in looks] == [(3, "p0")] * looks_taken
    assert [finding.code for finding in row.findings if finding.code == "untrusted"] == ["untrusted"] * marked
    assert row.n_pairs == 3


def test_acceptance_that_is_drawn_at_random_is_labelled_and_its_text_compared_with_nothing() -> None:
    bench = Bench()
    bench.engine.answer = lambda session, request: good(
        session.server, request, tokens=tuple(range(request.n_predict)) if session.server.n_draft == 0 else (7, 7, 7)
    )
    speculation = Speculation(synthetic_acceptance=2.0)
    bench.run(jobs_over_n_draft(4, iterations=1, speculation=speculation))
    (drawn,) = [s for s in bench.samples if s.mode is Mode.SPECULATIVE and not s.warmup]

    assert drawn.speculation == "draft (synthetic acceptance 2)"
    assert (drawn.first_divergence, drawn.output_sha256) == (None, None)


def test_imports_begin_with_a_load_and_end_before_runs_that_count() -> None:
    bench = Bench()
    bench.preload_calls = bench.engine.calls
    bench.run(jobs_over_n_draft(4, iterations=1))

    assert bench.engine.calls == ["begin", "vanilla/warmup", "n_draft 4/warmup", "finish", "vanilla", "n_draft 4"]
