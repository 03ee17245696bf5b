"""Find the fastest setting within a tolerance, with a certificate, for a fraction of a grid's measurements.

    calibration -> shortlist by predicted speed -> elimination rounds -> confirmation against vanilla

A `BestArmSearch` is a value: candidates, settings and the rounds measured so far. All else is derived from these, so
that an interrupted search takes the same decisions from the same samples, and goes on. The caller measures what
`next_round()` names, in that order:

    search = BestArmSearch(vanilla=..., jobs=..., settings=...)
    while (asked := search.next_round()) is not None:
        search = search.after(asked, measure(asked))
    answer = search.answer()

Candidates are named by id: jobs, and vanilla, which always takes part and may win. Values are logs of figures of which
more is better (tokens per second; minus the log of a time or an energy). A search that ends before it is decided is
not certified.
"""

import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import fmean

from velosweep.config.settings import Job, TunerSettings
from velosweep.records import TunerDecision
from velosweep.statistics.intervals import t_ratio
from velosweep.tuning.calibration import Calibration
from velosweep.tuning.elimination import Elimination, Estimate
from velosweep.tuning.search_values import (
    INTERRUPTED,
    OUT_OF_TIME,
    Observation,
    Phase,
    SearchAnswer,
    SearchRound,
    mean_seconds,
    spent_s,
)

# Of the candidates whose predicted speed is near the best one's, so many are raced; of a short suite more.
_LEAST_SHORTLIST, MOST_SHORTLISTED, _MOST_OF_SHORT_SUITE = 3, 6, 10
_LEAST_PAIRS = 2  # confirmation takes so many pairs whatever the budget: one pair has no interval


