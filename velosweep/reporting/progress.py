"""What a person sees while it runs. Redraws happen on events only, at most twice a second: no thread of ours
competes with the cores under measurement."""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from velosweep.config.settings import Job, Sweep
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
from velosweep.planning.server_groups import Measurement
from velosweep.reporting.before import most_iterations
from velosweep.reporting.safe import clip
from velosweep.reporting.screen import say, width_of
from velosweep.reporting.wording import duration
from velosweep.statistics.intervals import Ratio, t_ratio
from velosweep.units import plural
from velosweep.values import Mode, Sample, Status

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live


REDRAW_S = 0.5
QUIET_LINE_S = 60.0
MOST_ITERATION_LINES = 80

PassKey = tuple[str, int, int, int]  # owner id, block, launch, iteration


@dataclass(slots=True)
class Tally:
    """What has happened so far; pure but for being updated. Passes are an arm's runs over one prompt set."""

    sweep: Sweep
    done: int = 0
    bad: int = 0
    groups: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    doing: dict[int, str] = field(default_factory=dict)
    decoded: dict[PassKey, list[tuple[int, float, float]]] = field(default_factory=lambda: defaultdict(list))
    baselines: dict[str, list[Job]] = field(default_factory=lambda: defaultdict(list))  # jobs by baseline
    logs: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # by job: its pairs' log ratios
    ratios: dict[str, Ratio] = field(default_factory=dict)  # by job, of all its pairs

    def expected(self) -> int:
        """Measurements known to come, warm-ups apart; adaptive jobs count at their maximum."""
        own = sum(_runs(job) for job in self.sweep.jobs if job.speculation.kinds)
        baselines = {job.baseline_id: job for job in self.sweep.jobs if not job.skip_vanilla}
        shared = sum(_runs(job) * max(len(self.groups[owner]), 1) for owner, job in baselines.items())
        return max(own + shared, self.done)

    def ended(self, measurement: Measurement, sample: Sample) -> PassKey | None:
        """Count a run; the key of its pass if that is complete with it."""
        if measurement.warmup:
            return None
        self.done += 1
        if sample.status is not Status.OK or not sample.predicted_ms or not sample.predicted_tokens:
            self.bad += 1
            return None
        owner, group, launch, iteration, _ = measurement.key
        runs = self.decoded[owner, group, launch, iteration]
        runs.append((sample.predicted_tokens - 1, sample.predicted_ms, sample.total_time_ms or 0.0))
        if len(runs) != len(measurement.job.prompts.prompts):
            return None
        self._pair(measurement, (owner, group, launch, iteration))
        return owner, group, launch, iteration

    def _pair(self, measurement: Measurement, complete: PassKey) -> None:
        """Add the log ratio of each pair that this pass completes."""
        own, place = measurement.job, complete[1:]
        if not self.baselines:
            for job in self.sweep.jobs:
                self.baselines[job.baseline_id].append(job)
        for job in self.baselines[own.baseline_id] if measurement.server.mode is Mode.VANILLA else [own]:
            keys: tuple[PassKey, PassKey] = ((job.id, *place), (job.baseline_id, *place))
            if all(len(self.decoded.get(key, ())) == len(job.prompts.prompts) for key in keys):
                self.logs[job.id].append(math.log(self.pass_rate(keys[0])[0] / self.pass_rate(keys[1])[0]))
                self.ratios.pop(job.id, None)

    def pass_rate(self, key: PassKey) -> tuple[float, float]:
        """Tokens per second and total milliseconds of a complete pass."""
        runs = self.decoded[key]
        total_ms = sum(run[1] for run in runs)
        return 1000 * sum(run[0] for run in runs) / total_ms, sum(run[2] for run in runs)

    def running_speedup(self, job: Job) -> tuple[float, float | None, int] | None:
        """Geometric mean ratio of the complete pairs so far, the relative half-width of its 95 % interval, pairs."""
        if job.id not in self.logs:
            return None
        if job.id not in self.ratios:  # worked out once, as a redraw asks for every job
            self.ratios[job.id] = t_ratio(self.logs[job.id])
        ratio = self.ratios[job.id]
        return ratio.ratio or 0.0, ratio.interval.half_width if ratio.interval else None, len(self.logs[job.id])


