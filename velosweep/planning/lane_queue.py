"""Which block a lane takes next: longest first, by an estimate that learns, and near to what it has loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from velosweep.planning.server_groups import ServerGroup, count_measurements

# Before anything was measured: bytes of weights that one lane streams a second, and a server's fixed start.
_GUESS_BYTES_PER_S = 10e9
_GUESS_LOAD_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What a block was foretold to take before anything was measured, in seconds: all its loads, all its runs."""

    loading_s: float
    running_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """How many times as long as foretold loading and running have taken so far."""

    loading: float = 1.0
    running: float = 1.0

    def seconds(self, work: Work) -> float:
        """Today's estimate."""
        return work.loading_s * self.loading + work.running_s * self.running


@dataclass(kw_only=True)
class Estimator:
    """Seconds a block will take; learns from the samples and loads already seen.

    `model_bytes(path)` gives a file's size. One scale factor per kind of work (running, loading) is enough to
    order blocks: it is the ratio of what was seen to what the weights' size foretold.
    """

    model_bytes: Callable[[str], int]
    _run_seen_s: float = 0.0
    _run_foretold_s: float = 0.0
    _load_seen_s: float = 0.0
    _load_foretold_s: float = 0.0

    def learn_run(self, main_model: str, tokens: int, seconds: float) -> None:
        """A run of `tokens` on this model took `seconds`."""
        self._run_seen_s += seconds
        self._run_foretold_s += self._run_s(main_model, tokens)

    def learn_load(self, main_model: str, seconds: float) -> None:
        """Starting a server for this model took `seconds`."""
        self._load_seen_s += seconds
        self._load_foretold_s += self._load_s(main_model)

    def foretold(self, group: ServerGroup) -> Work:
        """A block's loads, over all launches, and its measurements; the same whatever was learnt."""
        first = group.jobs[0]
        main_model = first.model_pair.main_model
        return Work(
            loading_s=len(group.servers) * first.protocol.launches * self._load_s(main_model),
            running_s=count_measurements(group) * self._run_s(main_model, first.n_predict),
        )

    def rates(self) -> Rates:
        """What was learnt so far."""
        return Rates(
            loading=_ratio(self._load_seen_s, self._load_foretold_s),
            running=_ratio(self._run_seen_s, self._run_foretold_s),
        )

    def _run_s(self, main_model: str, tokens: int) -> float:
        return tokens * self.model_bytes(main_model) / _GUESS_BYTES_PER_S

    def _load_s(self, main_model: str) -> float:
        return _GUESS_LOAD_S + self.model_bytes(main_model) / _GUESS_BYTES_PER_S


def _ratio(seen: float, foretold: float) -> float:
    return seen / foretold if seen > 0 and foretold > 0 else 1.0


@dataclass(kw_only=True, slots=True)
class _Entry:
    """A block in the queues. It stands on several shelves: the one that takes it marks it for the others."""

    place: int  # in the grid; decides between equals
    group: ServerGroup
    work: Work
    servers: frozenset[str]
    taken: bool = False


class _Shelf:
    """Entries of which the longest can be had at any rates, without a look at all of them.

    Those of one loading time keep their order whatever is learnt. So each such stack is sorted once, and the
    longest of all is the top of one of them; there are no more stacks than models times numbers of arms.
    """

    def __init__(self) -> None:
        self._stacks: dict[float, list[_Entry]] = {}

    def put(self, entry: _Entry) -> None:
        """Entries come in the order of their running time, the shortest first."""
        self._stacks.setdefault(entry.work.loading_s, []).append(entry)

    def tops(self) -> Iterator[_Entry]:
        """The longest that is left of each stack."""
        for loading_s, stack in list(self._stacks.items()):
            while stack and stack[-1].taken:
                stack.pop()
            if stack:
                yield stack[-1]
            else:
                del self._stacks[loading_s]


@dataclass(kw_only=True)
class Queues:
    """What is left to do, shared by all lanes: none owns what it has not begun, so there is nothing to steal back.

    `foretold(block)` is asked once a block and `rates()` once a take. A take weighs a handful of blocks, however
    many are left. Not thread-safe by itself: running holds a lock around it.
    """

    lanes: int
    foretold: Callable[[ServerGroup], Work]
    rates: Callable[[], Rates]
    _in_order: Iterator[ServerGroup] = field(default_factory=lambda: iter(()))
    _all: _Shelf = field(default_factory=_Shelf)
    _by_arm: dict[str, _Shelf] = field(default_factory=dict)
    _loaded: dict[int, frozenset[str]] = field(default_factory=dict)
    _left: Work = field(default_factory=lambda: Work(loading_s=0.0, running_s=0.0))

    def fill(self, groups: Sequence[ServerGroup]) -> None:
        """Put the blocks of a sweep in."""
        if self.lanes == 1:
            self._in_order = iter(tuple(groups))
            return
        entries = [
            _Entry(
                place=place,
                group=group,
                work=self.foretold(group),
                servers=frozenset(server.id for server in group.servers),
            )
            for place, group in enumerate(groups)
        ]
        self._left = Work(
            loading_s=sum(entry.work.loading_s for entry in entries),
            running_s=sum(entry.work.running_s for entry in entries),
        )
        for entry in sorted(entries, key=lambda entry: (entry.work.running_s, -entry.place)):
            self._all.put(entry)
            for arm_id in entry.servers:
                self._by_arm.setdefault(arm_id, _Shelf()).put(entry)

    def take(self, lane: int) -> ServerGroup | None:
        """The lane's next block: the longest by today's estimate.

        While that is no more than half of what is left for each lane, it can wait: then a block goes first that
        needs servers which the lane has loaded. A single lane keeps the order of the grid, where neighbours share
        servers.
        """
        if self.lanes == 1:
            return next(self._in_order, None)
        entry = self._choice(lane)
        if entry is None:
            return None
        entry.taken = True
        self._loaded[lane] = entry.servers
        self._left = Work(
            loading_s=self._left.loading_s - entry.work.loading_s,
            running_s=self._left.running_s - entry.work.running_s,
        )
        return entry.group

    def _choice(self, lane: int) -> _Entry | None:
        rates = self.rates()
        longest = _longest(self._all.tops(), rates)
        if longest is None or rates.seconds(longest.work) > rates.seconds(self._left) / self.lanes / 2:
            return longest
        loaded = (self._by_arm[arm_id] for arm_id in self._loaded.get(lane, ()))
        return _longest((top for shelf in loaded for top in shelf.tops()), rates) or longest


def _longest(entries: Iterable[_Entry], rates: Rates) -> _Entry | None:
    longest, most_s = None, -1.0
    for entry in entries:
        seconds = rates.seconds(entry.work)
        if longest is None or seconds > most_s or (seconds == most_s and entry.place < longest.place):
            longest, most_s = entry, seconds
    return longest
