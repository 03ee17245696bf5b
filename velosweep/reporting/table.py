"""A table as a value, rendered as text for a terminal and as Markdown. html.py renders it for the page."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from velosweep.reporting.console import say_lines
from velosweep.reporting.escaping import clip, markdown_text, terminal_text
from velosweep.units import plural

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")
_LEAST_TEXT = 12  # columns of text are not clipped below this


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
    """One column. Where a screen is too narrow, those with the highest `drop` are left out first (0: never)."""

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


def terminal_lines(table: Table, *, width: int | None) -> list[str]:
    """Aligned lines, titles first, without the columns that are empty.

    On a screen of `width` (None: no screen, so no limit) texts are clipped where they don't fit, then columns are left
    out, which the last line names or counts. Texts of the first column name the rows: they are clipped beyond what
    tells them apart only where no column can be left out. What still doesn't fit is cut by `say_lines`.
    """
    from rich.cells import cell_len

    shown = [
        (column, [terminal_text(text) for text in (column.title, *(cell.text for cell in column.cells))])
        for column in table.without_empty()
    ]
    left_out = []

    def excess() -> int:
        return 0 if width is None else sum(max(map(cell_len, texts)) + 2 for _, texts in shown) - 2 - width

    while (over := excess()) > 0:
        words = [texts for column, texts in shown if not column.right]
        longest = max(words, key=lambda texts: max(map(cell_len, texts)), default=[""])
        size = max(map(cell_len, longest))
        clipped = [clip(text, max(size - over, _LEAST_TEXT)) for text in longest]
        droppable = [entry for entry in shown if entry[0].drop]
        told_apart = longest is not shown[0][1] or len(set(clipped)) == len(set(longest))
        if size > _LEAST_TEXT and (told_apart or not droppable):
            longest[:] = clipped
        elif droppable:
            shown.remove(gone := max(droppable, key=lambda entry: entry[0].drop))
            left_out.append(gone[0].title)
        else:
            break
    padded = []
    for column, texts in shown:
        size = max(map(cell_len, texts))
        gaps = [" " * (size - cell_len(text)) for text in texts]
        padded.append([gap + text if column.right else text + gap for text, gap in zip(texts, gaps, strict=True)])
    lines = ["  ".join(row).rstrip() for row in zip(*padded, strict=True)]
    if left_out:
        more = f"(a wider window or | cat shows {', '.join(left_out)} too)"
        named = width is None or len(more) <= width or len(left_out) == 1
        lines.append(more if named else f"({plural(len(left_out), 'more column')} in a wider window or by | cat)")
    return lines


def print_table(table: Table, console: "Console") -> None:
    """Print a table within the columns of a terminal, and whole elsewhere: what is piped loses nothing."""
    say_lines(console, terminal_lines(table, width=int(console.width) if console.is_terminal else None))


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
