"""Which server group a lane takes next: the longest, or one whose servers it has loaded."""

import threading
from collections.abc import Callable, Iterator, Sequence

from velosweep.planning.measurements import count_measurements
from velosweep.planning.server_groups import ServerGroup
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
    a_run_s = run_s(main_model_bytes, first.n_predict, on_gpu=on_gpu)
    return loads * load_s(main_model_bytes) + count_measurements(group) * a_run_s


def run_s(main_model_bytes: int, tokens: int, *, on_gpu: bool) -> float:
    """Seconds that one run of so many tokens may take."""
    return tokens * main_model_bytes / (_GPU_BYTES_PER_S if on_gpu else _CPU_BYTES_PER_S) + _REQUEST_S


def load_s(main_model_bytes: int) -> float:
    """Seconds that starting a server may take."""
    return main_model_bytes / _LOAD_BYTES_PER_S + _START_S


class LaneQueue:
    """The groups that no lane has begun, shared by all lanes. Safe to use from several threads."""

    def __init__(
        self, groups: Sequence[ServerGroup], *, lanes: Sequence[Lane], model_bytes: Callable[[str], int]
    ) -> None:
        """`model_bytes(path)`: the size of a model file."""
        self._groups = groups
        self._lanes = len(lanes)
        self._loaded: dict[int, frozenset[str]] = {}  # servers by lane
        self._lock = threading.Lock()
        seconds = [
            predicted_s(group, model_bytes(group.jobs[0].model_pair.main_model), on_gpu=not lanes[0].on_cpu)
            for group in groups
        ]
        self._left_s = sum(seconds)
        places = range(len(groups))
        order = places if self._lanes == 1 else sorted(places, key=lambda place: -seconds[place])
        self._waiting = {place: seconds[place] for place in order}

    def take(self, lane: int) -> tuple[ServerGroup, ...]:
        """The lane's next group, with those that are measured in the same rounds; empty when there is none left.

        A single lane keeps the order of the grid, where neighbours share servers. Several take the longest group
        first. While that is no more than half of a lane's share of what is left, it can wait: then a group goes
        first that needs servers which the lane has loaded.
        """
        with self._lock:
            if not self._waiting:
                return ()
            taken = next(iter(self._waiting))
            loaded = self._loaded.get(lane)
            if loaded and self._lanes > 1 and self._waiting[taken] <= self._left_s / self._lanes / 2:
                near = (place for place in self._waiting if not loaded.isdisjoint(self._servers(place)))
                taken = next(near, taken)
            first = self._groups[taken]
            others = [place for place in self._waiting if place != taken] if first.family else []
            together = [taken, *(place for place in others if self._shares(place, first))]
            for place in together:
                self._left_s -= self._waiting.pop(place)
            self._loaded[lane] = frozenset(server for place in together for server in self._servers(place))
            return tuple(self._groups[place] for place in together)

    def _servers(self, place: int) -> Iterator[str]:
        return (server.id for server in self._groups[place].servers)

    def _shares(self, place: int, group: ServerGroup) -> bool:
        other = self._groups[place]
        return (other.family, other.number) == (group.family, group.number)
