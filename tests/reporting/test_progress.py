from __future__ import annotations

import io
import math
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count

import pytest
from rich.console import Console
from scipy import stats

from tests.reporting import planned, sweeps
from velosweep.config.settings import Job
from velosweep.measuring.events import (
    Event,
    GroupEnded,
    Observer,
    RunEnded,
    RunStarted,
    ServerFailed,
    ServerLoading,
    ServerReady,
)
from velosweep.reporting import progress as progress_module
from velosweep.reporting.console import make_console
from velosweep.reporting.progress import ProgressDisplay
from velosweep.reporting.sweep_progress import SweepProgress
from velosweep.tuning.search_values import Phase, SearchStatus
from velosweep.values import Mode, Sample, Status


def sample(rate: float, *, total_ms: float, status: Status = Status.OK, error: str | None = None) -> Sample:
    """A sample of 100 tokens at `rate`."""
    row = sweeps.single_job().runs[0]
    return replace(
        row, status=status, error=error, tokens_per_second=rate, predicted_tokens=100, predicted_ms=99 / rate * 1000,
        total_time_ms=total_ms, warmup=False,
    )  # fmt: skip


def ended(
    job: Job, mode: Mode, iteration: int, rate: float, *, total_ms: float = 1000, prompt: int = 0, warmup: bool = False
) -> RunEnded:
    measurement = planned.measurement(job, mode, iteration + 1, prompt=prompt, warmup=warmup)
    return RunEnded(lane=0, measurement=measurement, sample=sample(rate, total_ms=total_ms))


@contextmanager
def observing(jobs: Sequence[Job], **settings: int) -> Iterator[tuple[io.StringIO, Observer]]:
    out = io.StringIO()
    with ProgressDisplay(jobs, console=make_console(out), **settings) as observe:
        yield out, observe


def test_iteration_lines_are_the_specifications_and_name_their_arm() -> None:
    jobs = planned.jobs()
    (job,) = jobs

    with observing(jobs) as (out, observe):
        observe(ended(job, Mode.VANILLA, 0, 28.45, total_ms=3521))
        observe(ended(job, Mode.SPECULATIVE, 0, 67.23, total_ms=1488))

    assert out.getvalue().splitlines() == [
        "  Iteration 1/5  🔹 vanilla   ... 28.45 tok/s (3521ms)",
        "  Iteration 1/5  🔸 n_draft 8 ... 67.23 tok/s (1488ms)",
    ]


@pytest.mark.parametrize("searching", [False, True])
def test_the_tenth_iteration_stands_below_the_ninth(searching: bool) -> None:
    jobs = planned.jobs((4, 8), iterations=10)
    out = io.StringIO()

    with ProgressDisplay(jobs, console=make_console(out), searches=list if searching else None) as observe:
        for iteration in (8, 9):
            observe(ended(jobs[0], Mode.VANILLA, iteration, 30))

    ninth, tenth = out.getvalue().splitlines()
    assert "Iteration 9" in ninth
    assert ninth.index("vanilla") == tenth.index("vanilla")


def test_a_search_shows_no_totals_because_it_decides_as_it_goes() -> None:
    jobs = planned.jobs()
    (job,) = jobs
    out = io.StringIO()
    seconds = count(0, 61)

    with ProgressDisplay(
        jobs, console=make_console(out), searches=tuple, clock=lambda: float(next(seconds))
    ) as observe:
        observe(ended(job, Mode.VANILLA, 5, 30))
    with ProgressDisplay(
        planned.jobs(tuple(range(1, 33))), console=make_console(out), searches=tuple,
        clock=lambda: float(next(seconds)),
    ) as observe:  # fmt: skip
        observe(ended(job, Mode.VANILLA, 5, 30))

    iteration, status = out.getvalue().splitlines()
    assert iteration.startswith("  Iteration 6   🔹 vanilla")
    assert status.startswith("  1 run, ")
    assert " of " not in status
    assert "left" not in status


def test_a_pass_over_several_prompts_is_one_line() -> None:
    jobs = planned.jobs(prompts=2)
    (job,) = jobs

    with observing(jobs) as (out, observe):
        observe(ended(job, Mode.VANILLA, 0, 30, total_ms=1000))
        assert out.getvalue() == ""
        observe(ended(job, Mode.VANILLA, 0, 60, total_ms=500, prompt=1))

    assert "40.00 tok/s (1500ms)" in out.getvalue()


def test_warm_ups_are_not_shown_as_iterations() -> None:
    jobs = planned.jobs()

    with observing(jobs) as (out, observe):
        observe(ended(jobs[0], Mode.VANILLA, 0, 30, warmup=True))

    assert out.getvalue() == ""


