"""The table: what each step found, speedups and costs, surprises, and where the sweeps are."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from frame import Kit, Step, shown_figure

RESULTS = ("*.parquet", "*.json", "multirun.yaml")


def write_results(kit: Kit, steps: Sequence[Step]) -> str:
    """Write table.md and results.tar.xz, to `kit.out` also where it is set; returns the table."""
    text = table(kit, steps)
    (kit.work / "table.md").write_text(text)
    archive = _collect(kit)
    if kit.out is not None:
        for path in (kit.work / "table.md", archive):
            shutil.copy(path, kit.out)
    return text


def table(kit: Kit, steps: Sequence[Step]) -> str:
    """The report as Markdown."""
    marks = {step.name: mark for step in steps if (mark := kit.mark(step.name)) is not None}
    parts = [_steps(steps, marks), *_series(marks), _list("Other than expected", marks, "surprises")]
    return "\n\n".join(part for part in [*parts, _list("Sweeps", marks, "folders")] if part) + "\n"


def _collect(kit: Kit) -> Path:
    """One small archive: table, marks, logs, and the sweeps without reports, which can be made again."""
    archive = kit.work / "results.tar.xz"
    files = [kit.work / "table.md", *sorted(kit.work.glob("marks/*.json")), *sorted(kit.work.glob("logs/*.txt"))]
    files += sorted(path for pattern in RESULTS for path in kit.work.glob(f"sweeps/*/{pattern}"))
    with tarfile.open(archive, "w:xz", preset=1) as tar:
        for file in files:
            if file.is_file():
                tar.add(file, arcname=file.relative_to(kit.work))
    return archive


def _steps(steps: Sequence[Step], marks: Mapping[str, Any]) -> str:
    lines = ["| step | outcome | seconds | of | found |", "|---|---|---|---|---|"]
    for step in steps:
        mark = marks.get(step.name)
        if mark is None:
            lines.append(f"| {step.name} | not run | | {step.limit_s:g} | |")
            continue
        figures = {name: value for name, value in mark["figures"].items() if not isinstance(value, dict)}
        found = ", ".join(f"{name} {shown_figure(value)}" for name, value in figures.items())
        outcome, found = ("ok", found) if mark["ok"] else ("FAILED", mark["error"])
        cell = found.replace("|", "/").replace("\n", " ")
        lines.append(f"| {step.name} | {outcome} | {mark['seconds']:.0f} | {step.limit_s:g} | {cell} |")
    return "\n".join(lines)


def _series(marks: Mapping[str, Any]) -> list[str]:
    """A table for each step that has figures by setting: settings across, a figure a row."""
    tables = []
    for name, mark in marks.items():
        series = {figure: values for figure, values in mark["figures"].items() if isinstance(values, dict) and values}
        if not series:
            continue
        settings = list(dict.fromkeys(setting for values in series.values() for setting in values))
        rows = [
            f"| {figure} | " + " | ".join(str(values.get(setting, "")) for setting in settings) + " |"
            for figure, values in series.items()
        ]
        head = f"| {name} | " + " | ".join(settings) + " |"
        tables.append("\n".join([f"## {name}", "", head, "|---" * (1 + len(settings)) + "|", *rows]))
    return tables


def _list(title: str, marks: Mapping[str, Any], key: str) -> str:
    lines = [f"- {name}: {text}" for name, mark in marks.items() for text in mark[key]]
    return "\n".join([f"## {title}", "", *lines]) if lines else ""
