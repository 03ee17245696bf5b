"""A small plot in text: a row a point, its interval as a bar, so that it needs no colour and no wide terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class PlotRow:
    """One row: `label`, its `value` and interval (None where there is none), `note` after the figure."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""


def interval_plot(points: Sequence[PlotRow], *, width: int, reference: float = 1.0, unit: str = "×") -> list[str]:
    """Rows `label ─●─ 1.41×` on one scale with a line at `reference`; at most `width` characters wide.

    The scale is linear and holds every interval and the reference.
    """
    if not points:
        return []
    names = max(len(point.label) for point in points)
    figures = [f"{point.value:.2f}{unit}{point.note}" for point in points]
    room = max(width - names - max(map(len, figures)) - 4, 8)
    low = min([reference, *(point.value if point.low is None else point.low for point in points)])
    high = max([reference, *(point.value if point.high is None else point.high for point in points)])
    scale = _Scale(low=low, high=high, room=room)
    rows = [
        f"{point.label:>{names}}  {_bar(point, scale, reference)}  {figure}"
        for point, figure in zip(points, figures, strict=True)
    ]
    axis = _axis(scale, reference, unit)
    return [*rows, f"{'':>{names}}  {axis}".rstrip()]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scale:
    low: float
    high: float
    room: int

    def column(self, value: float) -> int:
        span = (self.high - self.low) or 1.0
        return min(max(round((value - self.low) / span * (self.room - 1)), 0), self.room - 1)


def _bar(point: PlotRow, scale: _Scale, reference: float) -> str:
    cells = [" "] * scale.room
    cells[scale.column(reference)] = "┊"
    if point.low is not None and point.high is not None:
        first, last = scale.column(point.low), scale.column(point.high)
        cells[first : last + 1] = ["─"] * (last + 1 - first)
        if last > first:
            cells[first], cells[last] = "├", "┤"
    cells[scale.column(point.value)] = "●"
    return "".join(cells)


def _axis(scale: _Scale, reference: float, unit: str) -> str:
    cells = [" "] * (scale.room + 8)
    for value in (scale.low, scale.high, reference):
        text = f"{value:.2f}{unit}"
        start = min(max(scale.column(value) - len(text) // 2, 0), scale.room + 8 - len(text))
        if all(cell == " " for cell in cells[max(start - 1, 0) : start + len(text) + 1]):
            cells[start : start + len(text)] = list(text)
    return "".join(cells).rstrip()
