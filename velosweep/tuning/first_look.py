"""A first look at several drafts where time is limited: which of them are worth calibrating.

Vanilla alone tells what a run takes; then the most promising drafts run once each, at one length; the fastest of them
are calibrated, as many as there is time for. The others are left out: none of them can be certified to be worse.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from velosweep.config.settings import Job
from velosweep.tuning.search_values import SearchPass

_LENGTH = 4
_LOOK_SHARE, _CALIBRATED_SHARE = 0.3, 0.6  # of the budget, that are spent when the look, and the calibration, is over
ROUNDS = 2

Family = Sequence[Job]


@dataclass(frozen=True, kw_only=True)
class FirstLook:
    """`families` of jobs that differ in n_draft alone, the most promising first; `rounds` of the search so far.

    `runs_of_a_family`: that its calibration takes.
    """

    vanilla: str
    families: Sequence[Family]
    rounds: Sequence[SearchPass]
    budget_s: float
    runs_of_a_family: int

    def candidates(self) -> list[str]:
        """What to run next; nothing when the look is over."""
        if not self.rounds:
            return [self.vanilla]
        return [self.vanilla, *map(_looked_at, self._affordable)] if len(self.rounds) == 1 else []

    @cached_property
    def _affordable(self) -> Sequence[Family]:
        """Families there is time to look at, by what vanilla took."""
        seconds = _mean_seconds(self.rounds[:1])
        return (
            self.families[: max(1, math.floor(_LOOK_SHARE * self.budget_s / seconds) - 1)] if seconds else self.families
        )

    @cached_property
    def chosen(self) -> Sequence[Family]:
        """Families to calibrate, by what they showed and by what their runs took."""
        if len(self.rounds) < ROUNDS:
            return ()
        seen = {id(family): self.rounds[1].log_value(_looked_at(family)) for family in self._affordable}
        able = [family for family in self._affordable if seen[id(family)] is not None]
        ranked = sorted(able, key=lambda family: -(seen[id(family)] or 0.0))
        each = self.runs_of_a_family * _mean_seconds(self.rounds[1:ROUNDS])
        left = _CALIBRATED_SHARE * self.budget_s - sum(map(_spent, self.rounds[:ROUNDS]))
        return ranked[: max(1, math.floor(left / each))] if each else ranked


def _looked_at(family: Family) -> str:
    return min(family, key=lambda job: (abs(job.n_draft - _LENGTH), job.n_draft)).id


def _spent(done: SearchPass) -> float:
    return sum(seen.seconds for seen in done.observations.values())


def _mean_seconds(rounds: Sequence[SearchPass]) -> float:
    seconds = [seen.seconds for done in rounds for seen in done.observations.values() if seen.seconds > 0]
    return fmean(seconds or [0.0])
