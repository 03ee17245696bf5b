"""A small plot in text: a row a point, its interval as a bar, so that it needs no colour and no wide terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class PlotRow:
    """One row: `label`, its `value` and interval (None where there is none), `note` after the figure."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""


def interval_plot(points: Sequence[PlotRow], *, width: int) -> list[str]:
    """Rows `label ─●─ 1.41×` on one scale with a line at 1; at most `width` characters wide.

    The scale is linear and holds every interval and 1.
    """
    if not points:
        return []
    names = max(len(point.label) for point in points)
    figures = [f"{point.value:.2f}×{point.note}" for point in points]
    room = max(width - names - max(map(len, figures)) - 4, 8)
    low = min([1.0, *(point.value if point.low is None else point.low for point in points)])
    high = max([1.0, *(point.value if point.high is None else point.high for point in points)])

    def place(value: float) -> int:
        share = (value - low) / ((high - low) or 1.0)
        return min(max(round(share * (room - 1)), 0), room - 1)

    rows = [
        f"{point.label:>{names}}  {_bar(point, place, room)}  {text}"
        for point, text in zip(points, figures, strict=True)
    ]
    return [*rows, f"{'':>{names}}  {_axis((low, high, 1.0), place, room + 8)}".rstrip()]


def _bar(point: PlotRow, place: Callable[[float], int], room: int) -> str:
    cells = [" "] * room
    cells[place(1.0)] = "┊"
    if point.low is not None and point.high is not None:
        first, last = place(point.low), place(point.high)
        cells[first : last + 1] = ["─"] * (last + 1 - first)
        if last > first:
            cells[first], cells[last] = "├", "┤"
    cells[place(point.value)] = "●"
    return "".join(cells)


def _axis(values: Sequence[float], place: Callable[[float], int], room: int) -> str:
    """The values under their places, but for those that would touch an earlier one."""
    cells = [" "] * room
    for value in values:
        text = f"{value:.2f}×"
        start = min(max(place(value) - len(text) // 2, 0), room - len(text))
        if all(cell == " " for cell in cells[max(start - 1, 0) : start + len(text) + 1]):
            cells[start : start + len(text)] = list(text)
    return "".join(cells).rstrip()
