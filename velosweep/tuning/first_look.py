"""A first look at several drafts where time is limited: which of them are worth calibrating.

Vanilla alone tells what a run takes; then the most promising drafts run once each, at one length. Where none of them
can run, or drafts, the next ones are looked at. The fastest are calibrated, as many as there is time for. The others
are left out: none of them can be certified to be worse.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from velosweep.config.settings import Job
from velosweep.tuning.search_values import SearchRound

_LENGTH = 4
CALIBRATION_LENGTHS = (1, 4, 16)
_LOOK_SHARE, _CALIBRATED_SHARE = 0.3, 0.6  # of the budget, that are spent when the look, and the calibration, is over

Family = Sequence[Job]


@dataclass(frozen=True, kw_only=True)
class FirstLook:
    """`families` of jobs that differ in n_draft alone, the most promising first; `rounds` of the search so far."""

    vanilla: str
    families: Sequence[Family]
    rounds: Sequence[SearchRound]
    budget_s: float

    def candidates(self) -> list[str]:
        """What to run next; nothing when the look is over."""
        if not self.rounds:
            return [self.vanilla]
        beside = [self.vanilla] if len(self.rounds) == 1 else []  # where nothing ran, vanilla need not run again
        return [*beside, *map(_looked_at, self._unseen[: self._at_once])] if self.lasts else []

    @property
    def lasts(self) -> bool:
        """Whether there is more to look at, time to do so, and nothing yet to go on with."""
        in_time = sum(map(_spent, self.rounds[1:])) < _CALIBRATED_SHARE * self.budget_s
        return not self.rounds or (in_time and bool(self._unseen) and not self._usable_families)

    @property
    def taken(self) -> int:
        """How many of the rounds belong to the look."""
        return 1 + len(self._batches)

    @cached_property
    def _batches(self) -> list[Sequence[Family]]:
        """The families that were looked at, round by round, until one of them was able."""
        batches: list[Sequence[Family]] = []
        for done in self.rounds[1:]:
            batch = self.families[sum(map(len, batches)) :][: self._at_once]
            if not batch:
                break
            batches.append(batch)
            if any(done.log_value(_looked_at(family)) is not None for family in batch):
                break
        return batches

    @property
    def _unseen(self) -> Sequence[Family]:
        return self.families[sum(map(len, self._batches)) :]

    @property
    def _at_once(self) -> int:
        """Families there is time to look at, by what vanilla took."""
        seconds = _mean_seconds(self.rounds[:1])
        return max(1, math.floor(_LOOK_SHARE * self.budget_s / seconds) - 1) if seconds else len(self.families)

    @cached_property
    def _usable_families(self) -> list[Family]:
        """Those that could run and drafted, the fastest first: all of the last round."""
        if not self._batches:
            return []
        last = self.rounds[len(self._batches)]
        seen = [(last.log_value(_looked_at(family)), family) for family in self._batches[-1]]
        able = [(value, family) for value, family in seen if value is not None]
        return [family for _, family in sorted(able, key=lambda one: -one[0])]

    @cached_property
    def chosen(self) -> Sequence[Family]:
        """Families to go on with: what needs no calibration, and of the others the fastest that there is time for."""
        if self.lasts:
            return ()
        each = len(CALIBRATION_LENGTHS) * _mean_seconds(self.rounds[1 : self.taken])
        left = _CALIBRATED_SHARE * self.budget_s - sum(map(_spent, self.rounds[: self.taken]))
        calibrated = [family for family in self._usable_families if needs_calibration(family)]
        most = max(1, math.floor(left / each)) if each else len(calibrated)
        return [family for family in self._usable_families if family not in calibrated[most:]]


def needs_calibration(family: Family) -> bool:
    """Whether a family has so many lengths that calibrating some of them pays."""
    return len({job.n_draft for job in family}) > len(CALIBRATION_LENGTHS)


def _looked_at(family: Family) -> str:
    return min(family, key=lambda job: (abs(job.n_draft - _LENGTH), job.n_draft)).id


def _spent(done: SearchRound) -> float:
    return sum(seen.seconds for seen in done.observations.values())


def _mean_seconds(rounds: Sequence[SearchRound]) -> float:
    seconds = [seen.seconds for done in rounds for seen in done.observations.values() if seen.seconds > 0]
    return fmean(seconds or [0.0])
