"""What happens while a sweep runs, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from velosweep.config.settings import Job
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.planning.server_groups import Measurement, ServerGroup
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


Event = ServerLoading | ServerReady | ServerFailed | RunStarted | RunEnded | GroupEnded


Observer = Callable[[Event], None]
