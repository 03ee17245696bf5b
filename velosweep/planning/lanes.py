"""Which block a lane takes next: longest first, by an estimate that learns, and near to what it has loaded."""

from __future__ import annotations

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
    # by the identity of the block, which is kept with it: a block's hash is that of all its jobs
    _blocks: dict[int, tuple[Block, float, float]] = field(default_factory=dict)

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
        return self._foretold(block)[0] * _ratio(self._load_seen_s, self._load_foretold_s)

    def run_s(self, block: Block) -> float:
        """Time to take a block's measurements."""
        return self._foretold(block)[1] * _ratio(self._run_seen_s, self._run_foretold_s)

    def _foretold(self, block: Block) -> tuple[float, float]:
        """Seconds of a block's loads, over all launches, and of its measurements, before anything was learnt."""
        known = self._blocks.get(id(block))
        if known is None:
            first = block.jobs[0]
            loading = len(block.arms) * first.protocol.launches * self._load_s(first.model_pair.main_model)
            running = count_measurements(block) * self._run_s(first.model_pair.main_model, first.n_predict)
            known = self._blocks[id(block)] = (block, loading, running)
        return known[1], known[2]

    def _run_s(self, main_model: str, tokens: int) -> float:
        return tokens * self.model_bytes(main_model) / _GUESS_BYTES_PER_S

    def _load_s(self, main_model: str) -> float:
        return _GUESS_LOAD_S + self.model_bytes(main_model) / _GUESS_BYTES_PER_S


def _ratio(seen: float, foretold: float) -> float:
    return seen / foretold if seen > 0 and foretold > 0 else 1.0


@dataclass(kw_only=True)
class Queues:
    """What is left to do, shared by all lanes: none owns what it has not begun, so there is nothing to steal back.

    Not thread-safe by itself: running holds a lock around it.
    """

    lanes: int
    estimate: Callable[[Block], float]
    left: list[tuple[Block, frozenset[str]]] = field(default_factory=list)  # with the ids of their arms
    _loaded: dict[int, frozenset[str]] = field(default_factory=dict)

    def fill(self, blocks: Sequence[Block]) -> None:
        """Put the blocks of a sweep in."""
        self.left = [(block, frozenset(arm.id for arm in block.arms)) for block in blocks]

    def take(self, lane: int) -> Block | None:
        """The lane's next block: the longest by today's estimate.

        While that is no more than half of what is left for each lane, it can wait: then a block goes first that
        needs servers which the lane has loaded. A single lane keeps the order of the grid, where neighbours share
        servers.
        """
        if not self.left:
            return None
        block, self._loaded[lane] = self.left.pop(0 if self.lanes == 1 else self._choice(lane))
        return block

    def _choice(self, lane: int) -> int:
        seconds = [self.estimate(block) for block, _ in self.left]
        longest = max(range(len(seconds)), key=seconds.__getitem__)
        loaded = self._loaded.get(lane, frozenset())
        if seconds[longest] <= sum(seconds) / self.lanes / 2:
            near = [index for index, (_, arms) in enumerate(self.left) if not loaded.isdisjoint(arms)]
            if near:
                return max(near, key=seconds.__getitem__)
        return longest

    def remaining_s(self) -> float:
        """The least time that all lanes together need for the blocks that have not begun."""
        seconds = [self.estimate(block) for block, _ in self.left]
        return max(sum(seconds) / self.lanes, *seconds) if seconds else 0.0
