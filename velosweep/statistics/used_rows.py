"""Which runs a job's figures are made of: usable ones, in pairs where there are pairs, of prompts that went well."""

from typing import Any

import numpy as np

from velosweep.statistics.pairing import JobRows
from velosweep.statistics.runs import Runs


def used_rows(runs: Runs, job: JobRows) -> tuple[Any, Any, bool]:
    """(vanilla, speculative, paired): rows that are averaged, passes x prompts, -1 where none.

    Where any pair has two usable halves only pairs count; else all usable runs of both modes, unpaired.
    """
    vanilla, speculative = (
        np.where((cube >= 0) & runs.usable[cube], cube, -1) for cube in (job.vanilla, job.speculative)
    )
    both = (vanilla >= 0) & (speculative >= 0)
    if both.any():
        return np.where(both, vanilla, -1), np.where(both, speculative, -1), True
    if (job.speculative < 0).all():
        return vanilla, speculative, False
    # No vanilla run is of a speculative one's pass: they make passes of their own, of the same server group.
    group = runs.columns.integer("block")
    rows = job.all_vanilla[runs.usable[job.all_vanilla]]
    rows = rows[np.isin(group[rows], group[present_rows(job.speculative)])]
    codes = runs.columns.text("prompt_id").codes[rows] + 1
    columns = [rows[codes == prompt] for prompt in job.prompts]
    vanilla = np.full((max(map(len, columns)), len(columns)), -1, dtype=np.int64)
    for p, column in enumerate(columns):
        vanilla[: len(column), p] = column
    return vanilla, speculative, False


def suite_prompts(runs: Runs, job: JobRows, vanilla: Any, speculative: Any) -> Any:
    """Mask of the prompts over which passes are compared: all, but for those whose failures cost more than they give.

    A prompt that failed for good leaves no whole pass. It is left out where the passes that are whole without it hold
    more runs. `vanilla`, `speculative`: the used rows, passes x prompts, -1 where none.
    """
    there = (speculative if (speculative >= 0).any() else vanilla) >= 0
    failed = [(cube >= 0) & ~runs.usable[cube] for cube in (job.vanilla, job.speculative)]
    suspects = (failed[0] | failed[1]).any(axis=0)
    kept, places = np.ones(len(job.prompts), dtype=bool), np.arange(len(job.prompts))

    def whole_runs(mask: Any) -> int:
        return int(there[:, mask].all(axis=1).sum()) * int(mask.sum())

    while suspects.any():
        most, worst = max((whole_runs(kept & (places != p)), p) for p in np.flatnonzero(suspects))
        if most <= whole_runs(kept):
            break
        kept[worst] = suspects[worst] = False
    return kept


def present_rows(rows: Any) -> Any:
    """The rows that are there."""
    return rows[rows >= 0]


def all_rows(job: JobRows) -> Any:
    """Every counted run of a job: its own, their partners, and attempts that were repeated."""
    return present_rows(np.concatenate([job.speculative.ravel(), job.vanilla.ravel(), job.others]))
