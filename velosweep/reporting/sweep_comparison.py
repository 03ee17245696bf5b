"""Two sweeps side by side, on the screen and as a page: what changed, how surely, and in what the sweeps differ."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from velosweep.reporting.console import say
from velosweep.reporting.html import render_template
from velosweep.reporting.table import Cell, Table, column, figure, print_table
from velosweep.reporting.wording import first_few, interval, join_words, names_of, percent
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.intervals import Interval
from velosweep.statistics.sweep_changes import Change, SweepChanges
from velosweep.units import plural

if TYPE_CHECKING:
    from rich.console import Console

CAVEAT = (
    "new / old: ratio of the setting's own speeds, with its 95 % interval. vanilla: the same for vanilla: machine "
    "drift. of speedups: new / old of the speedups, each against vanilla in its own sweep. "
    "Speeds of two sweeps were measured at different times: their interval assumes that the machine did not drift "
    "between them. The ratio of the speedups does not, where both sweeps interleave their runs. Of servers that were "
    "started once (protocol.launches=1) both assume that another start would be as fast."
)

WIDEST_HIDDEN_CHANGE = 0.1  # where intervals are so wide that they would hide more, their overlap is no reproduction


@dataclass(frozen=True, kw_only=True)
class SweepComparison:
    """All that is shown of two sweeps: their names, their changes, and the differences of their environments."""

    old: str
    new: str
    changes: SweepChanges
    differences: Sequence[str] = ()  # `host was here, is there`

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """What tells the new sweep's jobs apart, by job id."""
        return names_of([*(change.new for change in self.changes.changes), *self.changes.only_new]).labels

    def label(self, change: Change) -> str:
        """The job of a change, and its prompt where it is about one."""
        return _label(change.new, self.labels)

    @property
    def only_in(self) -> tuple[tuple[str, list[str]], ...]:
        """`Only in the … sweep` with the labels of the jobs without a partner, old and new."""
        old = names_of([*(change.old for change in self.changes.changes), *self.changes.only_old]).labels
        return (
            ("Only in the old sweep", [_label(row, old) for row in self.changes.only_old]),
            ("Only in the new sweep", [_label(row, self.labels) for row in self.changes.only_new]),
        )

    @property
    def headline(self) -> str:
        """The answer in one sentence."""
        changes = self.changes.changes
        known = [change for change in changes if change.ratio is not None]
        if not known and changes:
            return "Nothing to compare: no shared setting has two samples or more in each"
        if not known:
            apart = "; ".join(_settings_apart(self.changes.only_old, self.changes.only_new))
            return f"Nothing to compare: the sweeps have no setting in common{': ' if apart else ''}{apart}"
        changed = [change for change in known if change.real]
        if not changed:
            return f"No change found in {plural(len(known), 'setting')}; {_unseen(change.ratio for change in known)}"
        named = join_words(
            f"{self.label(change)} is {_words(change)}: {_ratio_words(change.ratio)}" for change in changed[:5]
        )
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        drift = "; so did vanilla, but no speedup: check the machine" if all(map(_drifted, changed)) else ""
        return f"{len(changed)} of {plural(len(known), 'setting')} really changed speed: {named}{more}{drift}"

    @property
    def reproduced(self) -> str:
        """How many speed-ups were reproduced, by intervals narrow enough to tell, in one sentence."""
        judged = [change for change in self.changes.changes if change.reproduced is not None]
        if not judged:
            return "Nothing can be said about reproduction: no setting has an interval in both sweeps"
        lost = [change for change in judged if not change.reproduced]
        agreeing = ((change, change.speedup_ratio or change.ratio) for change in judged if change.reproduced)
        unclear = {  # they agree only because their intervals are too wide to tell them apart
            self.label(change): ratio
            for change, ratio in agreeing
            if ratio is None or _hidden_change(ratio) > WIDEST_HIDDEN_CHANGE
        }
        sure = len(judged) - len(lost) - len(unclear)
        what = "Speedups reproduced" if any(change.new.ci_low is not None for change in judged) else "Reproduced"
        text = f"{what} within their intervals: {sure} of {plural(len(judged), 'setting')}"
        if lost:
            text += f"; not {join_words(first_few(list(map(self.label, lost)), 5))}"
        if unclear:
            hidden = _unseen(unclear.values())
            text += f"; can't tell for {join_words(first_few(list(unclear), 5))}"
            text += "" if hidden in self.headline else f": {hidden}"
        return text


def _label(row: Comparison, labels: Mapping[str, str]) -> str:
    return labels[row.job_id] if row.prompt_id is None else f"{labels[row.job_id]} · {row.prompt_id}"


def _settings_apart(old: Sequence[Comparison], new: Sequence[Comparison]) -> Iterator[str]:
    """The settings by which jobs are matched that have no value in common."""
    names = names_of([*old, *new])
    for key in names.keys:
        before, after = (list(dict.fromkeys(names.texts[key][row.job_id] for row in rows)) for rows in (old, new))
        if before and after and not set(before) & set(after):
            yield f"{names.titles[key]} is {join_words(before)} in the old one, {join_words(after)} in the new one"


