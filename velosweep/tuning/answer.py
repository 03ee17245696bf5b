"""How a search for the fastest setting ended."""

from __future__ import annotations

from dataclasses import dataclass

from velosweep.config.settings import Job


@dataclass(frozen=True, kw_only=True, slots=True)
class TunerCandidate:
    """A candidate as the search ended: `dropped_in` the round it was dropped in, None where it stayed or was not raced.

    `predicted`, `measured`: tokens per second (or the objective), None where not known. `job` None: vanilla.
    """

    job: Job | None
    predicted: float | None
    measured: float | None
    dropped_in: int | None
    tied: bool
    winner: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class TunerAnswer:
    """How a search ended. `speedup` [`low`, `high`]: the winner over vanilla, from fresh pairs alone."""

    category: str | None
    main_model: str
    candidates: tuple[TunerCandidate, ...]
    certified: bool
    reason: str
    tolerance: float
    confidence: float
    speedup: float | None
    low: float | None
    high: float | None
    measurements: int
    confirm_measurements: int
    full_grid_measurements: int
    measuring_s: float
    loading_s: float

    @property
    def winner(self) -> TunerCandidate:
        """The candidate to run."""
        return next(candidate for candidate in self.candidates if candidate.winner)
