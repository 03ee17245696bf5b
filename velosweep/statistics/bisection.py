"""Which build of a list, from old to new, is the first that is slower: verdicts on builds, and the search by halves.

Each build is compared with the first one, with more rounds at each look until it can be told. At most `_ERROR` is the
chance that any verdict of a bisection is wrong: of both limits of an interval only one can mislead about a build, and
every look at every comparison has an equal share of that chance (Bonferroni). What that takes and how often it can't
tell is simulated in tests/benchmarks/bench_bisect.py.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from velosweep.statistics.intervals import Interval

LOOKS = (4, 8, 16, 32)
"""Rounds of both builds after which a build is judged, until it can be told."""

_ERROR = 0.05
_LEAST_SHARE = 0.05
_CLOSE = 1.0  # standard errors from the limit, within which twice as many rounds hardly ever tell


class BuildVerdict(Enum):
    """Whether a build is slower than the first by more than is allowed, as the screen has it."""

    SLOWER = "slower"
    NOT_SLOWER = "not slower"
    UNCLEAR = "these runs can't tell"
    FAILED = "could not be measured"


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What was seen of a build. `last`: no further look at it follows.

    `ratio`: to the first build (None: not measured), with an interval so wide that all verdicts hold together.
    `share`: by how much a build had to be slower.
    """

    build: str
    ratio: Interval | None
    share: float
    verdict: BuildVerdict
    last: bool


@dataclass(kw_only=True)
class Bisection:
    """A search for the first slower one of `builds`.

    `compare(build, rounds)`: the ratio of a build to the first after so many rounds; None where it could not be
    measured. `share`: what counts as slower; None: 5 % of the last build, and of those between half of what that one
    lost, but no more than it surely lost: which of them brought most of it is told sooner than each small difference.
    Of every look `on_look` is told; `looks` has the latest at each build.
    """

    builds: Sequence[str]
    compare: Callable[[str, int], Interval | None]
    share: float | None = None
    on_look: Callable[[Look], None] = lambda look: None
    looks: dict[str, Look] = field(default_factory=dict)

    @property
    def slower_by(self) -> float:
        """The share by which a build must be slower."""
        if self.share is not None:
            return self.share
        last = self.looks.get(self.builds[-1])
        if last and last.ratio and last.verdict is BuildVerdict.SLOWER and len(self.builds) > 2:
            surely = min((1 - last.ratio.ratio) / 2, 1 - last.ratio.high)
            return max(_LEAST_SHARE, math.floor(100 * surely) / 100)
        return _LEAST_SHARE

    def suspects(self) -> list[str]:
        """As `first_slower`."""
        return first_slower(self.builds, self._judge)

    def clear_share(self, suspects: Sequence[str]) -> float | None:
        """The share that would have to count as slower for the same runs to tell of all suspects, in whole per cent.

        One of them is unclear. None where that is more than what the slower ones surely lost.
        """
        seen = [(look, look.ratio) for look in self.looks.values() if look.ratio is not None]
        lows = [ratio.low for look, ratio in seen if look.build in suspects and look.verdict is BuildVerdict.UNCLEAR]
        highs = [ratio.high for look, ratio in seen if look.verdict is BuildVerdict.SLOWER]
        share = math.ceil(100 * (1 - min(lows)) + 0.5) / 100
        return share if share < 1 - max(highs, default=0.0) else None

    def _judge(self, build: str) -> BuildVerdict:
        verdict = BuildVerdict.UNCLEAR
        for rounds in LOOKS:
            ratio = self.compare(build, rounds)
            if ratio is not None and any(rounds < further <= ratio.n for further in LOOKS):
                continue  # an earlier bisection in the same folders had come further
            wide = None if ratio is None else ratio.at(self._confidence)
            verdict = BuildVerdict.FAILED if wide is None else self._verdict(wide)
            last = verdict is not BuildVerdict.UNCLEAR or rounds == LOOKS[-1] or self._is_close(wide, rounds)
            look = Look(build=build, ratio=wide, share=self.slower_by, verdict=verdict, last=last)
            self.looks[build] = look
            self.on_look(look)
            if last:
                break
        return verdict

    def _is_close(self, ratio: Interval | None, rounds: int) -> bool:
        """Whether a build is as near to the limit as these rounds can tell, before the last look."""
        if ratio is None or rounds != LOOKS[-2]:
            return False
        return abs(math.log(ratio.ratio / (1 - self.slower_by))) < _CLOSE * ratio.standard_error

    @property
    def _confidence(self) -> float:
        comparisons = 1 + math.ceil(math.log2(len(self.builds) - 1))  # as many builds are judged as halving takes
        return 1 - 2 * _ERROR / (len(LOOKS) * comparisons)

    def _verdict(self, ratio: Interval) -> BuildVerdict:
        limit = 1 - self.slower_by
        if ratio.high < limit:
            return BuildVerdict.SLOWER
        return BuildVerdict.NOT_SLOWER if ratio.low >= limit else BuildVerdict.UNCLEAR


def first_slower(builds: Sequence[str], judge: Callable[[str], BuildVerdict]) -> list[str]:
    """The builds among which is the first slower one (the last is surely slower); just one where all was clear.

    Empty where the last is not slower; all but the first where that can't be told. Each is judged against the first,
    the last one before all others, these by halves. After an unclear one only later ones are judged: runs
    that can't tell it can hardly tell those before it. One that failed is passed over.
    """
    last = judge(builds[-1])
    if last is not BuildVerdict.SLOWER:
        return [] if last is BuildVerdict.NOT_SLOWER else list(builds[1:])
    good, low, bad, failed = 0, 0, len(builds) - 1, set[int]()
    while left := [place for place in range(low + 1, bad) if place not in failed]:
        middle = left[len(left) // 2]
        verdict = judge(builds[middle])
        if verdict is BuildVerdict.FAILED:
            failed.add(middle)
        elif verdict is BuildVerdict.SLOWER:
            bad = middle
        else:
            low = middle
            good = middle if verdict is BuildVerdict.NOT_SLOWER else good
    return list(builds[good + 1 : bad + 1])