_SIGNS = {"can't tell": "–", "none found": "≈", "faster": "▲", "slower": "▼"}


def _words(change: Change) -> str:
    if change.ratio is None:
        return "can't tell"
    if not change.real:
        return "none found"
    return "faster" if change.ratio.ratio > 1 else "slower"


def _drifted(change: Change) -> bool:
    """Whether vanilla changed the same way and the speedup did not: then the machine changed, not the setting."""
    ratio, vanilla, of_speedups = change.ratio, change.vanilla_ratio, change.speedup_ratio
    if ratio is None or vanilla is None or of_speedups is None:
        return False
    moved = vanilla.low > 1 if ratio.ratio > 1 else vanilla.high < 1
    return moved and of_speedups.low <= 1 <= of_speedups.high


def _hidden_change(ratio: Interval) -> float:
    """The largest change, as a share, that goes unseen: the interval would still hold 1 at least half of the time."""
    return math.sqrt(ratio.high / ratio.low) - 1 if ratio.low > 0 else math.inf


def _unseen(ratios: Iterable[Interval | None]) -> str:
    """How small a change the widest of these intervals would have hidden."""
    widest = max((_hidden_change(ratio) for ratio in ratios if ratio is not None), default=math.inf)
    return f"a change under about {percent(max(widest, 0.01))} would not have been seen"


def _ratio_words(ratio: Interval | None) -> str:
    return "" if ratio is None else f"{ratio.ratio:.3f}× {interval(ratio.low, ratio.high, 3)}"


def change_table(compared: SweepComparison) -> Table:
    """One row a job; its speed is the speculative mode's, else vanilla's."""
    changes = compared.changes.changes

    def vanilla(change: Change) -> Cell:
        return figure(change.vanilla_ratio.ratio if change.vanilla_ratio else None, 3, "×")

    columns = (
        column("setting", changes, compared.label, right=False),
        column("old tok/s", changes, lambda change: _speed(change.old), drop=3),
        column("new tok/s", changes, lambda change: _speed(change.new), drop=2),
        column("new / old", changes, lambda change: _ratio_words(change.ratio)),
        column("vanilla", changes, vanilla, drop=5),
        column("old speedup", changes, lambda change: figure(change.old.speedup_gm), drop=6),
        column("new speedup", changes, lambda change: figure(change.new.speedup_gm), drop=6),
        column("of speedups", changes, lambda change: _ratio_words(change.speedup_ratio), drop=4),
        column("change", changes, lambda change: f"{_SIGNS[_words(change)]} {_words(change)}", right=False),
    )
    return Table(caption="Every setting", columns=columns)


def _speed(row: Comparison) -> Cell:
    return figure(row.speculative_speed or row.vanilla_speed, 1)


def print_comparison(compared: SweepComparison, console: "Console") -> None:
    """The differences between the sweeps, the answer, what was reproduced, and a row a job."""
    say(console, f"Old: {compared.old}")
    say(console, f"New: {compared.new}")
    for difference in compared.differences:
        say(console, f"⚠ Unlike: {difference}", style="yellow")
    say(console)
    say(console, compared.headline, style="bold")
    say(console, compared.reproduced)
    if compared.changes.changes:
        say(console)
        print_table(change_table(compared), console)
        say(console)
        say(console, CAVEAT, style="dim")
    for title, labels in compared.only_in:
        if labels:
            say(console, f"{title}: {join_words(labels)}")


def render_comparison(compared: SweepComparison) -> str:
    """One page that works offline, without a script. The same values give the same bytes.

    Home directories are shortened, and hosts have no names.
    """
    plain = tuple("host is another" if words.startswith("host was ") else words for words in compared.differences)
    return render_template(
        "comparison.html.j2",
        show_paths=False,
        compared=replace(compared, differences=plain),
        caveat=CAVEAT,
        table=change_table(compared),
        picture=_picture(compared),
    )


def _picture(compared: SweepComparison) -> dict[str, Any] | None:
    """Ratios with their intervals on one axis, all places in per cent of its width; None where there are none.

    `rows`: label, low, value, high and style class; `ticks`: place and label; `one`: the place of the ratio 1.
    """
    known = [(change, change.ratio) for change in compared.changes.changes if change.ratio is not None]
    if not known:
        return None
    low = min(1.0, *(ratio.low for _, ratio in known))
    high = max(1.0, *(ratio.high for _, ratio in known))
    margin = 0.05 * (high - low) or 0.05

    def place(value: float) -> float:
        return round(100 * (value - low + margin) / (high - low + 2 * margin), 3)

    rows = []
    for change, ratio in known:
        places = place(ratio.low), place(ratio.ratio), place(ratio.high)
        rows.append((compared.label(change), *places, _words(change).replace(" ", "-")))
    return {"rows": rows, "one": place(1.0), "ticks": [(place(value), f"{value:.3f}") for value in (low, 1.0, high)]}
