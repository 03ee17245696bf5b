"""Speedups with their intervals as rows of characters on one scale."""

from collections.abc import Sequence

from velosweep.statistics.comparison import Comparison
from velosweep.statistics.ranking import best_estimate


def interval_plot(points: Sequence[tuple[str, Comparison, str]], *, width: int) -> list[str]:
    """Rows `label ─●─ 1.41×` on one scale with a line at 1; at most `width` characters wide.

    `points`: label, comparison with a speedup, and what is noted after the figure. The scale is linear and holds every
    interval and 1.
    """
    if not points:
        return []
    names = max(len(label) for label, _, _ in points)
    values = [best_estimate(row) or 0.0 for _, row, _ in points]
    figures = [f"{value:.2f}×{note}" for value, (_, _, note) in zip(values, points, strict=True)]
    room = max(width - names - max(map(len, figures)) - 4, 8)
    limits = [limit for _, row, _ in points for limit in (row.ci_low, row.ci_high) if limit is not None]
    low, high = min([1.0, *values, *limits]), max([1.0, *values, *limits])

    def place(value: float) -> int:
        share = (value - low) / ((high - low) or 1.0)
        return min(max(round(share * (room - 1)), 0), room - 1)

    rows = []
    for (label, row, _), value, text in zip(points, values, figures, strict=True):
        cells = [" "] * room
        cells[place(1.0)] = "┊"
        if row.ci_low is not None and row.ci_high is not None:
            first, last = place(row.ci_low), place(row.ci_high)
            cells[first : last + 1] = ["─"] * (last + 1 - first)
            if last > first:
                cells[first], cells[last] = "├", "┤"
        cells[place(value)] = "●"
        rows.append(f"{label:>{names}}  {''.join(cells)}  {text}")
    axis = [" "] * (room + 8)
    for value in (low, high, 1.0):
        text = f"{value:.2f}×"
        start = min(max(place(value) - len(text) // 2, 0), len(axis) - len(text))
        if all(cell == " " for cell in axis[max(start - 1, 0) : start + len(text) + 1]):  # else it would touch another
            axis[start : start + len(text)] = list(text)
    return [*rows, f"{'':>{names}}  {''.join(axis)}".rstrip()]