def _runs(job: Job) -> int:
    return most_iterations(job) * len(job.prompts.prompts)


# ---------------------------------------------------------------- the observer


@contextmanager
def make_observer(
    sweep: Sweep,
    *,
    console: Console,
    quiet: bool = False,
    verbose: bool = False,
    done: int = 0,
    open_ended: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Observer]:
    """An Observer for `running`: a live display on a terminal, plain lines elsewhere, only failures when quiet.

    `done`: runs that an earlier start of this sweep took. `open_ended`: nobody knows how many there will be (a search
    decides as it goes), so no totals are shown. Callable from several lanes' threads. On leaving,
    the live display is taken down.
    """
    live = _start_live(console) if console.is_terminal and not quiet else None
    display = _Display(
        sweep,
        console=console,
        live=live,
        quiet=quiet,
        verbose=verbose,
        done=done,
        open_ended=open_ended,
        clock=clock,
    )
    try:
        yield display.observe
    finally:
        if live is not None:
            with suppress(OSError):  # a terminal that is gone needs no tidying, and must not cost the results
                live.stop()


def _start_live(console: Console) -> Live:
    from rich.live import Live

    live = Live(console=console, auto_refresh=False, transient=True)
    live.start()
    return live


class _Display:
    """Turns events into lines and, on a terminal, a live block below them."""

    def __init__(
        self,
        sweep: Sweep,
        *,
        console: Console,
        live: Live | None,
        quiet: bool,
        verbose: bool,
        done: int,
        open_ended: bool,
        clock: Callable[[], float],
    ) -> None:
        self._tally = Tally(sweep, done=done)
        self._before = done
        self._open_ended = open_ended
        self._console = console
        self._live = live
        self._quiet = quiet
        self._verbose = verbose
        self._clock = clock
        self._lock = threading.Lock()
        self._started = self._drawn = self._told = clock()
        self._each_line = verbose or _iteration_lines(sweep) <= MOST_ITERATION_LINES
        self._label_width = max((len(_arm_label(job)) + 2 for job in sweep.jobs), default=0)

    def observe(self, event: Event) -> None:
        """Take one event; never raises for what it shows."""
        with self._lock:
            line = self._take(event)
            if line and (not self._quiet or isinstance(event, ServerFailed)):
                say(self._console, line, indent=2)
            if self._live is not None:
                # The next run starts within a moment of the end of one: drawn at the end, the block would name the run
                # that is over for as long as the next one takes.
                if not isinstance(event, RunEnded):
                    self._redraw()
            elif not self._quiet and not self._each_line:
                self._tell_seldom()

    def _take(self, event: Event) -> str | None:
        tally, lane = self._tally, event.lane
        if isinstance(event, ServerLoading):
            tally.doing[lane] = f"loading {event.server.label}"
            return None
        if isinstance(event, ServerReady):
            return f"{event.server.label} loaded in {event.load_s:.1f} s" if self._verbose else None
        if isinstance(event, ServerFailed):
            return f"❌ {event.server.label} did not run: {event.error}"
        if isinstance(event, RunStarted):
            measurement = event.measurement
            tally.groups[measurement.job.baseline_id].add(measurement.group)
            tally.doing[lane] = self._doing(measurement)
            return None
        if isinstance(event, RunEnded):
            return self._run_line(event.measurement, event.sample)
        if isinstance(event, GroupEnded):
            tally.doing.pop(lane, None)
        return None

    def _run_line(self, measurement: Measurement, sample: Sample) -> str | None:
        complete = self._tally.ended(measurement, sample)
        head = f"Iteration {self._iteration(measurement)}"
        label = _measured_label(measurement)
        if sample.status is not Status.OK:
            return (
                f"{head}  {label:<{self._label_width}} ... {sample.status.value}: {sample.error or 'no reason given'}"
            )
        if complete is None or not self._each_line:
            return None
        rate, total_ms = self._tally.pass_rate(complete)
        return f"{head}  {label:<{self._label_width}} ... {rate:.2f} tok/s ({total_ms:.0f}ms)"

    def _doing(self, measurement: Measurement) -> str:
        if measurement.warmup:
            return f"warming up {measurement.server.label}"
        prompts = len(measurement.job.prompts.prompts)
        prompt = f", prompt {measurement.prompt.id}" if prompts > 1 else ""
        return f"{measurement.server.label}, iteration {self._iteration(measurement)}{prompt}"

    def _iteration(self, measurement: Measurement) -> str:
        total = "" if self._open_ended else f"/{most_iterations(measurement.job)}"
        return f"{measurement.iteration}{total}"

    def _status(self) -> str:
        tally = self._tally
        expected = tally.expected()
        elapsed = self._clock() - self._started
        bad = f", {tally.bad} not usable" if tally.bad else ""
        if self._open_ended:
            return f"{plural(tally.done, 'run')}{bad}, {duration(elapsed)} gone"
        taken = tally.done - self._before
        left = duration(elapsed / taken * (expected - tally.done)) if taken else "unknown"
        return f"{tally.done} of {expected} runs{bad}, {duration(elapsed)} gone, {left} left"

    def _tell_seldom(self) -> None:
        if self._clock() - self._told >= QUIET_LINE_S:
            self._told = self._clock()
            say(self._console, f"{self._status()}; {self._leading()}".rstrip("; "), indent=2)

    def _leading(self) -> str:
        found = [(seen, job) for job in self._tally.sweep.jobs if (seen := self._tally.running_speedup(job))]
        if not found:
            return ""
        (value, half, _), job = max(found, key=lambda entry: entry[0][0])
        spread = f" {_spread(half, 0)}" if half is not None else ""
        return f"ahead: {_arm_label(job)} {value:.2f}×{spread}"

    def _redraw(self) -> None:
        """Draw the block anew unless that was done within REDRAW_S."""
        if self._live is None or self._clock() - self._drawn < REDRAW_S:
            return
        from rich.text import Text

        self._drawn = self._clock()
        width = width_of(self._console) - 1
        self._live.update(Text("\n".join(clip(line, width) for line in self.block_lines())), refresh=True)

    def block_lines(self) -> list[str]:
        """The live block: progress bar, what each lane does, the leading jobs."""
        tally = self._tally
        share = min(tally.done / max(tally.expected(), 1), 1.0)
        room = max(min(width_of(self._console) - 60, 40), 8)
        bar = "━" * round(share * room) + "┄" * (room - round(share * room)) + " "
        lanes = [f"  lane {lane}: {what}" for lane, what in sorted(tally.doing.items())]
        found = [(seen, job) for job in tally.sweep.jobs if (seen := tally.running_speedup(job))]
        found.sort(key=lambda entry: -entry[0][0])
        leaders = [_leader_line(job, *seen) for seen, job in found[:5]]
        return [f"{'' if self._open_ended else bar}{self._status()}", *lanes, *leaders]


def _leader_line(job: Job, value: float, half: float | None, pairs: int) -> str:
    spread = _spread(half, 1) if half is not None else ""
    return f"  {_arm_label(job):<24} {value:.2f}× {spread:<8} {plural(pairs, 'pair')}"


def _spread(half: float, digits: int) -> str:
    """`±3.1 %`; what is wider than the ratio itself tells no more by its figure (two pairs can give ±164318.7 %)."""
    return "±>100 %" if half > 1 else f"±{100 * half:.{digits}f} %"


def _iteration_lines(sweep: Sweep) -> int:
    baselines = {job.baseline_id for job in sweep.jobs if not job.skip_vanilla}
    most = max((most_iterations(job) for job in sweep.jobs), default=0)
    return (len(sweep.jobs) + len(baselines)) * most


def _arm_label(job: Job) -> str:
    return f"n_draft {job.n_draft}"


def _measured_label(measurement: Measurement) -> str:
    vanilla = measurement.server.mode is Mode.VANILLA
    return ("🔹 " if vanilla else "🔸 ") + measurement.server.label
