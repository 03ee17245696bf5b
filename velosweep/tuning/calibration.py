"""Calibration: predict the speed of every draft length from a few runs.

Speed is tau(n) / T(n). tau(n), tokens a round, is 1 + the sum of the survivals S_1 to S_n, where S_i is the share of
rounds that accept draft position i. T(n), the time of a round, is interpolated between the calibrated lengths. Where
the longest length costs far more than a line through the shorter ones predicts, a kernel boundary lies between
(llama.cpp's CUDA back end changes kernels above a batch of 8, n_draft 7); one more calibrated length, just below the
boundary, shows on which side of it a candidate is.
"""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest

from velosweep.config.settings import Job
from velosweep.tuning.first_look import CALIBRATION_LENGTHS, FirstLook, needs_calibration
from velosweep.tuning.search_values import DraftRounds, SearchRound

# Calibration is repeated until it has seen so many tokens, or so many times.
ENOUGH_TOKENS = 2048
MOST_CALIBRATIONS = 3

_BELOW_BOUNDARY = 7  # n_draft whose batch, 8, is the last before the boundary
_CLIFF_SHARE = 0.08


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Calibration rounds so far, of `jobs` and vanilla.

    Jobs of one family differ in n_draft alone and share a throughput model; `vanilla` is the id of not speculating.
    `budget_s`: of the search; where it has one, a first look at several families says which are calibrated.
    """

    vanilla: str
    jobs: tuple[Job, ...]
    rounds: Sequence[SearchRound]
    budget_s: float | None = None

    @cached_property
    def failed(self) -> frozenset[str]:
        """Candidates that failed in some round: they can't run here."""
        return frozenset(name for done in self.rounds for name in done.order if done.log_value(name) is None)

    @cached_property
    def excluded(self) -> frozenset[str]:
        """Candidates that failed, and families of which all failed that was asked: their draft is the trouble."""
        asked = {name for done in self.rounds for name in done.order}
        hopeless = []
        for family in self._families:
            tried = asked.intersection(job.id for job in family)
            hopeless += [job.id for job in family] if tried and tried <= self.failed else []
        return self.failed.union(hopeless)

    def candidates(self) -> list[str]:
        """What to run in the next round; nothing when the model is as good as it gets.

        A candidate that failed is replaced by its neighbour.
        """
        if self._first_look and self._first_look.lasts:
            return self._first_look.candidates()
        looks = self._first_look.taken if self._first_look else 0
        tokens = sum(seen.tokens for done in self.rounds for seen in done.observations.values())
        again = tokens < ENOUGH_TOKENS and len(self.rounds) - looks < MOST_CALIBRATIONS
        again |= len(self.rounds) == looks
        known = set() if again else {name for done in self.rounds for name in done.order}
        wanted, at_boundaries = [], []
        for family in self._families:
            able = {job.n_draft: job.id for job in family if job.id not in self.excluded | self.untried}
            wanted += [able[n] for n in calibration_lengths(list(able)) if able[n] not in known]
            below = boundary_length([job.n_draft for job in family], self._runs(family))
            at_boundaries += [able[below]] if below in able else []
        if not wanted:
            return at_boundaries
        return [name for name in (self.vanilla, *wanted) if name not in self.failed | known]

    @cached_property
    def untried(self) -> frozenset[str]:
        """Candidates of families that there was no time for."""
        if self._first_look is None:
            return frozenset()
        chosen = {job.id for family in self._first_look.chosen for job in family}
        return frozenset(job.id for job in self.jobs) - chosen - self.excluded

    @cached_property
    def _first_look(self) -> FirstLook | None:
        """None where there is nothing to choose or no hurry."""
        if self.budget_s is None or len(self._families) < 2 or not any(map(needs_calibration, self._families)):
            return None
        return FirstLook(vanilla=self.vanilla, families=self._families, rounds=self.rounds, budget_s=self.budget_s)

    @cached_property
    def predictions(self) -> Mapping[str, float]:
        """Tokens per second, without candidates that the model can't predict; vanilla's are measured."""
        result: dict[str, float] = {}
        for family in self._families:
            if family[0].id in self.untried:
                continue
            by_length = predict([job.n_draft for job in family], self._runs(family)) or {}
            result.update({job.id: by_length[job.n_draft] for job in family if by_length})
        values = [value for done in self.rounds if (value := done.log_value(self.vanilla)) is not None]
        if values and result:
            result[self.vanilla] = math.exp(sum(values) / len(values))
        return result

    @cached_property
    def _families(self) -> list[list[Job]]:
        families: defaultdict[object, list[Job]] = defaultdict(list)
        for job in self.jobs:
            families[job.model_pair.draft_model, job.speculation, job.engine].append(job)
        return [sorted(family, key=lambda job: job.n_draft) for family in families.values()]

    def _runs(self, family: Sequence[Job]) -> dict[int, DraftRounds]:
        """A family's runs by draft length."""
        runs: dict[int, DraftRounds] = {}
        for job in family:
            seen = [done.observations[job.id].draft_rounds for done in self.rounds if job.id in done.observations]
            if (pooled := pool([rounds for rounds in seen if rounds is not None])) is not None:
                runs[job.n_draft] = pooled
        return runs


