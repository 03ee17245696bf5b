"""Values that YAML writes in another form than the frozen settings hold: each checked and converted."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from velosweep.config.keys import choose
from velosweep.errors import ConfigError


def expanded(path: str) -> Path:
    """The path with `~` as the home folder; unchanged where there is no home (`Path.expanduser` raises then)."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def unchanged(key: str, value: Any) -> Any:
    """The value as YAML has it, for keys whose reader checks it."""
    return value


def on_off_auto(key: str, value: Any) -> str:
    """`on`, `off` or `auto`; YAML reads on and off as true and false."""
    word = str(value).lower()
    return choose(key, {"true": "on", "false": "off"}.get(word, word), ("on", "off", "auto"))


def flattened(key: str, value: Any) -> tuple[tuple[str, int | float | str], ...]:
    """Nested mappings as sorted pairs of dotted name and value. Raises ConfigError for what is no number or text."""
    flat: dict[str, int | float | str] = {}
    todo = list((value or {}).items())
    while todo:
        name, inner = todo.pop()
        if isinstance(inner, dict):
            todo += [(f"{name}.{last}", deeper) for last, deeper in inner.items()]
        elif isinstance(inner, (int, float, str)):
            flat[str(name)] = inner
        elif inner is not None:
            raise ConfigError(f"{key}.{name} is {inner!r}", remedy="give a number or a text")
    return tuple(sorted(flat.items()))


def gpus(key: str, value: Any) -> tuple[int | str, ...] | None:
    """Indices and UUIDs, each once, from a list or a single one; None where null: all."""
    if value is None:
        return None
    named = value if isinstance(value, list) else [value]
    for gpu in named:
        if isinstance(gpu, bool) or not isinstance(gpu, (int, str)) or gpu == "" or (isinstance(gpu, int) and gpu < 0):
            raise ConfigError(f"{key} has {gpu!r}", remedy="give indices or UUIDs, e.g. gpus=[0,1]; null takes all")
    if len(set(named)) < len(named):
        raise ConfigError(f"{key} is {named}", remedy="name each GPU once, e.g. gpus=[0,1]; null takes all")
    return tuple(named)


_UNIT_S = {"s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def seconds(key: str, value: Any) -> float | None:
    """Seconds of `90s`, `10min` or `2h`; None where null or empty."""
    if value in (None, ""):
        return None
    match = re.fullmatch(rf"(\d+(?:\.\d+)?)\s*({'|'.join(_UNIT_S)})", str(value).strip())
    if match is None or float(match[1]) <= 0:
        raise ConfigError(f"{key} is {value!r}", remedy="write a time and its unit: 90s, 10min or 2h")
    return float(match[1]) * _UNIT_S[match[2]]