def test_failures_are_shown_at_once_even_when_quiet() -> None:
    jobs = planned.jobs()
    (job,) = jobs
    failure = ServerFailed(
        lane=0, server=planned.server(job, Mode.SPECULATIVE), jobs=(job,), error="out of memory\x1b[2J"
    )

    with observing(jobs, verbosity=-1) as (out, observe):
        observe(ended(job, Mode.VANILLA, 0, 30))
        observe(failure)

    assert out.getvalue() == "  ❌ n_draft 8 did not run: out of memory\\x1b[2J\n"


def test_who_gave_flags_reads_them_in_a_servers_failure() -> None:
    jobs = planned.jobs()
    server = planned.server(jobs[0], Mode.SPECULATIVE)

    with observing(jobs, command=("velosweep", "run", "-l", "x")) as (out, observe):
        observe(ServerFailed(lane=0, server=server, jobs=jobs, error="it died; leave llama_cpp.path out"))

    assert out.getvalue() == "  ❌ n_draft 8 did not run: it died; leave --llama-server out\n"


def test_servers_that_fail_alike_say_why_once() -> None:
    jobs = planned.jobs((4, 8))
    four, eight = jobs

    with observing(jobs) as (out, observe):
        for number, job in enumerate((four, eight)):
            error = f"it was killed by SIGILL (log: /s/{number}.log); build it here"
            observe(ServerFailed(lane=0, server=planned.server(job, Mode.SPECULATIVE), jobs=(job,), error=error))

    first, second = (line for line in out.getvalue().splitlines() if "❌" in line)
    assert first.endswith("did not run: it was killed by SIGILL (log: /s/0.log); build it here")
    assert second.endswith(f"did not run: for the same reason as n_draft {four.n_draft}")


def test_a_failed_run_says_how_and_why() -> None:
    jobs = planned.jobs()
    (job,) = jobs
    bad = sample(30, total_ms=1, status=Status.INVALID, error="nothing was drafted")

    with observing(jobs) as (out, observe):
        observe(RunEnded(lane=0, measurement=planned.measurement(job, Mode.SPECULATIVE, 0), sample=bad))

    assert "n_draft 8 ... invalid: nothing was drafted" in out.getvalue()


def test_a_large_sweep_says_one_line_a_minute() -> None:
    jobs = planned.jobs(tuple(range(1, 33)))
    out = io.StringIO()
    seconds = count(0, 10)

    with ProgressDisplay(jobs, console=make_console(out), clock=lambda: float(next(seconds))) as observe:
        for job in jobs:
            observe(ended(job, Mode.VANILLA, job.num, 30))

    lines = out.getvalue().splitlines()
    assert 1 <= len(lines) <= len(jobs) // 3
    assert " of 165 runs" in lines[0]


def test_the_running_speedup_is_the_paired_geometric_mean_with_its_interval() -> None:
    jobs = planned.jobs()
    (job,) = jobs
    progress = SweepProgress(jobs)
    ratios = (1.4, 1.5, 1.45)
    for iteration, ratio in enumerate(ratios):
        for event in (ended(job, Mode.VANILLA, iteration, 30), ended(job, Mode.SPECULATIVE, iteration, 30 * ratio)):
            progress.add(event.measurement, event.sample)

    ((leader, ratio),) = progress.leaders()

    logs = [math.log(ratio) for ratio in ratios]
    interval = stats.ttest_1samp(logs, 0).confidence_interval(0.95)
    assert ratio.ratio == pytest.approx(math.exp(sum(logs) / 3))
    assert leader is job
    assert ratio.interval is not None
    assert (math.log(ratio.interval.low), math.log(ratio.interval.high)) == pytest.approx((interval.low, interval.high))


def test_the_expected_number_of_runs_counts_a_shared_baseline_once() -> None:
    progress = SweepProgress(planned.jobs((4, 8, 12), iterations=5, prompts=2))

    assert progress.expected() == (3 + 1) * 5 * 2


def test_blocks_add_their_own_baseline() -> None:
    progress = SweepProgress(planned.jobs((4, 8), iterations=5))
    progress.groups[progress.jobs[0].baseline_id].update({0, 1})

    assert progress.expected() == (2 + 2) * 5


class Watched(io.StringIO):
    def isatty(self) -> bool:
        return True


def watched_console() -> tuple[Watched, Console]:
    """A terminal of 100 columns, and what is drawn on it."""
    out = Watched()
    return out, Console(file=out, force_terminal=True, width=100, highlight=False, markup=False)


def test_on_a_terminal_the_live_block_is_drawn_at_most_twice_a_second() -> None:
    jobs = planned.jobs((4, 8), iterations=200)
    out, console = watched_console()
    ticks = count(0)

    with ProgressDisplay(jobs, console=console, clock=lambda: next(ticks) / 100) as observe:
        for iteration in range(50):
            observe(RunStarted(lane=0, measurement=planned.measurement(jobs[0], Mode.VANILLA, iteration)))
            observe(ended(jobs[0], Mode.VANILLA, iteration, 30))
            observe(ended(jobs[0], Mode.SPECULATIVE, iteration, 45))
        observe(RunStarted(lane=0, measurement=planned.measurement(jobs[0], Mode.VANILLA, 50)))

    drawn = out.getvalue().count("vanilla, iteration")
    assert 1 <= drawn <= 2 * (next(ticks) / 100) + 1
    assert "1.50×" in out.getvalue()


