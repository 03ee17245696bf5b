"""Which server group a lane takes next: the longest, or one whose servers it has loaded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from velosweep.planning.server_groups import ServerGroup, count_measurements

# Guesses, which only decide the order: a server's fixed start, and how fast weights are loaded, and read for a token
# (between what the memory of a CPU and of a GPU can do).
_START_S = 1.0
_LOADED_BYTES_PER_S = 2e9
_READ_BYTES_PER_S = 200e9


def predicted_s(group: ServerGroup, main_model_bytes: int) -> float:
    """Seconds that a group's loads and runs may take, by the size of its main model."""
    first = group.jobs[0]
    loads = len(group.servers) * first.protocol.launches
    tokens = count_measurements(group) * first.n_predict
    return loads * (_START_S + main_model_bytes / _LOADED_BYTES_PER_S) + tokens * main_model_bytes / _READ_BYTES_PER_S


@dataclass(frozen=True, kw_only=True, slots=True)
class _Waiting:
    """A group that no lane has begun."""

    group: ServerGroup
    seconds: float
    servers: frozenset[str]


class LaneQueue:
    """The groups that no lane has begun, shared by all lanes. Safe to use from several threads."""

    def __init__(self, groups: Sequence[ServerGroup], *, lanes: int, model_bytes: Callable[[str], int]) -> None:
        """`model_bytes(path)`: the size of a model file. A single lane keeps the order of the groups."""
        self._lanes = lanes
        self._left = [
            _Waiting(
                group=group,
                seconds=predicted_s(group, model_bytes(group.jobs[0].model_pair.main_model)),
                servers=frozenset(server.id for server in group.servers),
            )
            for group in groups
        ]
        if lanes > 1:
            self._left.sort(key=lambda waiting: -waiting.seconds)
        self._left_s = sum(waiting.seconds for waiting in self._left)
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
            taken = self._left.pop(self._choice(lane))
            self._left_s -= taken.seconds
            self._loaded[lane] = taken.servers
            return taken.group

    def _choice(self, lane: int) -> int:
        if self._lanes == 1 or self._left[0].seconds > self._left_s / self._lanes / 2:
            return 0
        loaded = self._loaded.get(lane, frozenset())
        return next((index for index, waiting in enumerate(self._left) if loaded & waiting.servers), 0)
