"""A first look at several drafts where time is limited: which of them are worth calibrating.

Vanilla alone tells what a run takes; then the most promising drafts run once each, at one length. Where none of them
can run, or drafts, the next ones are looked at. The fastest are calibrated, as many as there is time for. The others
are left out: none of them can be certified to be worse.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from velosweep.config.settings import Job
from velosweep.tuning.search_values import SearchRound, mean_seconds, spent_s

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
        in_time = spent_s(self.rounds[1:]) < _CALIBRATED_SHARE * self.budget_s
        return not self.rounds or (in_time and bool(self._unseen) and not self._usable_families)

    @property
    def taken(self) -> int:
        """How many of the rounds belong to the look."""
        return 1 + max((number for number, _ in self._seen), default=0)

    @cached_property
    def _seen(self) -> list[tuple[int, Family]]:
        """The families that were looked at, each with the place in `rounds` where it first was."""
        asked = [(number, set(done.order)) for number, done in enumerate(self.rounds)]
        firsts = ((next((n for n, names in asked if _looked_at(own) in names), None), own) for own in self.families)
        return [(number, family) for number, family in firsts if number is not None]

    @property
    def _unseen(self) -> Sequence[Family]:
        return self.families[len(self._seen) :]

    @property
    def _at_once(self) -> int:
        """Families there is time to look at, by what vanilla took."""
        seconds = mean_seconds(self.rounds[:1])
        return max(1, math.floor(_LOOK_SHARE * self.budget_s / seconds) - 1) if seconds else len(self.families)

    @cached_property
    def _usable_families(self) -> list[Family]:
        """Those that could run and drafted, the fastest first."""
        values = [(self.rounds[number].log_value(_looked_at(family)), family) for number, family in self._seen]
        able = [(value, family) for value, family in values if value is not None]
        return [family for _, family in sorted(able, key=lambda one: -one[0])]

    @cached_property
    def chosen(self) -> Sequence[Family]:
        """Families to go on with: what needs no calibration, and of the others the fastest that there is time for."""
        if self.lasts:
            return ()
        each = len(CALIBRATION_LENGTHS) * mean_seconds(self.rounds[1 : self.taken])
        left = _CALIBRATED_SHARE * self.budget_s - spent_s(self.rounds[: self.taken])
        calibrated = [family for family in self._usable_families if needs_calibration(family)]
        most = max(1, math.floor(left / each)) if each else len(calibrated)
        return [family for family in self._usable_families if family not in calibrated[most:]]


def needs_calibration(family: Family) -> bool:
    """Whether a family has so many lengths that calibrating some of them pays."""
    return len({job.n_draft for job in family}) > len(CALIBRATION_LENGTHS)


def _looked_at(family: Family) -> str:
    return min(family, key=lambda job: (abs(job.n_draft - _LENGTH), job.n_draft)).id
