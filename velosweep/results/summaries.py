"""summary.json: exactly the specification's object, keys in its order; what is undefined is null. And their array."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import timezone
from math import isfinite
from pathlib import Path
from typing import Any

import orjson

from velosweep.files import make_folder, read_bytes, replacing, write_text
from velosweep.results.paths import JobPaths
from velosweep.results.results_file import FIGURES, METRICS
from velosweep.statistics.comparison import Comparison, ModeStatistics
from velosweep.values import Mode

Summary = dict[str, Any]


def summary(comparison: Comparison, *, iterations: int) -> Summary:
    """The specification's object for a job, or for one prompt of it.

    `iterations`: as asked for. `config.prompt` is the prompt, or the set's name for a set of several.
    """
    finished = comparison.finished_at and comparison.finished_at.astimezone(timezone.utc)
    return {
        "config": {
            "main_model": comparison.main_model,
            "draft_model": comparison.draft_model,
            "n_draft": comparison.n_draft,
            "n_predict": comparison.n_predict,
            "prompt": comparison.prompt if comparison.prompt is not None else comparison.prompt_set,
            "iterations": iterations,
        },
        "vanilla": _mode(Mode.VANILLA, comparison.vanilla),
        "speculative": _mode(Mode.SPECULATIVE, comparison.speculative),
        "speedup": comparison.speedup,
        "speedup_stddev": comparison.speedup_stddev,
        "timestamp": finished and finished.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _mode(mode: Mode, statistics: ModeStatistics | None) -> Summary | None:
    if statistics is None:
        return None
    figures = {
        metric: {figure: getattr(getattr(statistics, metric), figure) for figure in (*FIGURES, "samples")}
        for metric in METRICS
    }
    return {"mode": mode.value, **figures}


def to_json(value: object, *, indent: int = 0) -> str:
    """JSON laid out as the specification prints it: two spaces, numbers on one line.

    `value`: an object with plain keys, numbers, or one scalar.

    Raises ValueError for a figure that is not finite.
    """
    if type(value) is float and isfinite(value):
        return repr(value)  # as json has it, in a tenth of the time
    if isinstance(value, dict):
        margin = " " * (indent + 2)
        items = [f'{margin}"{key}": {to_json(item, indent=indent + 2)}' for key, item in value.items()]
        return "{\n" + ",\n".join(items) + "\n" + " " * indent + "}"
    if isinstance(value, (list, tuple)):
        line = orjson.dumps(value)  # there may be millions: a tenth of the time that json takes
        if b"n" in line:  # null, which orjson makes of NaN and infinity
            raise ValueError("Out of range float values are not JSON compliant")
        return line.replace(b",", b", ").decode()
    return _encode(value)


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def write_job_summaries(paths: JobPaths, rows: Sequence[Comparison], *, iterations: int) -> None:
    """Write a job's summary.json, and prompts/<id>.json where its set has several.

    `rows`: the job's comparisons, of which one is the job's own (`prompt_id` None), else nothing is written. The files
    can be derived again from the samples, so they are moved into place but not synced. Raises StorageError.
    """
    own = [row for row in rows if row.prompt_id is None]
    for row in rows if own and len(rows) > 2 else own:
        path = paths.summary if row.prompt_id is None else paths.prompt(row.prompt_id)
        make_folder(path.parent)
        content = to_json(summary(row, iterations=iterations)) + "\n"
        write_text(path, content, durable=False)


def write_summary_array(path: Path, files: Iterable[Path], *, durable: bool = True) -> None:
    """Write the array of the summaries in `files`, one in memory at a time. Raises StorageError."""
    with replacing(path, durable=durable) as beside, beside.open("wb") as array:
        array.write(b"[")
        for number, file in enumerate(files):
            # Texts in JSON hold no line ends: these are the layout's.
            array.write((b",\n  " if number else b"\n  ") + read_bytes(file).rstrip(b"\n").replace(b"\n", b"\n  "))
        array.write(b"\n]\n" if array.tell() > 1 else b"]\n")
