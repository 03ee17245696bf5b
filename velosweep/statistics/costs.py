"""What rounds cost, across the jobs of a table: the arms of one pair share a cost ratio and batch costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from velosweep.statistics.acceptance import CostModel, RoundCost, cost_model, expected_speedup
from velosweep.statistics.measures import Measures
from velosweep.statistics.pairing import Arrangement, FoundJob, Owner

PairKey = tuple[object, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """What the model expects of one job: cost ratio, and the speed-up were verification free."""

    cost_ratio: float
    expected_speedup: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """Cost models by (pair, baseline), and each job's round by its owner's index."""

    models: Mapping[PairKey, CostModel]
    keys: Mapping[int, PairKey]
    rounds: Mapping[int, RoundCost]

    def expectation(self, job: FoundJob, tokens_per_round: float | None) -> Expectation | None:
        """None where the cost ratio can't be told (see acceptance)."""
        if job.speculative is None or job.speculative not in self.rounds:
            return None
        model = self.models.get(self.keys[job.speculative])
        if model is None:
            return None
        drafted = self.rounds[job.speculative].drafted
        expected = None if tokens_per_round is None else expected_speedup(tokens_per_round, drafted, model.cost_ratio)
        return Expectation(cost_ratio=model.cost_ratio, expected_speedup=expected)


def costs_of(arrangement: Arrangement, measures: Measures, jobs: Sequence[FoundJob]) -> Costs:
    """Fit a cost model to the arms of each pair."""
    step_ms = {
        job.vanilla: _step_ms(arrangement.owners[job.vanilla], measures) for job in jobs if job.vanilla is not None
    }
    by_model = _steps_by_model(arrangement, step_ms)
    keys: dict[int, PairKey] = {}
    rounds: dict[int, RoundCost] = {}
    for job in jobs:
        if job.speculative is None or job.vanilla is None:
            continue
        owner = arrangement.owners[job.speculative]
        cost = _round_cost(arrangement, owner, measures)
        if cost is not None:
            keys[job.speculative] = (job.vanilla, *_draft(arrangement, owner))
            rounds[job.speculative] = cost
    arms: dict[PairKey, list[RoundCost]] = {}
    for index, key in keys.items():
        arms.setdefault(key, []).append(rounds[index])
    models = {}
    for key, costs in arms.items():
        vanilla, draft_model, _ = key
        draft_ms = by_model.get((draft_model, *_place(arrangement, arrangement.owners[int(str(vanilla))])))
        model = cost_model(costs, step_ms[int(str(vanilla))] or 0.0, draft_ms_per_token=draft_ms)
        if model is not None:
            models[key] = model
    return Costs(models=models, keys=keys, rounds=rounds)


def _draft(arrangement: Arrangement, owner: Owner) -> tuple[str | None, str | None]:
    row = int(owner.rows[0])
    return arrangement.columns.text("draft_model").at(row), arrangement.columns.text("speculation").at(row)


def _place(arrangement: Arrangement, owner: Owner) -> tuple[object, ...]:
    row = int(owner.rows[0])
    return (owner.sweep_id, *(arrangement.columns.text(name).at(row) for name in ("host", "device", "engine")))


def _steps_by_model(arrangement: Arrangement, step_ms: Mapping[int, float | None]) -> dict[tuple[object, ...], float]:
    """ms per token of each model that was measured as a main model, by model and machine."""
    steps = {}
    for index, ms in step_ms.items():
        owner = arrangement.owners[index]
        model = arrangement.columns.text("main_model").at(int(owner.rows[0]))
        if ms is not None and model:
            key = (model, *_place(arrangement, owner))
            steps[key] = ms
    return steps


def _step_ms(owner: Owner, measures: Measures) -> float | None:
    """Vanilla's ms per token over all usable runs."""
    rows = owner.rows[measures.usable[owner.rows]]
    if not len(rows):
        return None
    tokens = measures.tokens[rows]
    ms = tokens / measures.columns.number("tokens_per_second")[rows] * 1000
    return float(ms.sum() / tokens.sum())


def _round_cost(arrangement: Arrangement, owner: Owner, measures: Measures) -> RoundCost | None:
    """Mean round of one arm; None where rounds or drafted tokens aren't known."""
    import numpy as np

    columns = arrangement.columns
    rows = owner.rows[measures.usable[owner.rows]]
    drafted = columns.number("draft_tokens")[rows]
    rows = rows[np.isfinite(drafted) & (drafted > 0) & np.isfinite(measures.rounds[rows])]
    rounds = float(measures.rounds[rows].sum())
    if rounds <= 0:
        return None
    ms = measures.tokens[rows] / columns.number("tokens_per_second")[rows] * 1000
    return RoundCost(
        n_draft=int(columns.integer("n_draft")[rows[0]]),
        drafted=float(columns.number("draft_tokens")[rows].sum()) / rounds,
        ms=float(ms.sum()) / rounds,
    )
