"""Rounds that began although the machine had not become as fast again as at first (`protocol.cooldown`).

What tells is in the samples: before a round on a slow machine the lane rests and takes a vanilla run to look again,
a warm-up of that round's iteration, at most twice. A second look means that the first was still too slow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from velosweep.statistics.comparison import Finding
from velosweep.statistics.runs import Runs
from velosweep.values import COOLDOWN_LOOKS

SLOW_LIMIT = 0.02  # the default of protocol.cooldown_drift

Looks = Mapping[tuple[str, str], Any]
"""Rows of the looks that went well in order of time, by sweep and vanilla owner (its job_id)."""


def looks_of(runs: Runs) -> Looks:
    """All looks of a table of samples; empty for most."""
    import numpy as np

    columns = runs.columns
    rows = np.flatnonzero((columns.integer("warmup") != 0) & (columns.integer("iteration") > 0) & runs.usable)
    if not len(rows):
        return {}
    rows, _ = runs.by_mode(rows)
    found: dict[tuple[str, str], list[int]] = {}
    for row in rows[np.lexsort((columns.integer("order")[rows], runs.time[rows]))].tolist():
        found.setdefault(_owner(runs, row), []).append(row)
    return {owner: np.array(own) for owner, own in found.items()}


def untrusted_findings(runs: Runs, looks: Looks, vanilla: Any) -> list[Finding]:
    """A warning where rounds of a job began too slow. `vanilla`: rows of its counted vanilla runs.

    Too slow is a last look under the speed of its launch's first round by more than SLOW_LIMIT, or no faster than
    the look before, which was too slow by the protocol's own limit or it would have been the last.
    """
    import numpy as np

    vanilla = vanilla[runs.usable[vanilla]]
    own = looks.get(_owner(runs, int(vanilla[0]))) if len(vanilla) else None
    if own is None:
        return []
    columns = runs.columns
    speed, iteration = columns.number("tokens_per_second"), columns.integer("iteration")
    place = np.stack([columns.integer("block"), columns.integer("launch"), columns.text("prompt_id").codes])
    slow: dict[int, tuple[float, float]] = {}
    for group in np.unique(np.vstack([place[:, own], iteration[own]]), axis=1).T:
        seen = own[(place[:, own] == group[:3, None]).all(axis=0) & (iteration[own] == group[3])]
        there = vanilla[(place[:, vanilla] == group[:3, None]).all(axis=0) & (iteration[vanilla] < group[3])]
        if len(seen) < COOLDOWN_LOOKS or not len(there):
            continue
        first = float(speed[there[np.argmin(iteration[there])]])
        before, last = (float(speed[row]) for row in seen[-COOLDOWN_LOOKS:])
        if last < first and (last < (1 - SLOW_LIMIT) * first or last <= before):
            slow[int(group[3])] = min(slow.get(int(group[3]), (last, first)), (last, first), key=lambda s: s[0] / s[1])
    return [_finding(slow)] if slow else []


def _finding(slow: Mapping[int, tuple[float, float]]) -> Finding:
    worst = min(slow, key=lambda iteration: slow[iteration][0] / slow[iteration][1])
    speed, first = slow[worst]
    return Finding(
        code="untrusted",
        severity="warning",
        subject="rounds",
        evidence={
            "rounds": len(slow),
            "iterations": ", ".join(map(str, sorted(slow))),
            "worst_iteration": worst,
            "speed": speed,
            "first_speed": first,
            "fall": 1 - speed / first,
        },
    )


def _owner(runs: Runs, row: int) -> tuple[str, str]:
    columns = runs.columns
    return columns.text("sweep_id").at(row) or "", columns.text("job_id").at(row) or ""
