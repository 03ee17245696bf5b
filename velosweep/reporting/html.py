"""report.html: one file that works offline. The same comparisons, record and samples give the same bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from velosweep.records import SweepRecord
from velosweep.reporting.answer import CommandFlags
from velosweep.reporting.page import make_page
from velosweep.reporting.safe import json_for_script, shorten_homes
from velosweep.statistics.comparison import Comparison

if TYPE_CHECKING:
    import pyarrow as pa
    from jinja2 import Environment

_PLOTLY_HERE = "@@PLOTLY@@"


def render_report(
    comparisons: Iterable[Comparison],
    record: SweepRecord,
    samples: pa.Table | None = None,
    *,
    show_paths: bool = False,
    command_flags: CommandFlags | None = None,
) -> str:
    """The whole page. Home directories (and so user names) are shortened to `~` unless `show_paths`."""
    from markupsafe import Markup

    page = make_page(list(comparisons), record, samples, command_flags=command_flags)
    text = (
        _environment()
        .get_template("report.html.j2")
        .render(
            page=page,
            figures=Markup(json_for_script({figure.id: figure.as_json() for figure in page.figures})),  # noqa: S704
            css=Markup(_template("report.css")),  # noqa: S704 (our own file)
            js=Markup(_template("report.js")),  # noqa: S704 (our own file)
        )
    )
    return (text if show_paths else shorten_homes(text)).replace(_PLOTLY_HERE, plotly_script())


def write_report(
    path: Path, comparisons: Iterable[Comparison], record: SweepRecord, samples: pa.Table | None = None
) -> None:
    """Write the page to `path`, not atomically: for previews; the pipeline writes `render_report`'s text itself."""
    path.write_text(render_report(comparisons, record, samples), encoding="utf-8")


@lru_cache(maxsize=1)
def plotly_script() -> str:
    """plotly.js as the Python package carries it, safe inside a `<script>`. Reads the file; imports no Plotly."""
    text = resources.files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8")
    return text.replace("</script", "<\\/script")


def _template(name: str) -> str:
    return resources.files("velosweep.reporting").joinpath(f"templates/{name}").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["arguments"] = _arguments
    return environment


def _arguments(command: str) -> list[str]:
    """A command in parts that shouldn't be torn apart at a line's end: a flag with its value."""
    return re.split(r" (?=-)", command)
