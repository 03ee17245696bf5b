"""What a person sees while a sweep runs. Redraws happen on events only, at most twice a second: no thread of ours
competes with the cores under measurement."""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from velosweep.config.settings import Job, Sweep
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.measuring import events
from velosweep.measuring.events import Event, Observer
from velosweep.planning.identity import speculative_server, vanilla_server
from velosweep.planning.job_names import names_of_jobs
from velosweep.planning.server_groups import Measurement, most_iterations
from velosweep.reporting.console import NORMAL, QUIET, say, width_of
from velosweep.reporting.escaping import clip
from velosweep.reporting.wording import duration, failure_alike, number
from velosweep.statistics.intervals import Interval, Ratio, t_ratio
from velosweep.units import plural
from velosweep.values import Mode, Sample, Status

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live


REDRAW_S = 0.5
STATUS_LINE_S = 60.0  # without a terminal, where not every iteration has its line
MOST_ITERATION_LINES = 80
MOST_LEADERS = 5


@dataclass(slots=True)
class _Pass:
    """One server's runs over the prompt set in one iteration, added up."""

    runs: int = 0
    tokens: int = 0  # after the first of each run
    decoding_ms: float = 0.0
    total_ms: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        return 1000 * self.tokens / self.decoding_ms


@dataclass(slots=True)
class SweepProgress:
    """What has been measured so far."""

    sweep: Sweep
    done: int = 0
    bad: int = 0
    groups: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))  # begun, by baseline
    passes: dict[tuple[str, int, int, int], _Pass] = field(default_factory=lambda: defaultdict(_Pass))
    log_ratios: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # of complete pairs, by job
    ratios: dict[str, Ratio] = field(default_factory=dict)  # of all a job's pairs, where they were asked for
    of_baseline: dict[str, list[Job]] = field(init=False)

    def __post_init__(self) -> None:
        self.of_baseline = defaultdict(list)
        for job in self.sweep.jobs:
            self.of_baseline[job.baseline_id].append(job)

    def expected(self) -> int:
        """Measurements known to come, warm-ups apart; adaptive jobs count at their maximum."""
        total = 0
        for baseline_id, jobs in self.of_baseline.items():
            vanilla = 0 if jobs[0].skip_vanilla else max(len(self.groups[baseline_id]), 1)
            times = {job.id: most_iterations(job) * len(job.prompts.prompts) for job in jobs}
            total += vanilla * times[jobs[0].id] + sum(times[job.id] for job in jobs if job.speculation.kinds)
        return max(total, self.done)

    def add(self, measurement: Measurement, sample: Sample) -> _Pass | None:
        """Count a run; returns its pass if this run completes it. Each pair that this completes adds its log ratio."""
        if measurement.warmup:
            return None
        self.done += 1
        if sample.status is not Status.OK or not sample.predicted_ms or not sample.predicted_tokens:
            self.bad += 1
            return None
        own, job, place = self.passes[measurement.key[:4]], measurement.job, measurement.key[1:4]
        own.runs += 1
        own.tokens += sample.predicted_tokens - 1
        own.decoding_ms += sample.predicted_ms
        own.total_ms += sample.total_time_ms or 0.0
        if own.runs != len(job.prompts.prompts):
            return None
        for other in self.of_baseline[job.baseline_id] if measurement.server.mode is Mode.VANILLA else [job]:
            fast, base = self.passes.get((other.id, *place)), self.passes.get((other.baseline_id, *place))
            if fast and base and fast.runs == base.runs == len(other.prompts.prompts):
                self.log_ratios[other.id].append(math.log(fast.tokens_per_second / base.tokens_per_second))
                self.ratios.pop(other.id, None)
        return own

    def leaders(self, most: int = MOST_LEADERS) -> list[tuple[Job, Ratio]]:
        """The jobs with the highest speedups so far: geometric mean of the complete pairs, and its 95 % interval."""
        for job_id in self.log_ratios.keys() - self.ratios.keys():
            self.ratios[job_id] = t_ratio(self.log_ratios[job_id])
        found = [(job, self.ratios[job.id]) for job in self.sweep.jobs if job.id in self.ratios]
        return sorted(found, key=lambda entry: -(entry[1].ratio or 0.0))[:most]


