"""What a job is set to, for any key, and in which keys jobs differ: one rule for names, columns and matching.

A job's settings are scalars by their dotted keys: those of `CORE`, which every job has, and all others that differ from
their defaults. Whatever key is swept is found here by its values, so that no place has a list of its own.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from operator import attrgetter
from pathlib import PurePath, PureWindowsPath
from typing import Any

from velosweep.config.schema import KEY_TYPES, KEYS
from velosweep.config.settings import Job
from velosweep.config.speculation_kinds import KINDS, kind_of
from velosweep.values import Scalar

Settings = Mapping[str, Scalar]

PAIR, MAIN, DRAFT = "model_pair.name", "model_pair.main_model", "model_pair.draft_model"
KIND, N_DRAFT, N_PREDICT, PROMPTS = "speculation.kinds", "n_draft", "n_predict", "prompts.name"
# The keys that every job has, and what records and comparisons call them.
_CORE_FIELDS = {
    PAIR: "model_pair", MAIN: "main_model", DRAFT: "draft_model", KIND: "speculation", N_DRAFT: "n_draft",
    N_PREDICT: "n_predict", PROMPTS: "prompt_set", "concurrency": "concurrency", "depth": "depth",
}  # fmt: skip
CORE = tuple(_CORE_FIELDS)
_core_of = attrgetter(*_CORE_FIELDS.values())

# Fields of a job that are no settings of what is measured, or that stand in `CORE`.
_NO_SETTINGS = frozenset({
    "id", "num", "twins", "baseline_id", "added", "directory", "overrides", "output", "target_speedup", "model_pair",
    "prompts.prompts", *CORE,
})  # fmt: skip
_KEY_OF = {"engine.program": "llama_cpp.path", "protocol.iterations": "iterations"}
# By the names of fields, as settings are, not by YAML's.
_DEFAULTS = {f"{name.rpartition('.')[0]}.{key.field}".lstrip("."): key.default for name, key in KEYS.items()}
PATHS = frozenset({MAIN, DRAFT, "llama_cpp.path"})


def settings_of(row: Any) -> dict[str, Scalar]:
    """All settings of a job by their dotted keys. `row`: a `JobRecord`, or a `Comparison`."""
    return _settings(_core_of(row), row.settings)


def settings_of_job(job: Job) -> dict[str, Scalar]:
    """The same of a job that is planned."""
    pair, n_draft = job.model_pair, job.n_draft if job.speculation.kinds else 0
    core = (pair.name, pair.main_model, pair.draft_model, job.speculation.label, n_draft, job.n_predict)
    return _settings((*core, job.prompts.name, job.concurrency, job.depth), other_settings(job))


def _settings(core: tuple[Scalar, ...], others: Settings) -> dict[str, Scalar]:
    found = dict(zip(CORE, core, strict=True))
    if not _takes_draft_model(str(found[KIND])):
        found[DRAFT] = None
    return {**found, **others}


@lru_cache
def _takes_draft_model(label: str) -> bool:
    kinds = label.partition(" (")[0].split("+")
    return kinds != ["none"] and any(kind not in KINDS or kind_of(kind).takes_draft_model for kind in kinds)


def other_settings(job: Job) -> dict[str, Scalar]:
    """A job's settings beside `CORE` that differ from their defaults, as sweep.json keeps them."""
    found = dict(_not_default(job, ""))
    if job.model_pair.synthetic is not None:
        found |= _not_default(job.model_pair.synthetic, "model_pair.synthetic.")
    if len(job.prompts.prompts) == 1:
        found["prompt"] = job.prompts.prompts[0].text
    return found


def overridden_settings(overrides: Iterable[str]) -> dict[str, Scalar]:
    """The settings that a job's overrides name, beside `CORE`: of sweeps that kept nothing else."""
    found: dict[str, Scalar] = {}
    for key, _, text in (override.lstrip("+").partition("=") for override in overrides):
        if KEY_TYPES.get(key) not in (None, "", "section") and key not in CORE:
            try:
                value = json.loads(text)
            except ValueError:
                value = text
            found[key] = text if isinstance(value, (dict, list)) else value
    return found


@lru_cache(maxsize=4096)
def _section(value: Any, prefix: str) -> tuple[tuple[str, Scalar], ...]:
    return tuple(_not_default(value, prefix))


def _not_default(value: Any, prefix: str) -> Iterable[tuple[str, Scalar]]:
    for field in fields(value):
        name, own = f"{prefix}{field.name}", getattr(value, field.name)
        if name in _NO_SETTINGS or own == field.default:
            continue
        if is_dataclass(own):
            section: Any = own  # hashable, as all of a job is
            yield from _section(section, f"{name}.")
        elif isinstance(own, tuple) and own and isinstance(own[0], tuple):  # names and values
            yield from ((f"{name}.{inner}", scalar) for inner, scalar in own)
        else:
            yield _KEY_OF.get(name, name), _scalar(own)


def _scalar(value: Any) -> Scalar:
    return ",".join(map(str, value)) if isinstance(value, (tuple, list, dict)) else value


@lru_cache
def default_of(key: str) -> Scalar:
    """What a setting is where it is not said; None for one without a default."""
    field = next((theirs for theirs, ours in _KEY_OF.items() if ours == key), key)
    return _scalar(_DEFAULTS.get(field))


def value_of(settings: Settings, key: str) -> Scalar:
    """A job's value of a key, the default where it doesn't say one."""
    return settings[key] if key in settings else default_of(key)


def drafting(key: str) -> bool:
    """Whether a server without speculation does not see this key."""
    return key in (DRAFT, N_DRAFT) or key.startswith(("speculation.", "engine.draft_", "engine.speculative_"))


# What is asked of llama.cpp. All other settings are ways to answer it, and compete.
_TASK = re.compile(r"(model_pair\.main_model|n_predict|prompt|depth|concurrency|stop)$|prompts\.|sampling\.")


@lru_cache
def asks(key: str) -> bool:
    """Whether a setting says what is asked of llama.cpp, so that jobs that differ in it are no rivals."""
    return _TASK.match(key) is not None


def column_name(key: str) -> str:
    """The column of a setting in our Parquet files."""
    return key.replace(".", "_")


def varying_keys(jobs: Collection[Settings]) -> list[str]:
    """The keys in which jobs differ, those of `CORE` first."""
    every = dict.fromkeys([*CORE, *(key for settings in jobs for key in settings)])
    return [key for key in every if len({value_of(settings, key) for settings in jobs}) > 1]


def model_name(path: str | None) -> str:
    """A model file's name without folder and `.gguf`."""
    return path_tail(path, 1) if path else "none"


def path_tail(path: str, depth: int) -> str:
    """The last parts of a path, `depth` of them, without `.gguf`."""
    parts = (PureWindowsPath(path) if "\\" in path else PurePath(path)).parts
    name = "/".join(parts[-depth:]) or path
    return name[:-5] if name.lower().endswith(".gguf") else name


def signature(settings: Settings, keys: Iterable[str]) -> tuple[object, ...]:
    """What a job asked for, to find its like in another sweep: `CORE` but the pair's name, and `keys`.

    A model counts by its file's name, since the same file may lie elsewhere.
    """
    wanted = dict.fromkeys([*CORE[1:], *keys])
    values = ((key, value_of(settings, key)) for key in wanted if key != PAIR)
    return tuple(model_name(str(value)) if key in (MAIN, DRAFT) and value else value for key, value in values)
