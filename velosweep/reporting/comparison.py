"""Two sweeps side by side, on the screen and as a page: what changed, how surely, and what makes them unlike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from velosweep.reporting.screen import Column, say, say_all, table_lines, width_of
from velosweep.reporting.wording import interval, listed, number, percent
from velosweep.units import plural

if TYPE_CHECKING:
    from rich.console import Console

CAVEAT = (
    "new / old: of the job's own speed, with its 95 % interval. vanilla: the same of vanilla, which says how the "
    "machine moved. of speedups: new / old of the speed-ups, each against the vanilla of its own sweep. "
    "Speeds of two sweeps were measured at different times: their interval assumes that the machine did not drift "
    "between them. The ratio of the speed-ups does not assume it, where both sweeps interleave their arms."
)

VAGUE = 0.1
"""Intervals that would hide a larger change than this show no reproduction by overlapping."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RatioShown:
    """new / old with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def blind(self) -> float:
        """The change, as a share, under which the interval would hold 1 about half the time or more: unseen."""
        return math.sqrt(self.high / self.low) - 1 if self.low > 0 else math.inf

    def __str__(self) -> str:
        return f"{self.value:.3f}× {interval(self.low, self.high, 3)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangeRow:
    """How one job moved. `speed` and its ratio are of what the job is about: speculative, else vanilla.

    `real`: a change that stands after correction for the number of jobs; `reproduced`: the sweeps' intervals
    of the speed-up overlap (None where there is none).
    """

    label: str
    old_speed: float | None
    new_speed: float | None
    ratio: RatioShown | None
    vanilla_ratio: RatioShown | None
    speedup_ratio: RatioShown | None
    old_speedup: float | None
    new_speedup: float | None
    real: bool
    reproduced: bool | None

    @property
    def sign(self) -> str:
        """Tells the kind of change without colour."""
        if self.ratio is None:
            return "–"
        if not self.real:
            return "≈"
        return "▲" if self.ratio.value > 1 else "▼"

    @property
    def drifted(self) -> bool:
        """Whether vanilla surely moved the same way and the speedup not surely at all: the machine, not the setting."""
        if self.ratio is None or self.vanilla_ratio is None or self.speedup_ratio is None:
            return False
        moved = self.vanilla_ratio.low > 1 if self.ratio.value > 1 else self.vanilla_ratio.high < 1
        return moved and self.speedup_ratio.low <= 1 <= self.speedup_ratio.high

    @property
    def judged_by(self) -> RatioShown | None:
        """What reproduction is judged by: the ratio of the speed-ups, else that of the speeds."""
        return self.speedup_ratio or self.ratio

    @property
    def vague(self) -> bool:
        """Whether the sweeps agree only because their intervals are too wide to tell them apart."""
        return bool(self.reproduced) and (self.judged_by is None or self.judged_by.blind > VAGUE)

    @property
    def words(self) -> str:
        """What is to be made of it."""
        if self.ratio is None:
            return "can't tell"
        if not self.real:
            return "no change found"
        return "faster" if self.ratio.value > 1 else "slower"


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonShown:
    """All that is shown. `unlike`: (what, old, new); `only_old`, `only_new`: labels of jobs without a partner.

    `apart`: (what, old, new) of settings that no job of one sweep shares with one of the other.
    """

    old: str
    new: str
    rows: tuple[ChangeRow, ...]
    unlike: tuple[tuple[str, str, str], ...] = ()
    only_old: tuple[str, ...] = ()
    only_new: tuple[str, ...] = ()
    apart: tuple[tuple[str, str, str], ...] = ()

    @property
    def headline(self) -> str:
        """The answer in one sentence."""
        told = [row for row in self.rows if row.ratio is not None]
        if not told:
            why = (
                "no job that both have has two samples or more in each"
                if self.rows
                else "the sweeps have no job in common"
            )
            parts = "; ".join(f"{what} is {old} in the old one, {new} in the new one" for what, old, new in self.apart)
            return f"Nothing to compare: {why}{': ' if parts else ''}{parts}"
        changed = [row for row in told if row.real]
        if not changed:
            return f"No change found in {plural(len(told), 'job')}; {_unseen(row.ratio for row in told)}"
        named = listed(f"{row.label} is {row.words}: {row.ratio}" for row in changed[:5])
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        drift = (
            "" if any(not row.drifted for row in changed) else "; so did vanilla, and no speedup: look at the machine"
        )
        return f"{len(changed)} of {plural(len(told), 'job')} really changed: {named}{more}{drift}"

    @property
    def reproduced(self) -> str:
        """How many speed-ups came out again within intervals narrow enough to tell, in one sentence."""
        judged = [row for row in self.rows if row.reproduced is not None]
        if not judged:
            return "Nothing can be said about reproduction: no job has an interval in both sweeps"
        lost = [row for row in judged if not row.reproduced]
        vague = [row for row in judged if row.vague]
        sure = len(judged) - len(lost) - len(vague)
        said = f"Reproduced within their intervals: {sure} of {plural(len(judged), 'job')}"
        said += f"; not {listed(row.label for row in lost)}" if lost else ""
        if vague:
            said += f"; can't tell of {listed(row.label for row in vague)}: {_unseen(row.judged_by for row in vague)}"
        return said


def _unseen(ratios: Iterable[RatioShown | None]) -> str:
    """How small a change the widest of these intervals would have hidden."""
    widest = max((ratio.blind for ratio in ratios if ratio is not None), default=math.inf)
    return f"a change under about {percent(max(widest, 0.01))} would not have been seen"


def print_comparison(shown: ComparisonShown, console: Console) -> None:
    """The answer, what came out again, what makes the sweeps unlike, and a row a job."""
    say(console, f"Old: {shown.old}")
    say(console, f"New: {shown.new}")
    for what, old, new in shown.unlike:
        say(console, f"⚠ Unlike: {what} was {old or 'unknown'}, is {new or 'unknown'}", style="yellow")
    say(console)
    say(console, shown.headline, style="bold")
    say(console, shown.reproduced)
    if shown.rows:
        say(console)
        say_all(console, table_lines(change_columns(shown.rows), width=width_of(console)))
        say(console)
        say(console, CAVEAT, style="dim")
    for title, labels in (("Only in the old sweep", shown.only_old), ("Only in the new sweep", shown.only_new)):
        if labels:
            say(console, f"{title}: {listed(labels)}")


def change_columns(rows: Sequence[ChangeRow]) -> list[Column]:
    """One row a job."""

    def column(title: str, word: Callable[[ChangeRow], str], *, sacrifice: int, right: bool = True) -> Column:
        return Column(title=title, cells=tuple(word(row) for row in rows), sacrifice=sacrifice, right=right)

    return [
        column("job", lambda row: row.label, sacrifice=0, right=False),
        column("old tok/s", lambda row: number(row.old_speed, 1), sacrifice=3),
        column("new tok/s", lambda row: number(row.new_speed, 1), sacrifice=2),
        column("new / old", lambda row: str(row.ratio or ""), sacrifice=0),
        column("vanilla", lambda row: _times(row.vanilla_ratio), sacrifice=5),
        column("old speedup", lambda row: number(row.old_speedup), sacrifice=6),
        column("new speedup", lambda row: number(row.new_speedup), sacrifice=6),
        column("of speedups", lambda row: str(row.speedup_ratio or ""), sacrifice=4),
        column("change", lambda row: f"{row.sign} {row.words}", sacrifice=0, right=False),
    ]


def _times(ratio: RatioShown | None) -> str:
    return "" if ratio is None else f"{ratio.value:.3f}×"


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A row of the picture: places across its width in per cent."""

    label: str
    low: float
    value: float
    high: float
    kind: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """Intervals on one axis; `one` is where the ratio 1 stands, `ticks` are (place in per cent, label)."""

    marks: tuple[Mark, ...]
    one: float
    ticks: tuple[tuple[float, str], ...]