class ProgressDisplay:
    """A context manager that gives an Observer for `measure`.

    A live display on a terminal, which is removed on leaving; plain lines elsewhere; only failures when quiet. The
    observer may be called from several lanes' threads.
    """

    def __init__(
        self,
        sweep: Sweep,
        *,
        console: Console,
        verbosity: int = NORMAL,
        done: int = 0,
        open_ended: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`done`: runs that an earlier start of this sweep took. `open_ended`: a search decides as it goes how many
        runs there are, so no totals are shown."""
        self._progress, self._done_before = SweepProgress(sweep, done=done), done
        self._console, self._verbosity, self._open_ended, self._clock = console, verbosity, open_ended, clock
        self._live: Live | None = None
        self._lock = threading.Lock()
        self._started = self._drawn = self._status_at = clock()
        self._lanes: dict[int, str] = {}  # what each is doing
        servers = len(sweep.jobs) + len({job.baseline_id for job in sweep.jobs if not job.skip_vanilla})
        lines = servers * max(map(most_iterations, sweep.jobs), default=0)
        self._each_line = verbosity > NORMAL or lines <= MOST_ITERATION_LINES
        self._names = names_of_jobs(sweep.jobs)
        self._label_width = 2 + max(map(len, (*self._names.labels.values(), *self._names.vanilla.values())), default=0)
        self._server_names: dict[str, set[str]] = {}
        self._failures: dict[str, str] = {}  # the first server that failed so, by what failures alike have in common

    def __enter__(self) -> Observer:
        if self._console.is_terminal and self._verbosity > QUIET:
            from rich.live import Live

            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self.observe

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            with suppress(OSError):  # a closed terminal needs no tidying, and must not cost the results
                self._live.stop()

    def observe(self, event: Event) -> None:
        """Take one event; never raises for what it shows."""
        with self._lock:
            line = self._take(event)
            if line and (self._verbosity > QUIET or isinstance(event, (events.ServerFailed, events.PromptLeftOut))):
                say(self._console, line, indent=2)
            now = self._clock()
            # The next run starts within a moment of the end of one. Drawn at the end, the block would name the
            # finished run for as long as the next one takes.
            if self._live is not None and not isinstance(event, events.RunEnded) and now - self._drawn >= REDRAW_S:
                from rich.text import Text

                self._drawn = now
                width = width_of(self._console) - 1
                self._live.update(Text("\n".join(clip(line, width) for line in self._block_lines(now))), refresh=True)
            no_status = self._live is not None or self._each_line or self._verbosity <= QUIET
            if not no_status and now - self._status_at >= STATUS_LINE_S:
                self._status_at = now
                leaders = [
                    f"; ahead: {self._names.labels[job.id]} {number(speedup.ratio)}× {_half_width(speedup.interval, 0)}"
                    for job, speedup in self._progress.leaders(1)
                ]
                say(self._console, f"{self._status(now)}{''.join(leaders)}".rstrip(), indent=2)

    def _take(self, event: Event) -> str | None:
        """Record the event; returns the line to print for it, if any."""
        if isinstance(event, events.ServerLoading):
            self._lanes[event.lane] = f"loading {self._server_name(event.server)}"
        elif isinstance(event, events.ServerReady):
            return (
                f"{self._server_name(event.server)} loaded in {event.load_s:.1f} s"
                if self._verbosity > NORMAL
                else None
            )
        elif isinstance(event, events.ServerFailed):
            name = self._server_name(event.server)
            first = self._failures.setdefault(failure_alike(event.error), name)
            return f"❌ {name} did not run: " + (event.error if first == name else f"as {first}")
        elif isinstance(event, events.PromptLeftOut):
            return f"❌ prompt {event.prompt.id} is left out: {event.error}"
        elif isinstance(event, events.RunStarted):
            measurement = event.measurement
            self._progress.groups[measurement.job.baseline_id].add(measurement.group)
            words = f"{self._name(measurement)}, iteration {self._iteration(measurement)}"
            if len(measurement.job.prompts.prompts) > 1:
                words += f", prompt {measurement.prompt.id}"
            self._lanes[event.lane] = f"warming up {self._name(measurement)}" if measurement.warmup else words
        elif isinstance(event, events.RunEnded):
            measurement, sample = event.measurement, event.sample
            complete = self._progress.add(measurement, sample)
            label = f"{'🔹' if measurement.server.mode is Mode.VANILLA else '🔸'} {self._name(measurement)}"
            head = f"Iteration {self._iteration(measurement)}  {label:<{self._label_width}} ..."
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
            for job in self._progress.sweep.jobs:
                self._server_names.setdefault(vanilla_server(job).id, set()).add(self._names.vanilla[job.id])
                if own := speculative_server(job):
                    self._server_names.setdefault(own.id, set()).add(self._names.labels[job.id])
        found = self._server_names.get(server.id, set())
        return found.copy().pop() if len(found) == 1 else server.label

    def _iteration(self, measurement: Measurement) -> str:
        total = "" if self._open_ended else f"/{most_iterations(measurement.job)}"
        return f"{measurement.iteration}{total}"

    def _status(self, now: float) -> str:
        progress, elapsed = self._progress, now - self._started
        bad = f", {progress.bad} not usable" if progress.bad else ""
        if self._open_ended:
            return f"{plural(progress.done, 'run')}{bad}, {duration(elapsed)} gone"
        taken, expected = progress.done - self._done_before, progress.expected()
        left = duration(elapsed / taken * (expected - progress.done)) if taken else "unknown"
        return f"{progress.done} of {expected} runs{bad}, {duration(elapsed)} gone, {left} left"

    def _block_lines(self, now: float) -> Iterator[str]:
        """The live block: progress bar, what each lane does, the leading jobs."""
        progress = self._progress
        room = max(min(width_of(self._console) - 60, 40), 8)
        full = round(min(progress.done / max(progress.expected(), 1), 1.0) * room)
        bar = "" if self._open_ended else "━" * full + "┄" * (room - full) + " "
        yield f"{bar}{self._status(now)}"
        for lane, what in sorted(self._lanes.items()):
            yield f"  lane {lane}: {what}"
        for job, speedup in progress.leaders():
            pairs, label = plural(len(progress.log_ratios[job.id]), "pair"), self._names.labels[job.id]
            yield f"  {label:<24} {number(speedup.ratio)}× {_half_width(speedup.interval, 1):<8} {pairs}"


def _half_width(interval: Interval | None, digits: int) -> str:
    """`±3.1 %`; above 100 % without a figure: two pairs can give ±164318.7 %."""
    if interval is None:
        return ""
    return "±>100 %" if interval.half_width > 1 else f"±{100 * interval.half_width:.{digits}f} %"
