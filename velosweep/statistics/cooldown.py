"""Rounds that began although the machine was still slower than at first (`protocol.cooldown`).

The samples show it: before a round on a slow machine the lane rests and takes a vanilla run to look again, recorded as
a warm-up of that round's iteration, at most twice. A second look means that the first was still too slow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from velosweep.statistics.comparison import Evidence, Finding, warning
from velosweep.statistics.runs import Runs
from velosweep.values import COOLDOWN_LOOKS

SLOW_LIMIT = 0.02  # the default of protocol.cooldown_drift

Looks = Mapping[tuple[str, str], Any]
"""Rows of the looks that went well in order of time, by sweep and vanilla owner (its job_id)."""


def looks_of(runs: Runs) -> Looks:
    """All looks of a table of samples; empty for most."""
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
    vanilla = vanilla[runs.usable[vanilla]]
    own = looks.get(_owner(runs, int(vanilla[0]))) if len(vanilla) else None
    if own is None:
        return []
    columns = runs.columns
    speed, iteration = columns.number("tokens_per_second"), columns.integer("iteration")
    place = columns.integer("block"), columns.integer("launch"), columns.text("prompt_id").codes
    counted: dict[tuple[int, ...], list[tuple[int, float]]] = defaultdict(list)
    seen: dict[tuple[tuple[int, ...], int], list[float]] = defaultdict(list)
    for row in vanilla.tolist():
        counted[tuple(int(part[row]) for part in place)].append((int(iteration[row]), float(speed[row])))
    for row in own.tolist():
        seen[tuple(int(part[row]) for part in place), int(iteration[row])].append(float(speed[row]))
    slow: dict[int, tuple[float, float]] = {}
    for (where, number), speeds in seen.items():
        earlier = [run for run in counted[where] if run[0] < number]
        if len(speeds) < COOLDOWN_LOOKS or not earlier:
            continue
        _, first = min(earlier)
        before, last = speeds[-COOLDOWN_LOOKS:]
        if last < first and (last < (1 - SLOW_LIMIT) * first or last <= before):
            slow[number] = min(slow.get(number, (last, first)), (last, first), key=lambda speeds: speeds[0] / speeds[1])
    if not slow:
        return []
    worst = min(slow, key=lambda number: slow[number][0] / slow[number][1])
    last, first = slow[worst]
    evidence: Evidence = {
        "rounds": len(slow),
        "iterations": ", ".join(map(str, sorted(slow))),
        "worst_iteration": worst,
        "speed": last,
        "first_speed": first,
        "fall": 1 - last / first,
    }
    return [warning("untrusted", "rounds", evidence)]


def _owner(runs: Runs, row: int) -> tuple[str, str]:
    columns = runs.columns
    return columns.text("sweep_id").at(row) or "", columns.text("job_id").at(row) or ""
