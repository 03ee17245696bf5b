"""What a search asks for, what was observed, and how the search ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from velosweep.config.settings import Job, TunerSettings
from velosweep.statistics.intervals import Interval

OUT_OF_TIME = "the time ran out"
INTERRUPTED = "the search was interrupted"
DRAFTED_NOTHING = "drafted nothing"


class Phase(str, Enum):
    """The phases of a search; the values are those of tuner.parquet."""

    CALIBRATION = "calibrate"
    ELIMINATION = "race"
    CONFIRMATION = "confirm"


@dataclass(frozen=True, kw_only=True, slots=True)
class DraftRounds:
    """Rounds of drafting and verifying with one draft length: how many, and how long they took together.

    `accepted_per_position[i]`: rounds that accepted draft position i; None where it is not known.
    """

    count: int
    total_ms: float
    accepted_per_position: tuple[int, ...] | None

    @property
    def mean_ms(self) -> float:
        return self.total_ms / self.count


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """One candidate in one round. `log_value`: log of the objective, larger is better; None where it failed or
    drafted nothing (`idle`), and so decoded as vanilla does.

    `seconds` is what the runs took, `tokens` what they decoded. `draft_rounds`: None for vanilla and failures.
    """

    log_value: float | None
    seconds: float = 0.0
    tokens: int = 0
    draft_rounds: DraftRounds | None = None
    idle: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchRound:
    """Candidates to measure once each, in this order; `observations` by candidate, once they were measured."""

    phase: Phase
    number: int
    order: tuple[str, ...]
    observations: Mapping[str, Observation] = field(default_factory=dict)

    def log_value(self, candidate: str) -> float | None:
        """What was measured of a candidate; None where it failed or was not asked for."""
        seen = self.observations.get(candidate)
        return seen.log_value if seen else None

    def why_without_value(self, candidate: str) -> str:
        """Why nothing can be compared of a candidate that was asked for, in a word or two."""
        seen = self.observations.get(candidate)
        return DRAFTED_NOTHING if seen and seen.idle else "failed"


def spent_s(rounds: Sequence[SearchRound]) -> float:
    """What the measurements of these rounds took."""
    return sum(seen.seconds for done in rounds for seen in done.observations.values())


def mean_seconds(rounds: Sequence[SearchRound]) -> float:
    """What a measurement took on average; 0 without any. Failures that took no time are left out."""
    count = sum(seen.seconds > 0 for done in rounds for seen in done.observations.values())
    return spent_s(rounds) / max(count, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchStatus:
    """How far a search has come: the round being measured, whose `candidates` (ids) are in the running."""

    category: str | None
    phase: Phase
    number: int
    candidates: tuple[str, ...]
    spent_s: float
    budget_s: float | None

    @property
    def words(self) -> str:
        """The phase and its round, for people."""
        phases = {Phase.CALIBRATION: "a first look", Phase.ELIMINATION: "comparing", Phase.CONFIRMATION: "confirming"}
        return f"{phases[self.phase]}, round {self.number}"


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchAnswer:
    """How a search ended. Candidates are named by id; figures are in the objective's own unit."""

    category: str | None
    settings: TunerSettings
    jobs: Mapping[str, Job | None]  # every candidate's, None for vanilla, which comes first
    winner: str
    certified: bool
    reason: str
    ties: frozenset[str]  # may be as fast as the winner, as far as they were measured
    dropped: Mapping[str, int]  # the elimination round in which a candidate was dropped
    without_value: Mapping[str, str]  # why a round of a candidate could not be used: it failed, or drafted nothing
    predicted: Mapping[str, float]
    measured: Mapping[str, float]
    raced: frozenset[str]  # were compared with each other in rounds
    max_shortfall: float | None  # no other that was raced is faster by more than this share, as sure as was asked for
    confirmed: Interval | None  # the winner over vanilla, from fresh pairs; None for vanilla, or without good ones
    measurements: int
    confirm_measurements: int
    measuring_s: float
    loading_s: float = 0.0
