"""What a lane is given to work with: everything that touches disk, screen, memory or clocks comes from outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from velosweep.config.settings import Adaptive
from velosweep.config.settings import Protocol as RunProtocol
from velosweep.llama_cpp.engine import Engine, ServerConfig, Session
from velosweep.machine.conditions import Conditions
from velosweep.measuring.events import Observer
from velosweep.measuring.interrupts import StopFlag
from velosweep.measuring.sample_rows import SampleMaker
from velosweep.planning.server_groups import Measurement, Round, ServerGroup
from velosweep.values import Lane, Sample

Key = tuple[str, int, int, int, str]
"""A `Measurement.key`: owner, block, launch, iteration, prompt id."""


class Monitor(Protocol):
    """Reads the machine around a run."""

    def begin(self) -> None:
        """A run is about to start."""

    def end(self) -> Conditions:
        """It ended."""


@dataclass(frozen=True, slots=True)
class CompletedRun:
    """What is remembered of a good sample: a sweep keeps tens of thousands of these, and the journal all the rest."""

    predicted_tokens: int
    predicted_ms: float
    total_ms: float

    @classmethod
    def of(cls, sample: Sample) -> CompletedRun:
        """The sample's figures."""
        return cls(sample.predicted_tokens or 0, sample.predicted_ms or 0.0, sample.total_time_ms or 0.0)

    @property
    def tokens_per_second(self) -> float:
        """Decoding speed, as `Sample.tokens_per_second`; 0 where no time was told."""
        return (self.predicted_tokens - 1) / self.predicted_ms * 1000 if self.predicted_ms else 0.0


@dataclass(frozen=True, kw_only=True)
class LaneContext:
    """What a lane is given.

    `done`: the good measurements so far, of all lanes and of earlier runs of this sweep.
    `require_room(arm, resident, loading)` raises LaunchFailed where memory is too short for one more beside those
    that are loaded and those that are about to be.
    `check_files(arm, loaded)` says what is wrong with the arm's model files, or None.
    `converged(vanilla, speculative, adaptive)` is the stopping rule. `rest(protocol, baseline, latest)` sleeps
    where the vanilla arm's tokens per second have fallen too far from its first, and returns the seconds.
    `loading()` is called when servers were started and are only waited for. `settle()` is called after loads and
    warm-ups, before runs that count: it returns when nothing of ours works.
    `guide_of(block)` gives what decides round by round what is measured, None for the plan's own rounds.
    """

    engine_of: Callable[[ServerConfig], Engine]
    lane: Lane
    maker: SampleMaker
    record: Callable[[Measurement, Sample], None]
    observe: Observer
    stop: StopFlag
    monitor: Monitor
    log_path: Callable[[ServerConfig], Path]
    done: dict[Key, CompletedRun]
    converged: Callable[[Sequence[float], Sequence[float], Adaptive], bool]
    pids: set[int] = field(default_factory=set)  # of all lanes' servers: their work is not somebody else's
    require_room: Callable[[ServerConfig, Sequence[ServerConfig], Sequence[ServerConfig]], None] = (
        lambda server, resident, loading: None
    )
    check_files: Callable[[ServerConfig, bool], str | None] = lambda server, loaded: None
    memory: Callable[[Session], int | None] = lambda session: session.memory_bytes()  # on a GPU: what it holds there
    on_memory: Callable[[ServerConfig, int], None] = lambda server, memory: None
    rest: Callable[[RunProtocol, float, float], float] = lambda protocol, baseline, latest: 0.0
    loading: Callable[[], None] = lambda: None
    settle: Callable[[], None] = lambda: None
    guide_of: Callable[[ServerGroup], Callable[[], Round | None] | None] = lambda group: None
