"""Which server group a lane takes next: the longest by an estimate that learns, or one whose servers are loaded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from velosweep.planning.server_groups import ServerGroup, count_measurements

# Before anything was measured: bytes of weights that one lane streams a second, and a server's fixed start.
_GUESS_BYTES_PER_S = 10e9
_GUESS_LOAD_S = 1.0


@dataclass(kw_only=True, slots=True)
class _Rate:
    """How many times as long as predicted one kind of work has taken so far."""

    seen_s: float = 0.0
    predicted_s: float = 0.0

    def learn(self, *, seen_s: float, predicted_s: float) -> None:
        self.seen_s += seen_s
        self.predicted_s += predicted_s

    @property
    def ratio(self) -> float:
        return self.seen_s / self.predicted_s if self.seen_s > 0 and self.predicted_s > 0 else 1.0


@dataclass(kw_only=True)
class Estimator:
    """Seconds a group will take; learns from the runs and loads seen so far.

    `model_bytes(path)` gives a file's size. One factor for loading and one for running are enough to order groups:
    what was seen over what the size of the weights predicted.
    """

    model_bytes: Callable[[str], int]
    _running: _Rate = field(default_factory=_Rate)
    _loading: _Rate = field(default_factory=_Rate)

    def learn_run(self, main_model: str, tokens: int, seconds: float) -> None:
        """A run of `tokens` on this model took `seconds`."""
        self._running.learn(seen_s=seconds, predicted_s=self._run_s(main_model, tokens))

    def learn_load(self, main_model: str, seconds: float) -> None:
        """Starting a server for this model took `seconds`."""
        self._loading.learn(seen_s=seconds, predicted_s=self._load_s(main_model))

    def predict(self, group: ServerGroup) -> tuple[float, float]:
        """Seconds of a group's loads over all launches, and of its runs, by the size of the weights alone."""
        first = group.jobs[0]
        main_model = first.model_pair.main_model
        return (
            len(group.servers) * first.protocol.launches * self._load_s(main_model),
            count_measurements(group) * self._run_s(main_model, first.n_predict),
        )

    def seconds(self, predicted: tuple[float, float]) -> float:
        """A prediction corrected by what was seen."""
        loading_s, running_s = predicted
        return loading_s * self._loading.ratio + running_s * self._running.ratio

    def _run_s(self, main_model: str, tokens: int) -> float:
        return tokens * self.model_bytes(main_model) / _GUESS_BYTES_PER_S

    def _load_s(self, main_model: str) -> float:
        return _GUESS_LOAD_S + self.model_bytes(main_model) / _GUESS_BYTES_PER_S


@dataclass(frozen=True, kw_only=True, slots=True)
class _Waiting:
    """A group that no lane has begun."""

    group: ServerGroup
    predicted: tuple[float, float]
    servers: frozenset[str]


class LaneQueue:
    """The groups that no lane has begun, shared by all lanes. Safe to use from several threads.

    A take weighs every group that is left, which takes a millisecond for some thousands of them.
    """

    def __init__(self, groups: Sequence[ServerGroup], *, lanes: int, estimator: Estimator) -> None:
        self._lanes = lanes
        self._estimator = estimator
        self._left = [
            _Waiting(
                group=group,
                predicted=estimator.predict(group),
                servers=frozenset(server.id for server in group.servers),
            )
            for group in groups
        ]
        self._loaded: dict[int, frozenset[str]] = {}
        self._lock = threading.Lock()

    def take(self, lane: int) -> ServerGroup | None:
        """The lane's next group, None when there is none left.

        A single lane keeps the order of the grid, where neighbours share servers. Several take the longest group
        first. While that is no more than half of a lane's share of what is left, it can wait: then a group goes
        first that needs servers which the lane has loaded.
        """
        with self._lock:
            if not self._left:
                return None
            taken = self._left.pop(0 if self._lanes == 1 else self._choice(lane))
            self._loaded[lane] = taken.servers
            return taken.group

    def _choice(self, lane: int) -> int:
        seconds = [self._estimator.seconds(waiting.predicted) for waiting in self._left]
        longest = max(range(len(seconds)), key=seconds.__getitem__)
        if seconds[longest] > sum(seconds) / self._lanes / 2:
            return longest
        loaded = self._loaded.get(lane, frozenset())
        near = (index for index, waiting in enumerate(self._left) if loaded & waiting.servers)
        return max(near, key=seconds.__getitem__, default=longest)
