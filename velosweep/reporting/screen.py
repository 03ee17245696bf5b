"""Where text for people goes: a rich console that is plain without a terminal and never obeys what it prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from velosweep.reporting.safe import clip, for_encoding, terminal_text

if TYPE_CHECKING:
    from rich.console import Console

QUIET, NORMAL, VERBOSE = -1, 0, 1  # RunSettings.verbosity
PLAIN_WIDTH = 100  # without a terminal nobody wraps; plots and tables still need a width


def make_console(file: IO[str] | None = None, *, stderr: bool = False) -> Console:
    """A console on `file` (default stdout): colour where there is a terminal and no NO_COLOR (bold and dim stay)."""
    from rich.console import Console

    return Console(file=file, stderr=stderr, highlight=False, markup=False, emoji=False)


def width_of(console: Console) -> int:
    """Columns to lay tables and plots out for."""
    return int(console.width) if console.is_terminal else PLAIN_WIDTH


def say(console: Console, text: str = "", *, style: str | None = None, indent: int = 0, whole: bool = False) -> None:
    """Print one line, wrapped at words (continuations indented) on a terminal and left whole elsewhere.

    `whole`: leave the wrapping to the terminal, so that a command copied from it is one line.
    """
    from rich.text import Text

    body = for_encoding(terminal_text(text), console.encoding)
    if whole or not console.is_terminal:
        console.print(Text(" " * indent + body, style=style or ""), soft_wrap=True)
        return
    from rich.padding import Padding

    console.print(Padding(Text(body, style=style or "", overflow="fold"), (0, 0, 0, indent)))


def say_all(console: Console, lines: Iterable[str], *, style: str | None = None) -> None:
    """Print lines that are laid out already: cut at the terminal's edge rather than wrapped."""
    from rich.text import Text

    for line in lines:
        body = for_encoding(terminal_text(line), console.encoding)
        if console.is_terminal:
            body = clip(body, width_of(console))
        console.print(Text(body, style=style or ""), soft_wrap=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column of a text table. On narrow screens those with the highest `sacrifice` go first (0: never)."""

    title: str
    cells: tuple[str, ...]
    right: bool = True
    sacrifice: int = 0


def table_lines(columns: Sequence[Column], *, width: int) -> list[str]:
    """The columns as aligned lines with a rule under the titles, those left out that don't fit `width`.

    Columns whose cells are all empty are left out too. What still doesn't fit is cut by `say_all`.
    """
    kept = [column for column in columns if any(column.cells)]
    while _table_width(kept) > width and any(column.sacrifice for column in kept):
        kept.remove(max(kept, key=lambda column: column.sacrifice))
    widths = [_column_width(column) for column in kept]
    rows = [tuple(column.title for column in kept), *zip(*(column.cells for column in kept), strict=True)]
    aligned = ["  ".join(_align(cell, size, column.right) for cell, size, column in zip(row, widths, kept, strict=True))
               for row in rows]  # fmt: skip
    return [aligned[0].rstrip(), "─" * (sum(widths) + 2 * (len(widths) - 1)), *(line.rstrip() for line in aligned[1:])]


def _column_width(column: Column) -> int:
    from rich.cells import cell_len

    return max(cell_len(terminal_text(text)) for text in (column.title, *column.cells))


def _table_width(columns: Sequence[Column]) -> int:
    return sum(_column_width(column) for column in columns) + 2 * (len(columns) - 1)


def _align(cell: str, width: int, right: bool) -> str:
    from rich.cells import cell_len

    text = terminal_text(cell)
    gap = " " * (width - cell_len(text))
    return gap + text if right else text + gap
