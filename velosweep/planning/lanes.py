"""One serial queue a lane: longest first, balanced by an estimate that learns, with work stealing."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from velosweep.model import Block
from velosweep.planning.schedule import count_measurements

# Before anything was measured: bytes of weights that one lane streams a second, and a server's fixed start.
_GUESS_BYTES_PER_S = 10e9
_GUESS_LOAD_S = 1.0


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

    def block_s(self, block: Block) -> float:
        """Loads and measurements of a block, in seconds."""
        return self.load_s(block) + self.run_s(block)

    def load_s(self, block: Block) -> float:
        """Time to start a block's servers, over all its launches."""
        first = block.jobs[0]
        foretold = len(block.arms) * first.protocol.launches * self._load_s(first.model_pair.main_model)
        return foretold * _ratio(self._load_seen_s, self._load_foretold_s)

    def run_s(self, block: Block) -> float:
        """Time to take a block's measurements."""
        first = block.jobs[0]
        foretold = count_measurements(block) * self._run_s(first.model_pair.main_model, first.n_predict)
        return foretold * _ratio(self._run_seen_s, self._run_foretold_s)

    def _run_s(self, main_model: str, tokens: int) -> float:
        return tokens * self.model_bytes(main_model) / _GUESS_BYTES_PER_S

    def _load_s(self, main_model: str) -> float:
        return _GUESS_LOAD_S + self.model_bytes(main_model) / _GUESS_BYTES_PER_S


def _ratio(seen: float, foretold: float) -> float:
    return seen / foretold if seen > 0 and foretold > 0 else 1.0


@dataclass(kw_only=True)
class Queues:
    """The lanes' queues. Not thread-safe by itself: running holds a lock around it."""

    lanes: int
    estimate: Callable[[Block], float]
    queues: list[deque[Block]] = field(default_factory=list)

    def fill(self, blocks: Sequence[Block]) -> None:
        """Longest processing time first: each block goes to the queue that is shortest so far.

        A single lane keeps the order of the grid, where neighbours can share servers.
        """
        if self.lanes == 1:
            self.queues = [deque(blocks)]
            return
        self.queues = [deque() for _ in range(self.lanes)]
        heap = [(0.0, lane) for lane in range(self.lanes)]
        for block in sorted(blocks, key=self.estimate, reverse=True):
            length, lane = heapq.heappop(heap)
            self.queues[lane].append(block)
            heapq.heappush(heap, (length + self.estimate(block), lane))

    def take(self, lane: int) -> Block | None:
        """The lane's next block; an idle lane takes the last one of the longest queue.

        A steal pays whenever the victim still has to run what it holds: the thief would be idle otherwise,
        and the load is the same on either lane, so any block that has not begun may move.
        """
        if self.queues[lane]:
            return self.queues[lane].popleft()
        victim = max(range(self.lanes), key=lambda other: self._length(other))
        return self.queues[victim].pop() if self.queues[victim] else None

    def remaining_s(self) -> float:
        """Longest queue, in seconds of its blocks that have not begun."""
        return max((self._length(lane) for lane in range(self.lanes)), default=0.0)

    def _length(self, lane: int) -> float:
        return sum(self.estimate(block) for block in self.queues[lane])
