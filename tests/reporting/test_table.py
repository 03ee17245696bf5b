from __future__ import annotations

from velosweep.reporting.table import Table, column, figure, markdown_lines, terminal_lines

ROWS = ("x", "y")
TABLE = Table(
    caption="Columns",
    columns=(
        column("a", ROWS, lambda row: figure(1 if row == "x" else 2, 0)),
        column("long and dispensable", ROWS, lambda row: row, drop=2),
        column("less so", ROWS, lambda row: row, drop=1),
        column("empty", ROWS, lambda row: None),
    ),
)


def test_columns_give_way_in_order_and_empty_ones_are_left_out() -> None:
    assert terminal_lines(TABLE, width=80)[0] == "a  long and dispensable  less so"
    assert terminal_lines(TABLE, width=12)[0] == "a  less so"
    assert terminal_lines(TABLE, width=3)[:3] == ["a", "1", "2"]
    assert terminal_lines(TABLE, width=12)[-1] == "(a wider window or | cat shows long and dispensable too)"
    assert terminal_lines(TABLE, width=None)[0] == "a  long and dispensable  less so"


def test_markdown_has_an_alignment_a_column_and_no_markup_of_its_cells() -> None:
    table = Table(
        caption="Names", columns=(column("n", [1.5], figure), column("name", ["a|b"], lambda name: name, right=False))
    )

    assert markdown_lines(table) == ["| n | name |", "|---:|---|", "| 1.50 | a\\|b |"]


def test_rows_are_told_apart_as_long_as_columns_can_be_left_out() -> None:
    settings = ("draft.gguf, n_draft 4", "draft.gguf, n_draft 8")
    named = column("setting", settings, str, right=False)
    speeds = [column(title, settings, lambda _: "100.0", drop=drop) for title, drop in (("old", 2), ("new", 0))]

    told = terminal_lines(Table(caption="", columns=(named, *speeds)), width=30)
    cut = terminal_lines(Table(caption="", columns=(named, *speeds)), width=24)

    assert [line.split("  ")[0] for line in told[1:3]] == list(settings)
    assert told[-1] == "(a wider window or | cat shows old too)"
    assert [line.split("  ")[0] for line in cut[1:3]] == ["draft.gguf, n_dr…"] * 2  # nothing is left to leave out
