"""summary.json: exactly the specification's object, keys in its order; what is undefined is null."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from velosweep.model import Comparison, Mode, ModeStatistics, Statistics
from velosweep.storage.atomic import make_folder, replacing, write_text
from velosweep.storage.paths import JobPaths

Summary = dict[str, object]


def summary(comparison: Comparison, *, iterations: int) -> Summary:
    """The specification's object for a job, or for one prompt of it.

    `iterations`: as asked for. `config.prompt` is the prompt, or the set's name for a set of several.
    """
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
        "timestamp": None if comparison.finished_at is None else rfc3339(comparison.finished_at),
    }


def _mode(mode: Mode, statistics: ModeStatistics | None) -> dict[str, object] | None:
    if statistics is None:
        return None
    return {
        "mode": mode.value,
        "tokens_per_second": _metric(statistics.tokens_per_second),
        "time_to_first_token_ms": _metric(statistics.time_to_first_token_ms),
        "total_time_ms": _metric(statistics.total_time_ms),
    }


def _metric(statistics: Statistics) -> dict[str, object]:
    return {
        "mean": statistics.mean,
        "stddev": statistics.stddev,
        "min": statistics.min,
        "max": statistics.max,
        "samples": list(statistics.samples),
    }


def rfc3339(moment: datetime) -> str:
    """UTC to the second, as the specification writes it: 2025-01-27T12:34:56Z."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_json(value: object, *, indent: int = 0) -> str:
    """JSON laid out as the specification prints it: two spaces, lists of numbers on one line.

    Raises ValueError for a figure that is not finite.
    """
    inner = " " * (indent + 2)
    if isinstance(value, dict) and value:
        items = [f"{inner}{_flat(key)}: {to_json(item, indent=indent + 2)}" for key, item in value.items()]
        return "{\n" + ",\n".join(items) + "\n" + " " * indent + "}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        rows = [inner + to_json(item, indent=indent + 2) for item in value]
        return "[\n" + ",\n".join(rows) + "\n" + " " * indent + "]"
    return _flat(value)


# made once: json.dumps would make an encoder a call, and there are some thirty calls a summary
_flat = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def write_summary(path: Path, value: Summary, *, durable: bool = True) -> None:
    """Write one summary atomically. Raises StorageError."""
    write_text(path, to_json(value) + "\n", durable=durable)


def write_summaries(path: Path, values: Sequence[Summary]) -> None:
    """Write the jobs' summaries as one array, atomically. Raises StorageError."""
    with writing_summaries(path) as add:
        for value in values:
            add(value)


@contextmanager
def writing_summaries(path: Path) -> Iterator[Callable[[Summary], None]]:
    """A function that adds a summary to the array; the file is there, whole, when the block has ended well.

    Raises StorageError.
    """
    with replacing(path) as beside, beside.open("w", encoding="utf-8", newline="\n") as file:
        before = "[\n  "

        def add(value: Summary) -> None:
            nonlocal before
            file.write(before + to_json(value, indent=2))
            before = ",\n  "

        yield add
        file.write("[]\n" if before.startswith("[") else "\n]\n")


def write_job_summaries(
    paths: JobPaths, comparison: Comparison, by_prompt: Sequence[Comparison], *, iterations: int
) -> Summary:
    """Write a job's summary.json, and prompts/<id>.json where the set has several; return the summary.

    They can be derived again from the samples, so they are moved into place but not synced one by one.
    Raises StorageError.
    """
    make_folder(paths.root)
    value = summary(comparison, iterations=iterations)
    write_summary(paths.summary, value, durable=False)
    if len(by_prompt) > 1:
        make_folder(paths.prompts)
        for one in by_prompt:
            write_summary(paths.prompt(one.prompt_id or "_"), summary(one, iterations=iterations), durable=False)
    return value
