"""What a round of drafting and verifying costs, and the speed-up that follows from it.

What is identifiable. A run tells T(gamma) = predicted_ms / rounds, a whole round. With t = vanilla's ms per token,
T(gamma)/t = gamma*c + v(gamma+1) + fixed, where c is a draft step's cost over a target step, v(k) the cost of a batch
of k over a single step. Draft length and batch size move together (k = gamma + 1), so one n_draft gives one number for
two unknowns, and several give only the slope d(T/t)/d(gamma) = c + v'. Two ways out, the first where possible:
- the draft model was itself measured as a main model on the same machine, so c is known;
- several n_draft of one pair: c is taken as the Theil-Sen slope of T/t over gamma, but no more than leaves each v(k)
  at 1. It then holds a verified token's share of the wider batch too: an upper limit of the draft's own cost.
With one n_draft and no measured draft, c is None, not guessed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from velosweep.statistics.pairing import FoundJob, IndexedRuns, Owner
    from velosweep.statistics.runs import Runs


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundCost:
    """One setting's mean round: `drafted` tokens (n_draft, or fewer where drafts are cut short) verified in `ms`."""

    drafted: float
    ms: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """Each job's mean round and cost ratio (None: not identifiable), by the index of its speculative owner."""

    rounds: Mapping[int, RoundCost]
    cost_ratios: Mapping[int, float | None]

    def cost_ratio(self, job: FoundJob) -> float | None:
        """A draft step's cost over a target step's; None where it can't be identified."""
        return None if job.speculative is None else self.cost_ratios.get(job.speculative)

    def expected_speedup(self, job: FoundJob, tokens_per_round: float | None) -> float | None:
        """What the job would gain if verifying a batch cost no more than a single token."""
        cost_ratio = self.cost_ratio(job)
        if cost_ratio is None or tokens_per_round is None or job.speculative is None:
            return None
        return expected_speedup(tokens_per_round, self.rounds[job.speculative].drafted, cost_ratio)


def expected_speedup(tokens_per_round: float, drafted: float, cost_ratio: float) -> float:
    """tau / (gamma*c + 1), verification being free."""
    return tokens_per_round / (drafted * cost_ratio + 1)


def leviathan_speedup(alpha: float, n_draft: int, cost_ratio: float) -> float:
    """Leviathan et al. 2023, theorem 3.8: (1 - alpha^{gamma+1}) / ((1 - alpha)(gamma*c + 1)), also for alpha = 1."""
    return expected_speedup(sum(alpha**i for i in range(n_draft + 1)), n_draft, cost_ratio)


def costs_of(arrangement: IndexedRuns, runs: Runs, jobs: Sequence[FoundJob]) -> Costs:
    """The cost ratio of each pair of models on each machine, from all jobs that share it."""
    owners, text = arrangement.owners, arrangement.columns.text
    step_ms = {job.vanilla: _step_ms(owners[job.vanilla], runs) for job in jobs if job.vanilla is not None}
    by_model = {
        (text("main_model").at(int(owners[index].rows[0])), *_machine(arrangement, owners[index])): ms
        for index, ms in step_ms.items()
        if ms is not None
    }
    rounds: dict[int, RoundCost] = {}
    # Jobs with one cost ratio, by the index of their baseline among the owners, draft model and speculation.
    members: dict[tuple[int, str | None, str | None], list[int]] = defaultdict(list)
    for job in jobs:
        if job.speculative is None or job.vanilla is None:
            continue
        owner = owners[job.speculative]
        cost = _round_cost(owner, runs)
        if cost is not None:
            rounds[job.speculative] = cost
            row = int(owner.rows[0])
            members[job.vanilla, text("draft_model").at(row), text("speculation").at(row)].append(job.speculative)
    cost_ratios: dict[int, float | None] = {}
    for (vanilla, draft_model, _), indices in members.items():
        draft_ms = by_model.get((draft_model, *_machine(arrangement, owners[vanilla]))) if draft_model else None
        ratio = cost_ratio([rounds[index] for index in indices], step_ms[vanilla], draft_ms)
        cost_ratios |= dict.fromkeys(indices, ratio)
    return Costs(rounds=rounds, cost_ratios=cost_ratios)


def cost_ratio(
    rounds: Sequence[RoundCost], vanilla_ms_per_token: float | None, draft_ms_per_token: float | None
) -> float | None:
    """The cost ratio of one pair on one machine from the mean rounds of its settings; see the module."""
    if vanilla_ms_per_token is None:
        return None
    if draft_ms_per_token is not None:
        return draft_ms_per_token / vanilla_ms_per_token
    points = sorted((cost.drafted, cost.ms / vanilla_ms_per_token) for cost in rounds)
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for i, b in enumerate(points) for a in points[:i] if b[0] > a[0]]
    if not slopes:
        return None
    # Verifying several tokens takes at least as long as one, so what remains of a round bounds what drafting takes: of
    # two settings alone the slope would count all that the larger batch costs as the draft's.
    bound = min((relative - 1) / drafted for drafted, relative in points)
    return max(0.0, min(median(slopes), bound))


def _machine(arrangement: IndexedRuns, owner: Owner) -> tuple[object, ...]:
    row, columns = int(owner.rows[0]), arrangement.columns
    load = (int(columns.integer("concurrency", 1)[row]), int(columns.integer("depth")[row]))
    return (owner.sweep_id, *(columns.text(name).at(row) for name in ("host", "device", "engine")), *load)


def _step_ms(owner: Owner, runs: Runs) -> float | None:
    """Vanilla's ms per token over all usable runs."""
    rows = owner.rows[runs.usable[owner.rows]]
    if not len(rows):
        return None
    tokens = runs.tokens[rows]
    ms = tokens / runs.columns.number("tokens_per_second")[rows] * 1000
    return float(ms.sum() / tokens.sum())


def _round_cost(owner: Owner, runs: Runs) -> RoundCost | None:
    """A setting's mean round; None where rounds or drafted tokens aren't known."""
    import numpy as np

    columns = runs.columns
    rows = owner.rows[runs.usable[owner.rows]]
    drafted = columns.number("draft_tokens")
    rows = rows[np.isfinite(drafted[rows]) & (drafted[rows] > 0) & np.isfinite(runs.rounds[rows])]
    rounds = float(runs.rounds[rows].sum())
    if rounds <= 0:
        return None
    ms = runs.tokens[rows] / columns.number("tokens_per_second")[rows] * 1000
    return RoundCost(drafted=float(drafted[rows].sum()) / rounds, ms=float(ms.sum()) / rounds)
