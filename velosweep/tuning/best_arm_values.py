"""The values of a race: what can be chosen, how sure to be, what was measured and what was decided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from velosweep.statistics.intervals import Interval
from velosweep.tuning.best_arm_statistics import Standing


class Phase(str, Enum):
    """Where a race stands."""

    CALIBRATE = "calibrate"
    RACE = "race"
    CONFIRM = "confirm"


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One cell of the grid. `load_s`: time to start its server (0 while it stays resident); `run_s`: of one run."""

    id: str
    family: str
    n_draft: int
    load_s: float = 0.0
    run_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How sure, how close, and at what cost.

    `calibration_tokens`: tokens that calibration takes over all its runs at least. `short`: the suite is a single short
    prompt, whose acceptance tells little (a wider shortlist). `use_model`: off for objectives that tokens per second
    don't rank. `budget_s`: answer by then, certified or not.
    """

    tolerance: float = 0.01
    confidence: float = 0.95
    first_cut: int = 3
    max_rounds: int = 40
    confirm_pairs: int = 6
    calibration_tokens: int = 2048
    calibration_rounds: int = 3
    short: bool = False
    use_model: bool = True
    budget_s: float | None = None
    max_repeats: int = 4
    seed: int = 0

    @property
    def shortlist_share(self) -> float:
        """Predictions at least this share of the best are raced."""
        return 0.85 if self.short else 0.92

    @property
    def shortlist_size(self) -> tuple[int, int]:
        """Least and most candidates of a shortlist."""
        return (3, 10) if self.short else (3, 6)


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """What to measure next: `order` names candidates in the order of measurement, each `repeats` times at a stretch."""

    phase: Phase
    number: int
    order: tuple[str, ...]
    repeats: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """What one candidate showed in a round.

    `log_value`: mean over its repeats, None where it failed. The counts (over all its runs of the round) are needed
    while calibrating; `seconds` is what it cost with its load.
    """

    log_value: float | None
    seconds: float = 0.0
    tokens: int = 0
    rounds: float | None = None
    round_ms: float | None = None
    accepted_per_position: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundResult:
    """A measured round. `values` may hold more candidates than were asked for; those are not used."""

    plan: Round
    values: Mapping[str, Observation]


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """One line of the journal: a candidate's estimate after a round, and whether it stays.

    `estimate`, `low`, `high` are in the objective's own unit (exp of the log values); `reason` says by what it was kept
    or dropped: `calibrated`, `predicted`, `raced`, `failed`.
    """

    phase: Phase
    round: int
    candidate: str
    estimate: float | None
    low: float | None
    high: float | None
    kept: bool
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """How a race ended.

    `winner` is vanilla's id where speculating doesn't pay; `ties` are the others that were not shown
    to be worse by more than the tolerance.
    `confirmed`: speculative over vanilla from fresh pairs only (None for vanilla itself, or with no time left).
    `predicted`: what the model foretold of each candidate, beside `measured`, both in the objective's unit.
    """

    winner: str
    certified: bool
    ties: tuple[str, ...]
    dropped: Mapping[str, int]
    confirmed: Interval | None
    measurements: int
    calibration_measurements: int
    confirm_measurements: int
    full_grid_measurements: int
    seconds: float
    predicted: Mapping[str, float]
    measured: Mapping[str, float]
    reason: str


def runs_a_load(candidates: Sequence[Candidate], *, most: int) -> int:
    """Runs of each visit: with a server started for each, sqrt(load/run) runs balance loading against telling.

    (The variance of a visit's mean is between-visit + within-visit / m at a cost of load + m * run.)
    """
    known = [candidate for candidate in candidates if candidate.run_s > 0]
    if not known:
        return 1
    ratio = sum(c.load_s for c in known) / sum(c.run_s for c in known)
    return max(1, min(most, round(math.sqrt(ratio))))


def raced(number: int, standing: Standing) -> Decision:
    """The journal's line of a candidate that was measured in a round."""
    half = standing.half_width
    return Decision(
        phase=Phase.RACE,
        round=number,
        candidate=standing.candidate,
        estimate=math.exp(standing.mean),
        low=None if math.isinf(half) else math.exp(standing.mean - half),
        high=None if math.isinf(half) else math.exp(standing.mean + half),
        kept=standing.kept,
        reason="raced",
    )


def failed(number: int, name: str) -> Decision:
    """The journal's line of a candidate that could not be measured."""
    return Decision(
        phase=Phase.RACE, round=number, candidate=name, estimate=None, low=None, high=None, kept=False, reason="failed"
    )
