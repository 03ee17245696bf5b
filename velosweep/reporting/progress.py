"""What a person sees while a sweep runs. On a terminal a block is redrawn on events, at most twice a second, and once a
second in between, by a thread of rich's, so that its clock moves: that takes a millisecond."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from velosweep.config.flags import as_typed
from velosweep.config.settings import Job
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.measuring import events
from velosweep.measuring.events import Event, Observer
from velosweep.planning.identity import speculative_server, vanilla_server
from velosweep.planning.job_names import names_of_jobs
from velosweep.planning.measurements import Measurement, most_iterations
from velosweep.reporting.console import NORMAL, QUIET, say, width_of
from velosweep.reporting.escaping import clip
from velosweep.reporting.sweep_progress import SweepProgress
from velosweep.reporting.wording import duration, failure_alike, first_few, number
from velosweep.statistics.intervals import Interval
from velosweep.tuning.search_values import SearchStatus
from velosweep.units import plural
from velosweep.values import Mode, Status

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text


REDRAW_S = 0.5
TICK_S = 1.0
STATUS_LINE_S = 60.0  # without a terminal, where not every iteration has its line
MOST_ITERATION_LINES = 80


class ProgressDisplay:
    """A context manager that gives an Observer for `measure`.

    A live display on a terminal, which is removed on leaving; plain lines elsewhere; only failures when quiet. The
    observer may be called from several lanes' threads.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        console: "Console",
        verbosity: int = NORMAL,
        done: int = 0,
        searches: Callable[[], Sequence[SearchStatus]] | None = None,
        command: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`done`: runs that an earlier start of this sweep took. `searches`: how far each search has come. Searches
        decide as they go how many runs there are, so no totals are shown. `command`: as it was typed."""
        self._progress, self._done_before = SweepProgress(jobs, done=done), done
        self._console, self._verbosity, self._clock = console, verbosity, clock
        self._searches, self._command = searches, command
        self._live: Live | None = None
        self._lock = threading.Lock()  # of all below; never held while anything is printed or drawn, which rich locks
        self._started = self._drawn = self._status_at = self._last_run = clock()
        self._lanes: dict[int, tuple[str, float]] = {}  # what each is doing, since when
        servers = len(jobs) + len({job.baseline_id for job in jobs if not job.skip_vanilla})
        lines = servers * max(map(most_iterations, jobs), default=0)
        self._each_line = verbosity > NORMAL or lines <= MOST_ITERATION_LINES
        self._names = names_of_jobs(jobs)
        self._label_width = 2 + max(map(len, (*self._names.labels.values(), *self._names.vanilla.values())), default=0)
        self._server_names: dict[str, set[str]] = {}
        self._failures: dict[str, str] = {}  # the first server that failed so, by what failures alike have in common

    def __enter__(self) -> Observer:
        if self._console.is_terminal and self._verbosity != QUIET:
            from rich.live import Live

            self._live = Live(
                console=self._console, transient=True, refresh_per_second=1 / TICK_S, get_renderable=self._block
            )
            self._live.start()
        return self.observe

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            with suppress(OSError):  # a closed terminal needs no tidying, and must not cost the results
                self._live.stop()

    def _block(self) -> "Text":
        from rich.text import Text

        width = width_of(self._console) - 1
        with self._lock:
            self._drawn = self._clock()
            return Text("\n".join(clip(line, width) for line in self._block_lines(self._drawn)))

    def observe(self, event: Event) -> None:
        """Take one event. Raises what a terminal that is gone raises, which must not end the measuring."""
        with self._lock:
            lines = list(self._lines(event))
            # The next run starts within a moment of the end of one. Drawn at the end, the block would name the
            # finished run for as long as the next one takes.
            draw = not isinstance(event, events.RunEnded) and self._clock() - self._drawn >= REDRAW_S
        for line in lines:
            say(self._console, line, indent=2)
        if self._live is not None and draw:
            self._live.refresh()

    def _lines(self, event: Event) -> Iterator[str]:
        """What is printed for an event, and from time to time how far the sweep is."""
        line = self._take(event)
        if line and (self._verbosity > QUIET or isinstance(event, (events.ServerFailed, events.PromptLeftOut))):
            yield line
        now = self._clock()
        no_status = self._live is not None or self._each_line or self._verbosity <= QUIET
        if not no_status and now - self._status_at >= STATUS_LINE_S:
            self._status_at = now
            leaders = [
                f"; ahead: {self._names.labels[job.id]} {number(speedup.ratio)}× {_half_width(speedup.interval, 0)}"
                for job, speedup in self._progress.leaders(1)
            ]
            yield f"{self._status(now)}{''.join(leaders)}".rstrip()
            yield from self._search_lines()

    def _take(self, event: Event) -> str | None:
        """Record the event; returns the line to print for it, if any."""
        if isinstance(event, events.ServerLoading):
            self._lanes[event.lane] = (f"loading {self._server_name(event.server)}", self._clock())
        elif isinstance(event, events.ServerReady):
            return (
                f"{self._server_name(event.server)} loaded in {event.load_s:.1f} s"
                if self._verbosity > NORMAL
                else None
            )
        elif isinstance(event, events.ServerFailed):
            name = self._server_name(event.server)
            first = self._failures.setdefault(failure_alike(event.error), name)
            why = as_typed(event.error, self._command) if first == name else f"for the same reason as {first}"
            return f"❌ {name} did not run: {why}"
        elif isinstance(event, events.PromptLeftOut):
            return f"❌ prompt {event.prompt.id} is left out: {as_typed(event.error, self._command)}"
        elif isinstance(event, events.RunStarted):
            measurement = event.measurement
            self._progress.groups[measurement.job.baseline_id].add(measurement.group)
            words = f"{self._name(measurement)}, iteration {self._iteration(measurement)}"
            if len(measurement.job.prompts.prompts) > 1:
                words += f", prompt {measurement.prompt.id}"
            words = f"warming up {self._name(measurement)}" if measurement.warmup else words
            self._lanes[event.lane] = (words, self._clock())
        elif isinstance(event, events.RunEnded):
            measurement, sample = event.measurement, event.sample
            complete = self._progress.add(measurement, sample)
            self._last_run = self._clock()
            label = f"{'🔹' if measurement.server.mode is Mode.VANILLA else '🔸'} {self._name(measurement)}"
            place = self._iteration(measurement)
            width = max(2, 1 + 2 * len(place.partition("/")[2]))  # the tenth is as wide as the ninth
            head = f"Iteration {place:<{width}}  {label:<{self._label_width}} ..."
            if sample.status is not Status.OK:
                return f"{head} {sample.status.value}: {sample.error or 'no reason given'}"
            if complete is not None and self._each_line:
                return f"{head} {complete.tokens_per_second:.2f} tok/s ({complete.total_ms:.0f}ms)"
        elif isinstance(event, events.GroupEnded):
            self._lanes.pop(event.lane, None)
        return None

    def _name(self, measurement: Measurement) -> str:
        names = self._names.vanilla if measurement.server.mode is Mode.VANILLA else self._names.labels
        return names[measurement.job.id]

    def _server_name(self, server: ServerConfig) -> str:
        """The label of the job that a server is for; where it serves several, what they have in common."""
        if not self._server_names:
            for job in self._progress.jobs:
                self._server_names.setdefault(vanilla_server(job).id, set()).add(self._names.vanilla[job.id])
                if own := speculative_server(job):
                    self._server_names.setdefault(own.id, set()).add(self._names.labels[job.id])
        found = self._server_names.get(server.id, set())
        return found.copy().pop() if len(found) == 1 else server.label

    def _iteration(self, measurement: Measurement) -> str:
        total = "" if self._searches else f"/{most_iterations(measurement.job)}"
        return f"{measurement.iteration}{total}"

    def _status(self, now: float) -> str:
        progress, elapsed = self._progress, now - self._started
        bad = f", {progress.bad} not usable" if progress.bad else ""
        if self._searches:
            return f"{plural(progress.done, 'run')}{bad}, {duration(elapsed)} elapsed"
        taken, expected = progress.done - self._done_before, progress.expected()
        if not taken:
            return f"{progress.done} of {expected} runs{bad}, {duration(elapsed)} elapsed"
        left = (self._last_run - self._started) / taken * (expected - progress.done) - (now - self._last_run)
        still = f"about {duration(max(left, 0))} left"
        return f"{progress.done} of {expected} runs{bad}, {duration(elapsed)} elapsed, {still}"

    def _search_lines(self) -> Iterator[str]:
        """How far each search has come: its phase, what is in the running, how much of its time is used."""
        for search in self._searches() if self._searches else ():
            budget = "" if search.budget_s is None else f" of {duration(search.budget_s)}"
            about = f"{search.category}: " if search.category else ""
            named = [self._names.labels.get(job_id, "vanilla") for job_id in search.candidates]
            names = "; ".join(first_few(named, 6))
            yield f"{about}{search.words}, {duration(search.spent_s)}{budget}; in the running: {names}"

    def _block_lines(self, now: float) -> Iterator[str]:
        """The live block: progress bar, what each lane does, the leading jobs."""
        progress = self._progress
        room = max(min(width_of(self._console) - 60, 40), 8)
        full = round(min(progress.done / max(progress.expected(), 1), 1.0) * room)
        bar = "" if self._searches else "━" * full + "┄" * (room - full) + " "
        yield f"{bar}{self._status(now)}"
        several = len(self._lanes) > 1
        for lane, (what, since) in sorted(self._lanes.items()):
            yield f"  {f'lane {lane}: ' if several else ''}{what}, {duration(now - since)}"
        yield from (f"  {line}" for line in self._search_lines())
        for job, speedup in progress.leaders():
            pairs, label = plural(len(progress.log_ratios[job.id]), "pair"), self._names.labels[job.id]
            yield f"  {label:<24} {number(speedup.ratio)}× {_half_width(speedup.interval, 1):<8} {pairs}"


def _half_width(interval: Interval | None, digits: int) -> str:
    """`±3.1 %`; above 100 % without a figure: two pairs can give ±164318.7 %."""
    if interval is None:
        return ""
    return "± over 100 %" if interval.half_width > 1 else f"±{100 * interval.half_width:.{digits}f} %"
