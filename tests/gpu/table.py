"""The table at the end: what each step found, the speedups, the batch costs, and where the sweeps are."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from frame import Kit, Step


def write_table(kit: Kit, steps: Sequence[Step]) -> str:
    """The report as Markdown; also written to table.md."""
    marks = {step.name: mark for step in steps if (mark := kit.mark(step.name)) is not None}
    parts = [_steps(steps, marks), _speedups(kit, marks), _batch_costs(kit, marks), _surprises(marks), _folders(marks)]
    text = "\n\n".join(part for part in parts if part) + "\n"
    (kit.work / "table.md").write_text(text)
    return text


RESULTS = ("*.parquet", "*.json", "multirun.yaml")


def collect(kit: Kit) -> Path:
    """One small archive to carry away: table, marks, logs, and the sweeps without reports, which can be made again."""
    archive = kit.work / "results.tar.xz"
    files = [kit.work / "table.md", *sorted(kit.work.glob("marks/*.json")), *sorted(kit.work.glob("logs/*.txt"))]
    files += sorted(path for pattern in RESULTS for path in kit.work.glob(f"sweeps/*/{pattern}"))
    with tarfile.open(archive, "w:xz") as tar:
        for file in files:
            if file.is_file():
                tar.add(file, arcname=file.relative_to(kit.work))
    return archive


def _steps(steps: Sequence[Step], marks: dict[str, Any]) -> str:
    lines = ["| step | outcome | seconds | found |", "|---|---|---|---|"]
    for step in steps:
        mark = marks.get(step.name)
        if mark is None:
            lines.append(f"| {step.name} | not run | | |")
            continue
        figures = {name: value for name, value in mark["figures"].items() if not isinstance(value, dict)}
        found = ", ".join(f"{name} {_shown(value)}" for name, value in figures.items()) if mark["ok"] else mark["error"]
        outcome = "ok" if mark["ok"] else "FAILED"
        lines.append(f"| {step.name} | {outcome} | {mark['seconds']:.0f} | {found.replace('|', '/')} |")
    return "\n".join(lines)


def _speedups(kit: Kit, marks: dict[str, Any]) -> str:
    rows = []
    for kind in kit.scale.types:
        for target in kit.scale.targets:
            mark = marks.get(f"sweep:{kind}:{target}")
            if mark is None or not mark["ok"]:
                continue
            figures = mark["figures"]
            cells = [f"{figures['speedups'].get(str(n), ''):.2f}" for n in kit.scale.n_drafts]
            rows.append(f"| {kind} | {target} | {figures['vanilla_tok_s']:.1f} | " + " | ".join(cells) + " |")
    if not rows:
        return ""
    head = "| type | acceptance | vanilla tok/s | " + " | ".join(f"n_draft {n}" for n in kit.scale.n_drafts) + " |"
    return "\n".join(["## Speedup over n_draft", "", head, "|---" * (3 + len(kit.scale.n_drafts)) + "|", *rows])


def _batch_costs(kit: Kit, marks: dict[str, Any]) -> str:
    mark = marks.get("batch_cost")
    if mark is None or not mark["ok"]:
        return ""
    head = "| type | " + " | ".join(f"v({size})" for size in kit.scale.batches) + " |"
    rows = [
        f"| {kind} | " + " | ".join(f"{mark['figures'][kind][str(size)]:.2f}" for size in kit.scale.batches) + " |"
        for kind in kit.scale.types
    ]
    rule = "|---" * (1 + len(kit.scale.batches)) + "|"
    return "\n".join(["## What a batch of k costs, in single steps", "", head, rule, *rows])


def _surprises(marks: dict[str, Any]) -> str:
    lines = [f"- {name}: {text}" for name, mark in marks.items() for text in mark["surprises"]]
    return "\n".join(["## Other than expected", "", *lines]) if lines else ""


def _folders(marks: dict[str, Any]) -> str:
    lines = [f"- {folder}" for mark in marks.values() for folder in mark["folders"]]
    return "\n".join(["## Sweeps", "", *lines]) if lines else ""


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
