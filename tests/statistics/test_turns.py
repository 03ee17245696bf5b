"""Figures by turn: what conversations gain at each of their turns."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.reporting import sweeps
from velosweep.reporting.recommendation import recommend
from velosweep.statistics.ranking import turn_speedups


def test_a_turns_speedup_is_the_geometric_mean_over_conversations() -> None:
    one = sweeps.default_sweep().jobs[0]
    rows = [replace(one, turn=turn, speedup_gm=value) for turn, value in ((1, 1.0), (2, 2.0), (2, 8.0))]

    assert turn_speedups([*rows, replace(one, turn=None, speedup_gm=99.0)]) == pytest.approx({1: 1.0, 2: 4.0})


def test_the_answer_says_what_each_turn_gains() -> None:
    made = sweeps.default_sweep()
    job = made.jobs[0]
    turns = [
        replace(job, prompt_id=f"81.{turn}", turn=turn, speedup_gm=value) for turn, value in ((1, 1.01), (2, 1.93))
    ]

    (answer,) = recommend([*turns, job], made.record)

    assert "by turn of the conversations: 1: 1.01× and 2: 1.93×" in answer.notes
