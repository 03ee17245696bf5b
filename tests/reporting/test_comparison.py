"""What is said of two sweeps side by side."""

from __future__ import annotations

import pytest

from velosweep.reporting.comparison import ChangeRow, ComparisonShown, RatioShown


def _row(label: str, low: float, high: float, *, reproduced: bool = True, real: bool = False) -> ChangeRow:
    ratio = RatioShown(value=(low * high) ** 0.5, low=low, high=high)
    return ChangeRow(
        label=label, old_speed=40.0, new_speed=40.0, ratio=ratio, vanilla_ratio=ratio, speedup_ratio=ratio,
        old_speedup=1.2, new_speedup=1.2, real=real, reproduced=reproduced,
    )  # fmt: skip


def _shown(*rows: ChangeRow) -> ComparisonShown:
    return ComparisonShown(old="a", new="b", rows=rows)


def test_intervals_too_wide_to_tell_are_not_called_reproduced() -> None:
    said = _shown(_row("n_draft 4", 0.755, 1.307), _row("n_draft 8", 0.99, 1.01)).reproduced

    assert said == (
        "Reproduced within their intervals: 1 of 2 jobs; can't tell of n_draft 4: a change under about 32 % would not "
        "have been seen"
    )


def test_no_change_found_comes_with_what_would_not_have_been_seen() -> None:
    shown = _shown(_row("n_draft 4", 0.755, 1.307), _row("n_draft 8", 0.99, 1.01))

    assert shown.headline == "No change found in 2 jobs; a change under about 32 % would not have been seen"
    assert shown.rows[0].words == "no change found"


@pytest.mark.parametrize(("reproduced", "said"), [(True, ": 1 of 1 job"), (False, ": 0 of 1 job; not n_draft 4")])
def test_narrow_intervals_tell(reproduced: bool, said: str) -> None:
    assert _shown(_row("n_draft 4", 0.98, 1.02, reproduced=reproduced)).reproduced.endswith(said)