@dataclass(frozen=True, kw_only=True)
class BestArmSearch:
    """A search over `jobs` and vanilla; see the module.

    `vanilla`: the id under which vanilla is measured. `category`: of the prompts, None for all. `short_suite`: a
    single short prompt says little about acceptance, so that the shortlist is wider.
    """

    vanilla: str
    jobs: tuple[Job, ...]
    settings: TunerSettings = field(default_factory=TunerSettings)
    category: str | None = None
    short_suite: bool = False
    history: tuple[SearchRound, ...] = ()

    def after(self, asked: SearchRound, observations: Mapping[str, Observation]) -> "BestArmSearch":
        """The search with one more round."""
        return replace(self, history=(*self.history, replace(asked, observations=observations)))

    def next_round(self) -> SearchRound | None:
        """What to measure now; None when the search is over."""
        for propose in (self._calibration_round, self._elimination_round):
            asked = propose()
            if asked is not None and self._affordable(asked):
                return asked
        return self._confirmation_round()

    def _calibration_round(self) -> SearchRound | None:
        if self.settings.objective != "tokens_per_second" or len(self.calibration.rounds) < len(self.history):
            return None  # the model predicts nothing else; or elimination has begun
        candidates = self.calibration.candidates()
        return self._shuffled(Phase.CALIBRATION, candidates) if candidates else None

    def _elimination_round(self) -> SearchRound | None:
        exhausted = len(self.elimination.rounds) >= self.settings.max_rounds
        if self.elimination.decided or exhausted or self._rounds(Phase.CONFIRMATION):
            return None
        return self._shuffled(Phase.ELIMINATION, self.elimination.remaining)

    def _confirmation_round(self) -> SearchRound | None:
        """The leader and vanilla, in alternating order."""
        done = len(self._rounds(Phase.CONFIRMATION))
        leader, budget = self._leader, self.settings.budget_s
        if leader is None or leader == self.vanilla or done >= self.settings.confirm_pairs:
            return None
        with_a_pair_s = self.spent_s + 2 * mean_seconds(self.history)
        if budget is not None and done >= _LEAST_PAIRS and with_a_pair_s > budget:
            return None
        pair = (self.vanilla, leader) if done % 2 == 0 else (leader, self.vanilla)
        return SearchRound(phase=Phase.CONFIRMATION, number=done + 1, order=pair)

    def _shuffled(self, phase: Phase, candidates: Iterable[str]) -> SearchRound:
        order = sorted(candidates)
        number = len(self._rounds(phase)) + 1
        random.Random(f"{self.settings.seed} {phase.value} {number}").shuffle(order)  # noqa: S311 (no secret)
        return SearchRound(phase=phase, number=number, order=tuple(order))

    def _affordable(self, asked: SearchRound) -> bool:
        """Whether enough of the budget would be left after this round to confirm a winner."""
        budget = self.settings.budget_s
        if budget is None or not self.history:
            return True
        cost = {name: seen.seconds for r in self.history for name, seen in r.observations.items() if seen.seconds > 0}
        usual = mean_seconds(self.history)
        confirming = min(2 * self.settings.confirm_pairs * usual, 0.3 * budget)
        unknown = usual if asked.phase is Phase.ELIMINATION else 0.0  # the first look has left time for calibrating
        return self.spent_s + sum(cost.get(name, unknown) for name in asked.order) + confirming <= budget

    @property
    def spent_s(self) -> float:
        return spent_s(self.history)

    @cached_property
    def _jobs(self) -> dict[str, Job | None]:
        """Every candidate's job, None for vanilla."""
        return {self.vanilla: None, **{job.id: job for job in self.jobs}}

    def _rounds(self, phase: Phase) -> list[SearchRound]:
        return [done for done in self.history if done.phase is phase]

    @cached_property
    def calibration(self) -> Calibration:
        return Calibration(
            vanilla=self.vanilla,
            jobs=self.jobs,
            rounds=self._rounds(Phase.CALIBRATION),
            budget_s=self.settings.budget_s,
        )

    @cached_property
    def shortlist(self) -> tuple[str, ...]:
        """Candidates for elimination: those without a prediction, and the best of those with one."""
        predicted = self.calibration.predictions
        able = [name for name in self._jobs if name not in self.calibration.excluded | self.calibration.untried]
        unknown = [name for name in able if name not in predicted]
        ranked = sorted((name for name in able if name in predicted), key=lambda name: -predicted[name])
        if not ranked:
            return tuple(unknown)
        share, most = (0.85, _MOST_OF_SHORT_SUITE) if self.short_suite else (0.94, MOST_SHORTLISTED)
        near = [name for name in ranked if predicted[name] >= share * predicted[ranked[0]]]
        chosen = near[:most] if len(near) >= _LEAST_SHORTLIST else ranked[:_LEAST_SHORTLIST]
        return tuple(sorted([*unknown, *chosen]))

    @cached_property
    def elimination(self) -> Elimination:
        return Elimination(
            shortlist=self.shortlist,
            rounds=[
                {name: seen.log_value for name, seen in done.observations.items() if seen.log_value is not None}
                for done in self._rounds(Phase.ELIMINATION)
            ],
            settings=self.settings,
        )

    @property
    def _leader(self) -> str | None:
        """The best of elimination so far; before its first round the best predicted or seen, None without any."""
        if self.elimination.rounds:
            return self.elimination.best.candidate if self.elimination.best else None
        known = {**self._seen, **self.calibration.predictions}
        able = [name for name in self.shortlist if name in known and name not in self._without_value]
        return max(able, key=lambda name: known[name], default=None)

    @property
    def _seen(self) -> dict[str, float]:
        """The mean of what each candidate showed in calibration, in the objective's own unit."""
        rounds = self.calibration.rounds
        logs = {name: [v for done in rounds if (v := done.log_value(name)) is not None] for name in self._jobs}
        return {name: math.exp(fmean(values)) for name, values in logs.items() if values}

    @property
    def _without_value(self) -> dict[str, str]:
        """The candidates of which a round could not be used, and why, in a word or two."""
        rounds = [(done, name) for done in self.history for name in done.order]
        return {name: done.why_without_value(name) for done, name in rounds if done.log_value(name) is None}

    def decisions(self) -> list[TunerDecision]:
        """Every decision with its evidence, in order."""
        rows = []
        predicted, failed = self.calibration.predictions, self.calibration.failed
        for name in self._jobs:
            if name in predicted or name in failed:
                asked = next((r for r in self.calibration.rounds[::-1] if name in r.order), self.calibration.rounds[-1])
                reason = asked.why_without_value(name) if name in failed else "predicted"
                evidence = (predicted.get(name), None, None)
                rows.append(self._decision(name, asked, name in self.shortlist, reason, evidence))
        for asked, standings in zip(self._rounds(Phase.ELIMINATION), self.elimination.standings, strict=True):
            rows += [self._decision(s.candidate, asked, s.kept, "raced", s.estimate) for s in standings]
            failures = [name for name in asked.order if asked.log_value(name) is None]
            rows += [self._decision(name, asked, False, asked.why_without_value(name)) for name in failures]
        return rows

    def _decision(
        self, candidate: str, asked: SearchRound, kept: bool, reason: str, evidence: Estimate = (None, None, None)
    ) -> TunerDecision:
        job = self._jobs[candidate]
        estimate, low, high = evidence
        return TunerDecision(
            category=self.category,
            phase=asked.phase.value,
            round=asked.number,
            job_id=job.id if job else None,
            job_num=job.num if job else None,
            n_draft=job.n_draft if job else 0,
            estimate=estimate,
            low=low,
            high=high,
            kept=kept,
            reason=reason,
        )

    def answer(self, loading_s: float = 0.0) -> SearchAnswer | None:
        """How the search ended, or stands; None if nothing could be measured. `loading_s`: spent on loading servers."""
        leader = self._leader
        if leader is None:
            return None
        pairs = [(done.log_value(leader), done.log_value(self.vanilla)) for done in self._rounds(Phase.CONFIRMATION)]
        logs = [own - vanilla for own, vanilla in pairs if own is not None and vanilla is not None]
        confirmed = t_ratio(logs, confidence=self.settings.confidence).interval  # the leader over vanilla
        refuted = confirmed is not None and confirmed.high < 1
        winner = self.vanilla if refuted else leader
        certified = self.elimination.decided and not refuted and not self.calibration.untried
        counts = Counter(done.phase for done in self.history for _ in done.order)
        return SearchAnswer(
            category=self.category,
            settings=self.settings,
            jobs=self._jobs,
            winner=winner,
            certified=certified,
            reason=self._reason(certified=certified, refuted=refuted, interrupted=self.next_round() is not None),
            ties=self.elimination.ties - set(self._without_value) - {winner},
            dropped=self.elimination.dropped,
            without_value=self._without_value,
            predicted=self.calibration.predictions,
            measured=self._seen
            | {s.candidate: math.exp(s.mean) for current in self.elimination.standings for s in current},
            raced=frozenset(self.shortlist) if self.elimination.rounds else frozenset(),
            max_shortfall=None if refuted or self.calibration.untried else self.elimination.max_shortfall,
            confirmed=confirmed,
            measurements=counts[Phase.CALIBRATION] + counts[Phase.ELIMINATION],
            confirm_measurements=counts[Phase.CONFIRMATION],
            measuring_s=self.spent_s,
            loading_s=loading_s,
        )

    def _reason(self, *, certified: bool, refuted: bool, interrupted: bool) -> str:
        if refuted:
            return "fresh runs against vanilla refuted the winner"
        if certified:
            return "no other setting can be better by more than the tolerance"
        if interrupted:
            return INTERRUPTED
        if len(self.elimination.rounds) >= self.settings.max_rounds:
            return "the rounds ran out before the settings could be told apart"
        return OUT_OF_TIME
