"""What happens while a sweep runs: samples go to the journal, events to the screen."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from velosweep.config.settings import Job, Prompt
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.measuring.resuming import CompletedRun
from velosweep.planning.measurements import Measurement, RunKey
from velosweep.planning.server_groups import ServerGroup
from velosweep.results.journal import Journal
from velosweep.values import Sample


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerLoading:
    """A server is being started."""

    lane: int
    server: ServerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerReady:
    """A server answers. `memory_bytes` is what it was seen to hold."""

    lane: int
    server: ServerConfig
    load_s: float
    memory_bytes: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerFailed:
    """A server did not come up, or was given up after failures; its jobs are recorded as failed."""

    lane: int
    server: ServerConfig
    jobs: tuple[Job, ...]
    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptLeftOut:
    """A prompt that can't be measured; the other prompts of these jobs go on."""

    lane: int
    prompt: Prompt
    jobs: tuple[Job, ...]
    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStarted:
    """A lane sends a request."""

    lane: int
    measurement: Measurement


@dataclass(frozen=True, kw_only=True, slots=True)
class RunEnded:
    """A sample was taken and is on disk."""

    lane: int
    measurement: Measurement
    sample: Sample


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupEnded:
    """All runs of a group are taken, or given up."""

    lane: int
    group: ServerGroup


Event = ServerLoading | ServerReady | ServerFailed | PromptLeftOut | RunStarted | RunEnded | GroupEnded
Observer = Callable[[Event], None]


class Recorder:
    """One for all lanes of a sweep. Safe to use from several threads.

    `done`: the good runs so far by `Measurement.key`, those of earlier runs of this sweep among them.
    `runs`: how many samples were taken, failed ones too. `errors`: why jobs failed, by job id; `incomplete`: what is
    left out of jobs that go on. `ended`: ids of the jobs of which nothing is left to do. `display_error`: what silenced
    the screen.
    """

    def __init__(self, *, journal: Journal, observe: Observer, done: dict[RunKey, CompletedRun]) -> None:
        self.journal = journal
        self.done = done
        self.runs = 0
        self.errors: dict[str, str] = {}
        self.incomplete: dict[str, str] = {}
        self.ended: set[str] = set()
        self.display_error: str | None = None
        self._observe = observe
        self._slowest_s: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()
        for key, run in done.items():
            self._learn_time(key, run)

    def sample(self, measurement: Measurement, sample: Sample) -> None:
        """Keep a run. Raises StorageError."""
        self.journal.append(sample)
        with self._lock:
            self.runs += 1
            if sample.is_counted:
                run = self.done[measurement.key] = CompletedRun.of(sample)
                self._learn_time(measurement.key, run)

    def slowest_s(self, measurement: Measurement) -> float | None:
        """Seconds of the slowest good run of this server (by its owner) and prompt; None where there was none."""
        return self._slowest_s.get((measurement.owner, measurement.prompt.id))

    def _learn_time(self, key: RunKey, run: CompletedRun) -> None:
        kind = (key[0], key[-1])
        self._slowest_s[kind] = max(run.total_ms / 1000, self._slowest_s.get(kind, 0.0))

    def event(self, event: Event) -> None:
        """Pass an event on, one at a time. A screen that fails is not shown anything more. Raises StorageError."""
        with self._lock:
            if isinstance(event, ServerFailed):
                for job in event.jobs:
                    self.errors.setdefault(job.id, event.error)
                    self.journal.note("job", job_id=job.id, state="failed", error=event.error)
            elif isinstance(event, PromptLeftOut):
                error = f"prompt {event.prompt.id} is left out: {event.error}"
                for job in event.jobs:
                    self.incomplete.setdefault(job.id, error)
                self.journal.note("prompt", prompt_id=event.prompt.id, error=event.error)
            elif isinstance(event, ServerReady):
                arm, load_s, memory_bytes = event.server.id, event.load_s, event.memory_bytes
                self.journal.note("launch", arm=arm, load_s=load_s, memory_bytes=memory_bytes)
            elif isinstance(event, GroupEnded):
                self.ended.update(job.id for job in event.group.jobs)
            if self.display_error is None:
                try:
                    self._observe(event)
                except Exception as error:  # noqa: BLE001 - a terminal that is gone must not end a night's measuring
                    self.display_error = f"{type(error).__name__}: {error}"
                    self.journal.note("display", error=self.display_error)
