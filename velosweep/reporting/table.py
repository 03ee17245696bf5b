"""A table as a value, rendered as text for a terminal and as Markdown. The page's template renders it as HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from velosweep.reporting.escaping import markdown_text, terminal_text

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """`text` is empty where nothing is known. `value` sorts the column where the text would sort otherwise.

    `verdict`: the page marks the cell in this verdict's colour.
    """

    text: str
    value: float | None = None
    verdict: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column. On narrow screens those with the highest `drop` are left out first (0: never)."""

    title: str
    cells: tuple[Cell, ...]
    right: bool = True
    drop: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Columns of equal length. `advised`: numbers of the rows that are the advised settings."""

    caption: str
    columns: tuple[Column, ...]
    advised: frozenset[int] = frozenset()

    @property
    def rows(self) -> list[tuple[Cell, ...]]:
        """The cells row by row."""
        return list(zip(*(column.cells for column in self.columns), strict=True))

    def without_empty(self) -> list[Column]:
        """The columns in which something is known."""
        return [column for column in self.columns if any(cell.text for cell in column.cells)]


def column(
    title: str, items: Iterable[T], cell_of: Callable[[T], Cell | str | None], *, right: bool = True, drop: int = 0
) -> Column:
    """A column with a cell for each item; `cell_of` may give just the text, or None where nothing is known."""
    found = (cell_of(item) for item in items)
    cells = tuple(cell if isinstance(cell, Cell) else Cell(text=cell or "") for cell in found)
    return Column(title=title, cells=cells, right=right, drop=drop)


def figure(value: float | None, digits: int = 2, unit: str = "") -> Cell:
    """A number with fixed decimals."""
    return Cell(text="" if value is None else f"{value:.{digits}f}{unit}", value=value)


def percentage(share: float | None) -> Cell:
    """A share of 1 in whole per cent."""
    return Cell(text="" if share is None else f"{100 * share:.0f} %", value=share)


def terminal_lines(table: Table, *, width: int) -> list[str]:
    """Aligned lines with a rule under the titles, without the columns that are empty or don't fit `width`.

    What still doesn't fit is cut by `say_lines`.
    """
    kept = table.without_empty()
    widths = {id(column): _width(column) for column in kept}

    def total() -> int:
        return sum(widths[id(column)] for column in kept) + 2 * (len(kept) - 1)

    while total() > width and any(column.drop for column in kept):
        kept.remove(max(kept, key=lambda column: column.drop))
    rows: list[Sequence[str]] = [[column.title for column in kept]]
    rows += [[cell.text for cell in row] for row in zip(*(column.cells for column in kept), strict=True)]
    lines = [
        "  ".join(_aligned(text, widths[id(column)], column.right) for text, column in zip(row, kept, strict=True))
        for row in rows
    ]
    return [lines[0].rstrip(), "─" * total(), *(line.rstrip() for line in lines[1:])]


def _width(column: Column) -> int:
    from rich.cells import cell_len

    return max(cell_len(terminal_text(text)) for text in (column.title, *(cell.text for cell in column.cells)))


def _aligned(text: str, width: int, right: bool) -> str:
    from rich.cells import cell_len

    shown = terminal_text(text)
    gap = " " * (width - cell_len(shown))
    return gap + shown if right else shown + gap


def markdown_lines(table: Table) -> list[str]:
    """A pipe table without the columns that are empty; nothing where all are."""
    columns = table.without_empty()
    if not columns:
        return []
    rows = zip(*(column.cells for column in columns), strict=True)
    return [
        f"| {' | '.join(markdown_text(column.title) for column in columns)} |",
        f"|{'|'.join('---:' if column.right else '---' for column in columns)}|",
        *(f"| {' | '.join(markdown_text(cell.text) for cell in row)} |" for row in rows),
    ]
