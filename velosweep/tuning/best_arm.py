"""Find the fastest candidate within a tolerance, certified, for a fraction of a grid's measurements.

    calibrate -> shortlist by the model -> race with paired elimination -> confirm against vanilla -> done

A `BestArmSearch` is a value: candidates, settings and the history of rounds. Everything else is derived from these,
so that a journalled history replays to the same decisions and an interrupted race resumes. The caller asks
`next_round()`, measures what it names in the order it names it, and goes on with `race.after(results)`:

    race = Race(candidates=..., settings=...)
    while (plan := race.next_round()) is not None:
        race = race.after(RoundResult(plan=plan, values=measure(plan)))
    answer = race.answer()

Values are natural logs of "more is better" figures (tokens per second; minus the log of a time or an energy).
Candidates of one `family` differ in n_draft only and share the model; families have no order among them. The candidate
with n_draft 0 (vanilla) always takes part: "don't speculate" can win.

Statistics: rounds measure every survivor once in random order. From round `first_cut` on: s^2 is the residual variance
of log value = candidate + round, hw = t_{1-.05/(K0-1), df} * sqrt(2 s^2 / r); a candidate with mean + hw below the
best's mean is dropped; the race ends when no other's mean + hw exceeds the best's by more than the tolerance. After
`max_rounds` the answer is not certified. Ties are all that were not shown to be worse by more than the tolerance.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from velosweep.errors import ConfigError
from velosweep.statistics.intervals import PAIRED_ONE_LAUNCH, Interval, t_interval
from velosweep.tuning.best_arm_statistics import Standing, full_grid, standings
from velosweep.tuning.best_arm_values import (
    Answer,
    Candidate,
    Decision,
    Observation,
    Phase,
    Round,
    RoundResult,
    Settings,
    failed,
    raced,
    runs_a_load,
)
from velosweep.tuning.throughput_model import (
    Calibration,
    calibration_lengths,
    further_length,
    gathered,
    predict,
)

__all__ = [
    "Answer",
    "BestArmSearch",
    "Candidate",
    "Decision",
    "Observation",
    "Phase",
    "Round",
    "RoundResult",
    "Settings",
]

_FEWEST_PAIRS = 2
"""A confirmed speedup has an interval, whatever the budget."""


@dataclass(frozen=True, kw_only=True)
class BestArmSearch:
    """Candidates, settings and what was measured; see the module. Raises ConfigError for unfit candidates."""

    candidates: tuple[Candidate, ...]
    settings: Settings = field(default_factory=Settings)
    history: tuple[RoundResult, ...] = ()

    def __post_init__(self) -> None:
        ids = [candidate.id for candidate in self.candidates]
        if len(set(ids)) < len(ids):
            raise ConfigError("Two candidates of a race have the same id", remedy="give each cell of the grid its own")
        if sum(candidate.n_draft == 0 for candidate in self.candidates) != 1:
            raise ConfigError("A race needs exactly one candidate that doesn't speculate", remedy="add n_draft 0 once")

    @property
    def vanilla(self) -> str:
        """The candidate that doesn't speculate."""
        return next(candidate.id for candidate in self.candidates if candidate.n_draft == 0)

    def after(self, result: RoundResult) -> BestArmSearch:
        """The race with one more round."""
        return replace(self, history=(*self.history, result))

    # ------------------------------------------------------------ what comes next

    def next_round(self) -> Round | None:
        """What to measure now; None when the race is over."""
        calibrating = self._calibration_round()
        if calibrating is not None and not self._out_of_budget(calibrating):
            return calibrating
        racing = self._racing_round()
        if racing is not None and not self._out_of_budget(racing):
            return racing
        return self._confirming_round()

    def _calibration_round(self) -> Round | None:
        if not self.settings.use_model or self._rounds(Phase.RACE) or self._rounds(Phase.CONFIRM):
            return None
        done = self._rounds(Phase.CALIBRATE)
        tokens = sum(o.tokens for result in done for o in result.values.values())
        too_little = tokens < self.settings.calibration_tokens and len(done) < self.settings.calibration_rounds
        wanted = self._calibration_set(again=too_little) or self._further_calibration()
        return self._round(Phase.CALIBRATE, len(done) + 1, wanted) if wanted else None

    def _calibration_set(self, *, again: bool) -> list[str]:
        """Vanilla and the calibrated lengths of each family worth it, without failed and (unless `again`) known ones.

        A length that fails gives way to its neighbour.
        """
        failed = self._failed
        known = {name for result in self._rounds(Phase.CALIBRATE) for name in result.plan.order}
        wanted = []
        for family in self._families:
            able = {candidate.n_draft: candidate.id for candidate in family if candidate.id not in failed}
            wanted += [able[n] for n in calibration_lengths(list(able)) if again or able[n] not in known]
        vanilla = [self.vanilla] if again or self.vanilla not in known else []
        return [*(name for name in vanilla if name not in failed), *wanted] if wanted else []

    def _further_calibration(self) -> list[str]:
        wanted = []
        for family in self._families:
            lengths = {candidate.n_draft: candidate.id for candidate in family}
            runs = self._calibrations(family)
            n = further_length(list(lengths), runs)
            if n is not None and lengths[n] not in self._failed:
                wanted.append(lengths[n])
        return wanted

    def _racing_round(self) -> Round | None:
        done = self._rounds(Phase.RACE)
        if self._decided or len(done) >= self.settings.max_rounds or self._rounds(Phase.CONFIRM):
            return None
        return self._round(Phase.RACE, len(done) + 1, list(self._survivors))

    def _confirming_round(self) -> Round | None:
        """One ABBA pair of the winner and vanilla a round."""
        done = len(self._rounds(Phase.CONFIRM))
        winner = self._leader
        if winner in (None, self.vanilla) or done >= self.settings.confirm_pairs:
            return None
        budget = self.settings.budget_s
        if budget is not None and done >= _FEWEST_PAIRS and self.seconds + 2 * self._typical_s > budget:
            return None
        pair = (self.vanilla, str(winner)) if done % 2 == 0 else (str(winner), self.vanilla)
        return Round(phase=Phase.CONFIRM, number=done + 1, order=pair)

    def _round(self, phase: Phase, number: int, ids: Sequence[str]) -> Round:
        order = sorted(ids)
        random.Random(f"{self.settings.seed} {phase.value} {number}").shuffle(order)  # noqa: S311 (no secret)
        chosen = [candidate for candidate in self.candidates if candidate.id in set(ids)]
        repeats = runs_a_load(chosen, most=self.settings.max_repeats)
        return Round(phase=phase, number=number, order=tuple(order), repeats=repeats)

    def _out_of_budget(self, plan: Round) -> bool:
        """Whether this round would leave too little of the budget to confirm a winner."""
        budget = self.settings.budget_s
        if budget is None or not self.history:
            return False
        cost = {candidate.id: candidate.load_s + candidate.run_s * plan.repeats for candidate in self.candidates}
        for result in self.history:
            cost.update({name: seen.seconds for name, seen in result.values.items() if seen.seconds > 0})
        confirming = 2 * self.settings.confirm_pairs * self._typical_s
        return self.seconds + sum(cost[name] for name in plan.order) + min(confirming, 0.3 * budget) > budget

    @property
    def _typical_s(self) -> float:
        """Seconds of one measurement, on the average so far."""
        seen = [o.seconds / r.plan.repeats for r in self.history for o in r.values.values() if o.seconds > 0]
        return sum(seen) / len(seen) if seen else 0.0

    # ------------------------------------------------------------ what is known

    @property
    def seconds(self) -> float:
        """Time spent measuring and loading."""
        return sum(seen.seconds for result in self.history for seen in result.values.values())

    def _rounds(self, phase: Phase) -> list[RoundResult]:
        return [result for result in self.history if result.plan.phase is phase]

    @cached_property
    def _families(self) -> list[list[Candidate]]:
        families: dict[str, list[Candidate]] = {}
        for candidate in self.candidates:
            if candidate.n_draft > 0:
                families.setdefault(candidate.family, []).append(candidate)
        return [sorted(family, key=lambda c: c.n_draft) for family in families.values()]

    @cached_property
    def _failed(self) -> frozenset[str]:
        """Candidates that failed in some round: they can't be run here."""
        return frozenset(
            name
            for result in self.history
            for name in result.plan.order
            if name not in result.values or result.values[name].log_value is None
        )

    def _calibrations(self, family: Sequence[Candidate]) -> list[Calibration]:
        seen = {c.n_draft: [r.values[c.id] for r in self._rounds(Phase.CALIBRATE) if c.id in r.values] for c in family}
        return [run for n, observations in seen.items() if (run := gathered(n, observations)) is not None]

    @cached_property
    def predictions(self) -> Mapping[str, float]:
        """Tokens per second that the model foretells; empty for candidates it can't."""
        result: dict[str, float] = {}
        for family in self._families:
            foretold = predict([c.n_draft for c in family], self._calibrations(family)) if self._calibrated else None
            result.update({c.id: foretold[c.n_draft] for c in family} if foretold else {})
        seen = [r.values[self.vanilla].log_value for r in self._rounds(Phase.CALIBRATE) if self.vanilla in r.values]
        known = [value for value in seen if value is not None]
        if known and result:
            result[self.vanilla] = math.exp(sum(known) / len(known))
        return result

    @property
    def _calibrated(self) -> bool:
        return bool(self._rounds(Phase.CALIBRATE))

    @cached_property
    def shortlist(self) -> tuple[str, ...]:
        """Candidates that are raced: those the model can't foretell, and the best of those it can."""
        able = [c.id for c in self.candidates if c.id not in self._failed_before_racing]
        foretold = self.predictions
        unknown = [name for name in able if name not in foretold]
        ranked = sorted((name for name in able if name in foretold), key=lambda name: -foretold[name])
        if not ranked:
            return tuple(unknown)
        least, most = self.settings.shortlist_size
        near = [n for n in ranked if foretold[n] >= self.settings.shortlist_share * foretold[ranked[0]]]
        return tuple(sorted([*unknown, *(near[:most] if len(near) >= least else ranked[:least])]))

    @cached_property
    def _failed_before_racing(self) -> frozenset[str]:
        return replace(self, history=tuple(self._rounds(Phase.CALIBRATE)))._failed if self.history else frozenset()

    @cached_property
    def _trail(self) -> list[tuple[int, list[Standing]]]:
        """After each race round: the standing of every candidate that took part."""
        alive = self.shortlist
        trail: list[tuple[int, list[Standing]]] = []
        seen: list[dict[str, float]] = []
        for result in self._rounds(Phase.RACE):
            values = {n: o.log_value for n, o in result.values.items() if n in alive and o.log_value is not None}
            seen.append(values)
            current = standings(
                seen,
                [name for name in alive if name in values],
                rivals=len(self.shortlist) - 1,
                confidence=self.settings.confidence,
                cut=len(seen) >= self.settings.first_cut,
            )
            trail.append((result.plan.number, current))
            alive = tuple(standing.candidate for standing in current if standing.kept)
        return trail

    @property
    def _survivors(self) -> tuple[str, ...]:
        return tuple(s.candidate for s in self._trail[-1][1] if s.kept) if self._trail else self.shortlist

    @property
    def _decided(self) -> bool:
        """Whether no survivor can be better than the best by more than the tolerance."""
        if len(self._survivors) <= 1:
            return True
        if not self._trail or self._trail[-1][0] < self.settings.first_cut:
            return False
        alive = [standing for standing in self._trail[-1][1] if standing.kept]
        best = max(alive, key=lambda standing: standing.mean)
        slack = -math.log1p(-self.settings.tolerance)
        return all(s.mean - best.mean + s.half_width <= slack for s in alive if s is not best)

    @property
    def _leader(self) -> str | None:
        """Best of the race so far; before any race round the best foretold, else the best seen while calibrating."""
        if self._trail:
            alive = [standing for standing in self._trail[-1][1] if standing.kept]
            return max(alive, key=lambda standing: standing.mean).candidate if alive else None
        able = [name for name in self.shortlist if name not in self._failed]
        if self.predictions:
            return max(able, key=lambda name: self.predictions.get(name, 0.0), default=None)
        return able[0] if len(able) == 1 else None

    # ------------------------------------------------------------ what is told

    def decisions(self) -> list[Decision]:
        """The journal: every decision with its evidence, in order."""
        lines = [
            Decision(
                phase=Phase.CALIBRATE,
                round=len(self._rounds(Phase.CALIBRATE)),
                candidate=candidate.id,
                estimate=self.predictions.get(candidate.id),
                low=None,
                high=None,
                kept=candidate.id in self.shortlist,
                reason="failed" if candidate.id in self._failed_before_racing else "predicted",
            )
            for candidate in self.candidates
            if self._calibrated and (candidate.id in self.predictions or candidate.id in self._failed_before_racing)
        ]
        for number, current in self._trail:
            asked = self._rounds(Phase.RACE)[number - 1].plan.order
            lines += [raced(number, standing) for standing in current]
            lines += [failed(number, name) for name in asked if name not in {s.candidate for s in current}]
        return lines

    def answer(self) -> Answer:
        """What the race says now; certified only if it ran to its end. Raises ConfigError if nothing was measured."""
        leader = self._leader
        if leader is None:
            raise ConfigError("No candidate of the race could be measured", remedy="see the jobs' logs for the cause")
        confirmed = self._confirmed(leader)
        refuted = confirmed is not None and confirmed.high < 1
        winner = self.vanilla if refuted else leader
        certified = self._decided and bool(self._trail or len(self.shortlist) == 1) and not refuted
        return Answer(
            winner=winner,
            certified=certified,
            ties=tuple(name for name in self._within_tolerance() if name != winner),
            dropped={d.candidate: d.round for d in self.decisions() if d.phase is Phase.RACE and not d.kept},
            confirmed=confirmed,
            measurements=self._count(),
            calibration_measurements=self._count(Phase.CALIBRATE),
            confirm_measurements=self._count(Phase.CONFIRM),
            full_grid_measurements=full_grid(
                len(self.candidates),
                self._trail[-1][1][0].sd if self._trail and self._trail[-1][1] else None,
                tolerance=self.settings.tolerance,
                confidence=self.settings.confidence,
            ),
            seconds=self.seconds,
            predicted=dict(self.predictions),
            measured={s.candidate: math.exp(s.mean) for _, current in self._trail for s in current},
            reason=self._reason(certified=certified, refuted=refuted),
        )

    def _within_tolerance(self) -> list[str]:
        """Raced candidates that were never shown to be worse than the best by more than the tolerance."""
        slack = -math.log1p(-self.settings.tolerance)
        last: dict[str, bool] = {}
        for _, current in self._trail:
            best = max((standing.mean for standing in current), default=0.0)
            last.update({s.candidate: s.mean + s.half_width + slack >= best for s in current})
        return sorted(name for name, near in last.items() if near and name not in self._failed)

    def _reason(self, *, certified: bool, refuted: bool) -> str:
        if refuted:
            return "fresh pairs against vanilla refuted the winner"
        if certified:
            return "no other candidate can be better by more than the tolerance"
        if len(self._rounds(Phase.RACE)) >= self.settings.max_rounds:
            return "the rounds were used up before the candidates could be told apart"
        return "the budget was used up"

    def _confirmed(self, winner: str) -> Interval | None:
        d = [
            (result.values[winner].log_value or 0.0) - (result.values[self.vanilla].log_value or 0.0)
            for result in self._rounds(Phase.CONFIRM)
            if all(
                name in result.values and result.values[name].log_value is not None for name in (winner, self.vanilla)
            )
        ]
        return t_interval(d, confidence=self.settings.confidence, method=PAIRED_ONE_LAUNCH)

    def _count(self, phase: Phase | None = None) -> int:
        """Measurements taken: of a phase, or of calibration and race together."""
        wanted = (Phase.CALIBRATE, Phase.RACE) if phase is None else (phase,)
        return sum(len(r.plan.order) * r.plan.repeats for r in self.history if r.plan.phase in wanted)
