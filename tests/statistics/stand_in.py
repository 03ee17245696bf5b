"""A stand-in for an engine whose truth is known: what tune's simulations measure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from velosweep.tuning.best_arm import BestArmSearch, Candidate, Observation, Round, RoundResult, Settings


@dataclass(kw_only=True)
class StandIn:
    """Acceptance that decays with position, linear round cost, and a cliff above a batch of 8.

    Noise: `cv` on every run, and `round_sd` common to a round (drift, neighbours). Times in ms.
    """

    alpha: float = 0.8
    decay: float = 0.98
    cost_ratio: float = 0.05
    batch_slope: float = 0.02
    cliff: float = 0.8
    cv: float = 0.01
    round_sd: float = 0.01
    tokens: int = 700
    seed: int = 0
    step_ms: float = 10.0
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def survival(self, n_draft: int) -> np.ndarray:
        """S_i: the share of rounds that accept draft position i."""
        return np.cumprod(self.alpha * self.decay ** np.arange(n_draft))

    def round_ms(self, n_draft: int) -> float:
        """A round's true time."""
        batch = 1 + self.batch_slope * n_draft + (self.cliff if n_draft + 1 > 8 else 0.0)
        return self.step_ms * (n_draft * self.cost_ratio + batch)

    def speed(self, n_draft: int) -> float:
        """True tokens per second."""
        if n_draft == 0:
            return 1000 / self.step_ms
        return 1000 * (1 + self.survival(n_draft).sum()) / self.round_ms(n_draft)

    def observe(self, n_draft: int, common: float) -> Observation:
        """One noisy run."""
        noise = self.rng.normal(0, self.cv) + common
        if n_draft == 0:
            return Observation(log_value=math.log(self.speed(0)) + noise, tokens=self.tokens)
        tau = 1 + self.survival(n_draft).sum()
        rounds = round(self.tokens / tau)
        reached, counts = rounds, []
        for hazard in self.alpha * self.decay ** np.arange(n_draft):
            reached = int(self.rng.binomial(reached, min(hazard, 1.0)))
            counts.append(float(reached))
        return Observation(
            log_value=math.log(self.speed(n_draft)) + noise,
            tokens=self.tokens,
            rounds=rounds,
            round_ms=self.round_ms(n_draft) * math.exp(-noise),
            accepted_per_position=tuple(counts),
        )

    def measure(self, plan: Round, lengths: Mapping[str, int]) -> RoundResult:
        """A round of a race."""
        common = self.rng.normal(0, self.round_sd)
        return RoundResult(plan=plan, values={name: self.observe(lengths[name], common) for name in plan.order})


def candidates(longest: int = 16) -> tuple[Candidate, ...]:
    """Vanilla and n_draft 1 to `longest` of one pair."""
    return tuple(Candidate(id=f"n{n}", family="pair" if n else "none", n_draft=n) for n in range(longest + 1))


def run(engine: StandIn, *, settings: Settings, longest: int = 16) -> BestArmSearch:
    """A whole race against the stand-in."""
    race = BestArmSearch(candidates=candidates(longest), settings=settings)
    lengths = {candidate.id: candidate.n_draft for candidate in race.candidates}
    while (plan := race.next_round()) is not None:
        race = race.after(engine.measure(plan, lengths))
    return race
