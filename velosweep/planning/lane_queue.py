"""Which server group a lane takes next: the longest, or one whose servers it has loaded."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from velosweep.llama_cpp.engine import ServerConfig
from velosweep.planning.server_groups import ServerGroup, count_measurements
from velosweep.values import Lane

# Decoding reads every weight once a token, so that memory bandwidth bounds it. Usual figures, for a rough guess before
# anything has been measured, in which speculation gains nothing.
_CPU_BYTES_PER_S = 10e9
_GPU_BYTES_PER_S = 600e9
_LOAD_BYTES_PER_S = 1e9
_START_S = 1.0
_REQUEST_S = 0.05  # a request's prompt and round trip


def predicted_s(group: ServerGroup, main_model_bytes: int, *, on_gpu: bool) -> float:
    """Seconds that a group's loads and runs may take, by the size of its main model."""
    first = group.jobs[0]
    loads = len(group.servers) * first.protocol.launches
    run_s = first.n_predict * main_model_bytes / (_GPU_BYTES_PER_S if on_gpu else _CPU_BYTES_PER_S) + _REQUEST_S
    return loads * (main_model_bytes / _LOAD_BYTES_PER_S + _START_S) + count_measurements(group) * run_s


@dataclass(kw_only=True, slots=True)
class _Waiting:
    """A group in the queue. It is in several deques: the one that it is taken from marks it for the others."""

    group: ServerGroup
    seconds: float
    taken: bool = False


class LaneQueue:
    """The groups that no lane has begun, shared by all lanes. Safe to use from several threads."""

    def __init__(
        self, groups: Sequence[ServerGroup], *, lanes: Sequence[Lane], model_bytes: Callable[[str], int]
    ) -> None:
        """`model_bytes(path)`: the size of a model file."""
        self._lanes = len(lanes)
        self._by_server: dict[str, deque[_Waiting]] = defaultdict(deque)
        self._loaded: dict[int, tuple[ServerConfig, ...]] = {}  # by lane
        self._lock = threading.Lock()
        waiting = [
            _Waiting(
                group=group,
                seconds=predicted_s(
                    group, model_bytes(group.jobs[0].model_pair.main_model), on_gpu=not lanes[0].on_cpu
                ),
            )
            for group in groups
        ]
        self._left_s = sum(one.seconds for one in waiting)
        if self._lanes > 1:
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