def test_the_live_block_names_the_run_that_is_being_measured() -> None:
    jobs = planned.jobs((4,), iterations=5)
    (job,) = jobs
    out, console = watched_console()
    now = [0.0]

    with ProgressDisplay(jobs, console=console, clock=lambda: now[0]) as observe:
        for mode, rate in ((Mode.VANILLA, 30.0), (Mode.SPECULATIVE, 45.0)):
            observe(RunStarted(lane=0, measurement=planned.measurement(job, mode, 1)))
            now[0] += 1.0  # it takes a second, and the next starts at once
            observe(ended(job, mode, 0, rate))
        observe(RunStarted(lane=0, measurement=planned.measurement(job, Mode.VANILLA, 2)))
        drawn = [line for line in out.getvalue().splitlines() if ", iteration " in line]

    assert "vanilla, iteration 2" in drawn[-1]


def test_the_clock_moves_and_the_time_left_shrinks_while_a_run_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "TICK_S", 0.01)
    jobs = planned.jobs((4,), iterations=5)
    (job,) = jobs
    out, console = watched_console()
    now = [0.0]

    with ProgressDisplay(jobs, console=console, clock=lambda: now[0]) as observe:
        for mode in (Mode.VANILLA, Mode.SPECULATIVE):
            now[0] += 10.0
            observe(ended(job, mode, 0, 30.0))
        observe(RunStarted(lane=0, measurement=planned.measurement(job, Mode.VANILLA, 2)))
        now[0] += 7.0
        while "27 s elapsed, about 73 s left" not in out.getvalue():
            time.sleep(0.01)
        now[0] += 1.0
        while "28 s elapsed, about 72 s left" not in out.getvalue():
            time.sleep(0.01)

    assert "vanilla, iteration 2/5, 7 s" in out.getvalue()


def test_a_search_says_its_phase_its_time_and_what_is_in_the_running() -> None:
    jobs = planned.jobs(tuple(range(1, 33)))
    one, two, *_ = jobs
    status = SearchStatus(
        category=None, phase=Phase.ELIMINATION, number=3, candidates=(one.baseline_id, one.id, two.id), spent_s=35.0,
        budget_s=120.0,
    )  # fmt: skip
    out = io.StringIO()
    seconds = count(0, 61)

    with ProgressDisplay(
        jobs, console=make_console(out), searches=lambda: [status],
        clock=lambda: float(next(seconds)),
    ) as observe:  # fmt: skip
        for iteration in range(3):
            observe(ended(two, Mode.VANILLA, iteration, 30))

    assert "comparing, round 3, 35 s of 2 min; in the running: vanilla; n_draft 1; n_draft 2" in out.getvalue()


@pytest.mark.parametrize(("second", "said"), [(15.0, r"×± over 100 % 2 pairs"), (45.5, r"×±\d\.\d % 2 pairs")])
def test_an_interval_of_two_pairs_is_no_figure_of_a_hundred_thousand(second: float, said: str) -> None:
    jobs = planned.jobs((4,), iterations=5)
    (job,) = jobs
    out, console = watched_console()
    seconds = count(0, 10)

    with ProgressDisplay(jobs, console=console, clock=lambda: float(next(seconds))) as observe:
        for iteration, rate in enumerate((45.0, second)):
            observe(ended(job, Mode.VANILLA, iteration, 30))
            observe(ended(job, Mode.SPECULATIVE, iteration, rate))
        observe(RunStarted(lane=0, measurement=planned.measurement(job, Mode.VANILLA, 3)))

    last = next(line for line in reversed(out.getvalue().splitlines()) if "2 pairs" in line)
    assert re.search(said, re.sub(" +", " ", last).replace("× ", "×"))


def test_every_kind_of_event_is_taken() -> None:
    jobs = planned.jobs()
    (job,) = jobs
    vanilla = planned.server(job, Mode.VANILLA)
    events: list[Event] = [
        ServerLoading(lane=0, server=vanilla),
        ServerReady(lane=0, server=vanilla, load_s=0.5, memory_bytes=None),
        RunStarted(lane=0, measurement=planned.measurement(job, Mode.VANILLA, 0)),
        GroupEnded(lane=0, group=planned.group(jobs)),
    ]

    with observing(jobs, verbosity=1) as (out, observe):
        for event in events:
            observe(event)

    assert out.getvalue() == "  vanilla loaded in 0.5 s\n"
