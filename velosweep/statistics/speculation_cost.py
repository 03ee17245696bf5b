"""Where decoding time goes, and what drafting and verifying cost: measured, or not said.

A round is here llama.cpp's: one draft and the check of it (screens say "check"). All costs are in single steps of the
target: vanilla's time a token at the same depth. With gamma tokens drafted and tau = tokens a round, a job's speedup is
tau / (gamma*c + v + s), where

- c is the cost of a drafted token: the time that llama.cpp's own statistics say was spent drafting, over the tokens
  drafted. Where a build prints none, the draft model measured as a main model on the same machine says it. One n_draft,
  or the slope over several, does not: draft length and batch size move together, so that the slope is c + v', an upper
  limit of c.
- s is what it costs that the draft model reads the verified tokens, too, which llama.cpp does in each round (since
  spring 2026) and counts as no drafting: a batch of n_draft + 1 tokens takes so much longer on the speculative server
  than on the vanilla one.
- v is the cost of verifying: the rest.

On a GPU llama.cpp waits for that reading when it drafts next, and s is then part of c.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from velosweep.config.speculation_kinds import KINDS
from velosweep.statistics.comparison import DecodingTime

if TYPE_CHECKING:
    from velosweep.statistics.pairing import FoundJob, IndexedRuns, Owner
    from velosweep.statistics.runs import Runs

FROM_LOG = "llama.cpp"
MEASURED_ALONE = "measured alone"


@dataclass(frozen=True, kw_only=True, slots=True)
class JobCost:
    """What is known of one job's rounds. `drafted`: tokens a round; `cost_ratio` is None with its `source`."""

    drafted: float
    cost_ratio: float | None
    source: str | None
    decoding: DecodingTime | None


def expected_speedup(tokens_per_round: float, drafted: float, cost_ratio: float) -> float:
    """tau / (gamma*c + 1), verification being free."""
    return tokens_per_round / (drafted * cost_ratio + 1)


def costs_of(arrangement: "IndexedRuns", runs: "Runs", jobs: "Sequence[FoundJob]") -> dict[int | None, JobCost]:
    """The costs of each job that drafted something, by the index of its speculative owner."""
    owners, text = arrangement.owners, arrangement.columns.text
    step_ms = {job.vanilla: _step_ms(owners[job.vanilla], runs) for job in jobs if job.vanilla is not None}
    by_model = {
        (text("main_model").at(int(owners[index].rows[0])), *_machine(arrangement, owners[index])): ms
        for index, ms in step_ms.items()
        if ms is not None
    }
    found: dict[int | None, JobCost] = {}
    for job in jobs:
        ms = None if job.vanilla is None else step_ms[job.vanilla]
        if job.speculative is None or job.vanilla is None or ms is None:
            continue
        vanilla, owner = owners[job.vanilla], owners[job.speculative]
        draft_model = text("draft_model").at(int(owner.rows[0]))
        alone_ms = by_model.get((draft_model, *_machine(arrangement, vanilla))) if draft_model else None
        cost = _job_cost(runs, owner, vanilla, step_ms=ms, alone_ms=alone_ms)
        if cost is not None:
            found[job.speculative] = cost
    return found


def _machine(arrangement: "IndexedRuns", owner: "Owner") -> tuple[object, ...]:
    row, columns = int(owner.rows[0]), arrangement.columns
    load = (int(columns.integer("concurrency", 1)[row]), int(columns.integer("depth")[row]))
    return (owner.sweep_id, *(columns.text(name).at(row) for name in ("host", "device", "engine")), *load)


def _step_ms(owner: "Owner", runs: "Runs") -> float | None:
    """Vanilla's ms per token over all usable runs."""
    rows = owner.rows[runs.usable[owner.rows]]
    return float(runs.decode_ms(rows).sum() / runs.tokens[rows].sum()) if len(rows) else None


def _job_cost(
    runs: "Runs", owner: "Owner", vanilla: "Owner", *, step_ms: float, alone_ms: float | None
) -> JobCost | None:
    """The costs of one job from its usable runs; None where their rounds aren't known or drafted nothing."""
    import numpy as np

    drafted, drafting = (runs.columns.number(name) for name in ("draft_tokens", "draft_ms"))
    rows = owner.rows[runs.usable[owner.rows]]
    rows = rows[np.isfinite(drafted[rows]) & np.isfinite(runs.rounds[rows])]
    rounds, tokens = float(runs.rounds[rows].sum()), float(drafted[rows].sum())
    if not rounds or not tokens:
        return None
    alone = None if alone_ms is None else alone_ms / step_ms
    if not np.isfinite(drafting[rows]).all():
        source = MEASURED_ALONE if alone is not None else None
        return JobCost(drafted=tokens / rounds, cost_ratio=alone, source=source, decoding=None)
    total_ms, drafting_ms = float(runs.decode_ms(rows).sum()), float(drafting[rows].sum())
    rest_ms = max(total_ms - drafting_ms, 0.0)
    batch = 1 + tokens / rounds
    sync_ms = _sync_ms(runs, owner, vanilla, batch)
    # Timing single batches is noisy; but a batch costs the draft model no more than as many of its steps.
    reading_ms = min((sync_ms or 0.0) * rounds, drafting_ms / tokens * batch * rounds, rest_ms)
    decoding = DecodingTime(
        batch=batch,
        batch_cost=(rest_ms - reading_ms) / rounds / step_ms,
        sync_cost=None if sync_ms is None else reading_ms / rounds / step_ms,
        draft_share=drafting_ms / total_ms,
        verify_share=(rest_ms - reading_ms) / total_ms,
        tokens_per_round=float(runs.tokens[rows].sum()) / rounds,
    )
    cost = drafting_ms / tokens / step_ms
    return JobCost(drafted=tokens / rounds, cost_ratio=cost, source=FROM_LOG, decoding=decoding)


def _sync_ms(runs: "Runs", owner: "Owner", vanilla: "Owner", batch: float) -> float | None:
    """How much longer the speculative server takes for a batch of so many tokens; None where no batches were timed.

    0 for kinds without a model of their own. For drafts that are cut short in proportion to the batch.
    """
    import numpy as np

    kinds = (runs.columns.text("speculation").at(int(owner.rows[0])) or "").partition(" (")[0].split("+")
    if all(name in KINDS and not KINDS[name].draft_settings for name in kinds):
        return 0.0
    ours, theirs = _batch_ms(runs, owner), _batch_ms(runs, vanilla)
    if not ours or not theirs:
        return None
    size, ms = max(ours.items())
    sizes: Any = sorted(theirs)
    of_vanilla = float(np.interp(size, sizes, [theirs[one] for one in sizes]))
    return max(ms - of_vanilla, 0.0) * min(batch / size, 1.0)


def _batch_ms(runs: "Runs", owner: "Owner") -> dict[int, float]:
    """The least ms of batches timed after an owner's usable runs, by size: disturbances make them longer."""
    sizes, times = (runs.columns.lists(name) for name in ("batch_tokens", "batch_ms"))
    if sizes is None or times is None:
        return {}
    found: dict[int, list[float]] = defaultdict(list)
    for row in owner.rows[runs.usable[owner.rows]].tolist():
        begin, end = int(sizes[0][row]), int(sizes[0][row + 1])
        for size, ms in zip(sizes[1][begin:end].tolist(), times[1][begin:end].tolist(), strict=True):
            found[size].append(ms)
    return {size: min(values) for size, values in found.items()}
