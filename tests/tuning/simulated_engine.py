"""A simulated engine whose true speeds are known, for whole searches without a server."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from tests.planning.jobs import jobs_over_n_draft
from velosweep.config.settings import Job, TunerSettings
from velosweep.tuning.best_arm import BestArmSearch
from velosweep.tuning.search_values import DraftRounds, Observation, SearchRound


@dataclass(kw_only=True)
class SimulatedEngine:
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
        log_value = math.log(self.speed(n_draft)) + noise
        if n_draft == 0:
            return Observation(log_value=log_value, tokens=self.tokens)
        rounds = round(self.tokens / (1 + self.survival(n_draft).sum()))
        reached, counts = rounds, []
        for hazard in self.alpha * self.decay ** np.arange(n_draft):
            reached = int(self.rng.binomial(reached, min(hazard, 1.0)))
            counts.append(reached)
        total_ms = rounds * self.round_ms(n_draft) * math.exp(-noise)
        draft_rounds = DraftRounds(count=rounds, total_ms=total_ms, accepted_per_position=tuple(counts))
        return Observation(log_value=log_value, tokens=self.tokens, draft_rounds=draft_rounds)

    def measure(self, asked: SearchRound) -> dict[str, Observation]:
        """A round of a search over `candidates()`."""
        common = self.rng.normal(0, self.round_sd)
        return {name: self.observe(n_draft_of(name), common) for name in asked.order}


def candidates(longest: int = 16) -> tuple[Job, ...]:
    """n_draft 1 to `longest` of one pair, with ids n1, n2, …; the baseline's is n0."""
    jobs = jobs_over_n_draft(*range(1, longest + 1))
    return tuple(replace(job, id=f"n{job.n_draft}", baseline_id="n0") for job in jobs)


def n_draft_of(candidate: str) -> int:
    """The n_draft of one of `candidates()`."""
    return int(candidate[1:])


def search_over_n_draft(settings: TunerSettings | None = None, **changes: object) -> BestArmSearch:
    """A search over `candidates()` that has not begun."""
    fields = {"vanilla": "n0", "jobs": candidates(), "settings": settings or TunerSettings(), **changes}
    return BestArmSearch(**fields)  # type: ignore[arg-type]


def run(engine: SimulatedEngine, settings: TunerSettings | None = None) -> BestArmSearch:
    """A whole search over `candidates()`."""
    search = search_over_n_draft(settings)
    while (asked := search.next_round()) is not None:
        search = search.after(asked, engine.measure(asked))
    return search


TRUTHS = [
    (alpha, c, cliff) for alpha in (0.5, 0.6, 0.7, 0.8, 0.9) for c in (0.02, 0.05, 0.1) for cliff in (0, 0.8, 1.5)
]


def simulated(runs: int, cv: float) -> Iterator[tuple[SimulatedEngine, BestArmSearch]]:
    """Whole searches over engines of many truths."""
    for i in range(runs):
        alpha, c, cliff = TRUTHS[i % len(TRUTHS)]
        engine = SimulatedEngine(alpha=alpha, cost_ratio=c, cliff=cliff, cv=cv, seed=70_000 + round(1e8 * cv) + i)
        yield engine, run(engine, TunerSettings(seed=i))


def is_right(engine: SimulatedEngine, search: BestArmSearch) -> bool:
    """Whether the winner is within 1 % of the best."""
    best = max(engine.speed(n) for n in range(17))
    return engine.speed(n_draft_of(search.answer().winner)) >= 0.99 * best
