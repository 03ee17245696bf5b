"""What benchmarks find: figures beside what is asked of them, a line each as they come and a table at the end."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from velosweep.machine.environment import cpu_name


@dataclass(frozen=True, kw_only=True)
class Figure:
    """`value` with `low` and `high`: the least and the greatest of `runs`, or what `spread` says they are.

    `least`, `most`: what is asked of the value; None where nothing is.
    """

    what: str
    value: float
    low: float
    high: float
    runs: int
    unit: str = ""
    spread: str = "min, max"
    least: float | None = None
    most: float | None = None

    @property
    def asked(self) -> str:
        """What is asked, in signs."""
        limits = (("≥", self.least), ("≤", self.most))
        return " ".join(f"{sign} {limit:g}{self.unit}" for sign, limit in limits if limit is not None)

    @property
    def met(self) -> str:
        """Whether the value is as asked."""
        if not self.asked:
            return ""
        low = self.least is None or self.value >= self.least
        high = self.most is None or self.value <= self.most
        return "yes" if low and high else "no"


def of_runs(
    what: str, values: Sequence[float], unit: str = "", *, least: float | None = None, most: float | None = None
) -> Figure:
    """The median of single runs."""
    return Figure(
        what=what,
        value=statistics.median(values),
        low=min(values),
        high=max(values),
        runs=len(values),
        unit=unit,
        least=least,
        most=most,
    )


def machine() -> str:
    """Where and when it was measured, and beside what."""
    now = datetime.now(timezone.utc)
    return f"{cpu_name()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}, {now:%Y-%m-%d %H:%M} UTC"


def show(figure: Figure) -> None:
    """One line."""
    verdict = f"  asked {figure.asked}: {figure.met}" if figure.asked else ""
    spread = f"({figure.spread} {figure.low:.4g}, {figure.high:.4g}; {figure.runs} runs)"
    print(f"  {figure.what:<62} {figure.value:.4g}{figure.unit} {spread}{verdict}", flush=True)


def table(figures: Iterable[Figure]) -> str:
    """Markdown, a row a figure."""
    lines = ["| figure | asked | median | spread | runs | met |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {one.what} | {one.asked} | {one.value:.4g}{one.unit} | {one.spread} {one.low:.4g}, {one.high:.4g} "
        f"| {one.runs} | {one.met} |"
        for one in figures
    ]
    return "\n".join(lines)