def picture_of(rows: Sequence[ChangeRow]) -> Picture | None:
    """Ratios with their intervals, None where there are none."""
    told = [(row, row.ratio) for row in rows if row.ratio is not None]
    if not told:
        return None
    low = min(1.0, *(ratio.low for _, ratio in told))
    high = max(1.0, *(ratio.high for _, ratio in told))
    margin = 0.05 * (high - low) or 0.05
    low, high = low - margin, high + margin

    def place(value: float) -> float:
        return round(100 * (value - low) / (high - low), 3)

    marks = tuple(
        Mark(
            label=row.label,
            low=place(ratio.low),
            value=place(ratio.value),
            high=place(ratio.high),
            kind=row.words.replace(" ", "-").replace("'", ""),
        )
        for row, ratio in told
    )
    ticks = tuple((place(value), f"{value:.3f}") for value in (low + margin, 1.0, high - margin))
    return Picture(marks=marks, one=place(1.0), ticks=ticks)


def render_comparison(shown: ComparisonShown, *, show_paths: bool = False) -> str:
    """One page that works offline, without a script. The same values give the same bytes."""
    from markupsafe import Markup

    from velosweep.reporting.html import _environment, _template
    from velosweep.reporting.safe import shorten_homes

    columns = change_columns(shown.rows) if shown.rows else []
    text = (
        _environment()
        .get_template("comparison.html.j2")
        .render(
            shown=shown,
            caveat=CAVEAT,
            titles=[column.title for column in columns],
            rows=list(zip(*(column.cells for column in columns), strict=True)),
            picture=picture_of(shown.rows),
            css=Markup(_template("report.css")),  # noqa: S704 (our own file)
        )
    )
    return text if show_paths else shorten_homes(text)
