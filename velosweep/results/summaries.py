"""summary.json: exactly the specification's object, keys in its order; what is undefined is null."""

from __future__ import annotations

import json
from collections.abc import Sequence, Set
from datetime import datetime, timezone
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import overload

from velosweep.files import make_folder, read_bytes, write_bytes
from velosweep.records import JobRecord
from velosweep.results.paths import JobPaths, SweepPaths
from velosweep.statistics.comparison import Comparison, ModeStatistics, Statistics
from velosweep.values import Mode

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


class LaidOut(str):
    """JSON already, laid out for the place where it stands."""

    __slots__ = ()


def to_json(value: object, *, indent: int = 0) -> str:
    """JSON laid out as the specification prints it: two spaces, lists of numbers on one line.

    Raises ValueError for a figure that is not finite.
    """
    if value is None:
        return "null"
    if type(value) is int or (type(value) is float and isfinite(value)):
        return repr(value)  # as json has it
    if isinstance(value, LaidOut):
        return value
    between = ",\n" + " " * (indent + 2)
    if isinstance(value, dict) and value:
        items = [f"{_key(key)}: {to_json(item, indent=indent + 2)}" for key, item in value.items()]
        return f"{{{between[1:]}{between.join(items)}\n{' ' * indent}}}"
    if isinstance(value, list) and value and isinstance(value[0], (dict, list)):
        items = [to_json(item, indent=indent + 2) for item in value]
        return f"[{between[1:]}{between.join(items)}\n{' ' * indent}]"
    return _figures(value) if isinstance(value, list) else _flat(value)


# made once: json.dumps would make an encoder a call, and there are some thirty calls a summary
_flat = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_key = lru_cache(maxsize=256)(_flat)


def _figures(values: list[object]) -> str:
    """A list on one line; numbers, of which there may be millions, by a library that takes a tenth of Python's time."""
    import orjson

    try:
        line = orjson.dumps(values)
    except TypeError:  # an integer of more than 64 bits, half a character
        return _flat(values)
    # Texts may hold commas, and null (the n) may be a figure that is not finite: Python's own refuses it.
    if any(sign in line for sign in (b'"', b"n", b"{")) or line.rfind(b"[") > 0:
        return _flat(values)
    return line.replace(b",", b", ").decode()


class WrittenSummaries(Sequence["Summary | None"]):
    """Jobs' summaries, read from their files each time one is asked for: all of a large sweep need much memory.

    `written`: ids of the jobs that have one; the others' are None. Raises StorageError where one can't be read.
    """

    def __init__(self, paths: SweepPaths, jobs: Sequence[JobRecord], written: Set[str]) -> None:
        self._files = [paths.job(job).summary if job.id in written else None for job in jobs]

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, index: int) -> Summary | None: ...
    @overload
    def __getitem__(self, index: slice) -> list[Summary | None]: ...
    def __getitem__(self, index: int | slice) -> Summary | list[Summary | None] | None:
        if isinstance(index, slice):
            return [_read(file) for file in self._files[index]]
        return _read(self._files[index])


def _read(file: Path | None) -> Summary | None:
    if file is None:
        return None
    value: Summary = json.loads(read_bytes(file))
    return value


class JobSummaries:
    """Writes jobs' summary.json; the series of a baseline, which its jobs share, is laid out once."""

    def __init__(self) -> None:
        self._laid_out: dict[int, tuple[ModeStatistics, LaidOut]] = {}

    def write(
        self, paths: JobPaths, comparison: Comparison, by_prompt: Sequence[Comparison], *, iterations: int
    ) -> tuple[Summary, bytes]:
        """Write a job's summary.json, and prompts/<id>.json where the set has several.

        Returns the summary and what is in its file. They can be derived again from the samples, so they are moved into
        place but not synced one by one. Raises StorageError.
        """
        make_folder(paths.root)
        value, content = self._of(comparison, iterations)
        write_bytes(paths.summary, content, durable=False)
        if len(by_prompt) > 1:
            make_folder(paths.prompts)
            for one in by_prompt:
                write_bytes(paths.prompt(one.prompt_id or "_"), self._of(one, iterations)[1], durable=False)
        return value, content

    def _of(self, comparison: Comparison, iterations: int) -> tuple[Summary, bytes]:
        value = summary(comparison, iterations=iterations)
        shown = value if comparison.vanilla is None else {**value, "vanilla": self._mode(comparison.vanilla, value)}
        return value, (to_json(shown) + "\n").encode()

    def _mode(self, statistics: ModeStatistics, value: Summary) -> LaidOut:
        if id(statistics) not in self._laid_out:  # kept with its text: the number is its own as long as it is there
            self._laid_out[id(statistics)] = statistics, LaidOut(to_json(value["vanilla"], indent=2))
        return self._laid_out[id(statistics)][1]
