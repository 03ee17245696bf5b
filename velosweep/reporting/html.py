"""report.html: one file that works offline. The same comparisons, record and samples give the same bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

from velosweep.records import SweepRecord
from velosweep.reporting.escaping import json_for_script, shorten_homes
from velosweep.reporting.page import make_page
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
) -> str:
    """The whole page. Home directories (and so user names) are shortened to `~` unless `show_paths`."""
    page = make_page(list(comparisons), record, samples)
    figures = {figure.id: figure.as_json() for section in page.figures.values() for figure in section}
    text = render_template("report.html.j2", show_paths=show_paths, page=page, figures=json_for_script(figures))
    return text.replace(_PLOTLY_HERE, plotly_script())


def render_template(name: str, *, show_paths: bool, **values: object) -> str:
    """A page from our template of that name; the style sheet and the script go in as they are."""
    text = _environment().get_template(name).render(**values)
    return text if show_paths else shorten_homes(text)


@lru_cache(maxsize=1)
def plotly_script() -> str:
    """plotly.js as the Python package carries it, safe inside a `<script>`. Reads the file; imports no Plotly."""
    text = resources.files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8")
    return text.replace("</script", "<\\/script")


def template_text(name: str) -> str:
    """One of our templates as it is."""
    return resources.files("velosweep.reporting").joinpath(f"templates/{name}").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(template_text),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["arguments"] = _arguments
    environment.globals["file"] = template_text
    return environment


def _arguments(command: str) -> list[str]:
    """A command in parts between which a line may break: each flag with its value."""
    return re.split(r" (?=-)", command)
