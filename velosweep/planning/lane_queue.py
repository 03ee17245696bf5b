"""Which server group a lane takes next: the longest, or one whose servers it has loaded."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from velosweep.llama_cpp.engine import ServerConfig
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


@dataclass(kw_only=True, slots=True)
class _Waiting:
    """A group in the queue. It is in several deques: the one that it is taken from marks it for the others."""

    group: ServerGroup
    seconds: float
    taken: bool = False


class LaneQueue:
    """The groups that no lane has begun, shared by all lanes. Safe to use from several threads."""

    def __init__(self, groups: Sequence[ServerGroup], *, lanes: int, model_bytes: Callable[[str], int]) -> None:
        """`model_bytes(path)`: the size of a model file."""
        self._lanes = lanes
        self._by_server: dict[str, deque[_Waiting]] = defaultdict(deque)
        self._loaded: dict[int, tuple[ServerConfig, ...]] = {}  # by lane
        self._lock = threading.Lock()
        waiting = [
            _Waiting(group=group, seconds=predicted_s(group, model_bytes(group.jobs[0].model_pair.main_model)))
            for group in groups
        ]
        self._left_s = sum(one.seconds for one in waiting)
        if lanes > 1:
            waiting.sort(key=lambda one: -one.seconds)
        self._left = deque(waiting)
        for one in waiting:
            for server in one.group.servers:
                self._by_server[server.id].append(one)

    def take(self, lane: int) -> ServerGroup | None:
        """The lane's next group, None when there is none left.

        A single lane keeps the order of the grid, where neighbours share servers. Several take the longest group
        first. While that is no more than half of a lane's share of what is left, it can wait: then a group goes
        first that needs servers which the lane has loaded.
        """
        with self._lock:
            taken = _first(self._left)
            if taken is None:
                return None
            if self._lanes > 1 and taken.seconds <= self._left_s / self._lanes / 2:
                near = [_first(self._by_server[server.id]) for server in self._loaded.get(lane, ())]
                taken = max((one for one in near if one), key=lambda one: one.seconds, default=taken)
            taken.taken = True
            self._left_s -= taken.seconds
            self._loaded[lane] = taken.group.servers
            return taken.group


def _first(queue: deque[_Waiting]) -> _Waiting | None:
    while queue and queue[0].taken:
        queue.popleft()
    return queue[0] if queue else None