def pool(runs: Sequence[DraftRounds]) -> DraftRounds | None:
    """All runs of one draft length together; None for no runs."""
    if not runs:
        return None
    accepted = [run.accepted_per_position for run in runs if run.accepted_per_position is not None]
    positions = tuple(map(sum, zip_longest(*accepted, fillvalue=0))) if len(accepted) == len(runs) else None
    total_ms = sum(run.total_ms for run in runs)
    return DraftRounds(count=sum(run.count for run in runs), total_ms=total_ms, accepted_per_position=positions)


def calibration_lengths(available: Sequence[int]) -> tuple[int, ...]:
    """The available lengths nearest to 1, 4 and 16; none where there are so few that calibrating would not pay."""
    lengths = sorted(set(available))
    if len(lengths) <= len(CALIBRATION_LENGTHS):
        return ()
    return tuple(sorted({min(lengths, key=lambda n: (abs(n - wanted), n)) for wanted in CALIBRATION_LENGTHS}))


def boundary_length(available: Sequence[int], runs: Mapping[int, DraftRounds]) -> int | None:
    """The length to calibrate just below a kernel boundary; None where the runs show no boundary, or it is done."""
    below = max((n for n in available if n <= _BELOW_BOUNDARY), default=None)
    return below if below not in runs and _has_cliff(runs) else None


def predict(available: Sequence[int], runs: Mapping[int, DraftRounds]) -> dict[int, float] | None:
    """Tokens per second by draft length, from calibration runs by draft length.

    None where acceptance by position is not known. Positions beyond the longest run get its last survival.
    """
    survival = _survival(runs)
    if not survival:
        return None
    predictions = {}
    for n in available:
        accepted = sum(survival[min(i, len(survival) - 1)] for i in range(n))
        predictions[n] = 1000 * (1 + accepted) / _round_ms(n, runs)
    return predictions


def _survival(runs: Mapping[int, DraftRounds]) -> list[float]:
    """S_i pooled over the runs that drafted at least i; empty where it is not known."""
    if any(not run.accepted_per_position for run in runs.values()):
        return []
    survival = []
    for i in range(max(runs, default=0)):
        reaching = [run for n, run in runs.items() if n > i]
        counts = [run.accepted_per_position or () for run in reaching]
        accepted = sum(count[i] for count in counts if i < len(count))
        survival.append(accepted / sum(run.count for run in reaching))
    return survival


def _has_cliff(runs: Mapping[int, DraftRounds]) -> bool:
    """Whether a round of the longest length takes much longer than a line through the two before it says."""
    if len(runs) < 3:
        return False
    a, b, c = sorted(runs)[-3:]
    expected = runs[b].mean_ms + _slope(runs, a, b) * (c - b)
    return runs[c].mean_ms > expected * (1 + _CLIFF_SHARE)


def _slope(runs: Mapping[int, DraftRounds], a: int, b: int) -> float:
    """Milliseconds that a round takes longer for each token drafted between lengths a and b; not below 0."""
    return max(0.0, (runs[b].mean_ms - runs[a].mean_ms) / (b - a))


def _round_ms(n: int, runs: Mapping[int, DraftRounds]) -> float:
    """The time of a round at length n: linear between calibrated lengths, with a step at the boundary if there is one.

    Beyond the calibrated lengths the outermost line goes on, but not below half of its lesser end.
    """
    lengths = sorted(runs)
    if len(lengths) == 1:
        return runs[lengths[0]].mean_ms
    *lower, longest = lengths
    if n > _BELOW_BOUNDARY and lower[-1] == _BELOW_BOUNDARY and _has_cliff(runs):
        before = runs[_BELOW_BOUNDARY].mean_ms
        return max(runs[longest].mean_ms - _slope(runs, lower[0], lower[-1]) * (longest - n), before)
    right = min(max(bisect_left(lengths, n), 1), len(lengths) - 1)
    a, b = lengths[right - 1], lengths[right]
    low, high = runs[a].mean_ms, runs[b].mean_ms
    return max(low + (high - low) * (n - a) / (b - a), 0.5 * min(low, high))
