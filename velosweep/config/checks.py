"""Checks of single values: each names the key, the value and what to do."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from velosweep.errors import ConfigError

_Number = TypeVar("_Number", int, float)


class Section:
    """One section's plain values, by name; errors say the full key.

    `name` is the dotted key of the section; `values` what OmegaConf made of it, its types already checked
    against the schema (a null where none may be is caught here).
    """

    def __init__(self, name: str, values: Any) -> None:
        if not isinstance(values, dict):
            raise ConfigError(f"{name} is {values!r}", remedy=f"{name} is a group of keys; see velosweep --help")
        self.name = name
        self._values: dict[str, Any] = values

    def key(self, name: str) -> str:
        """The full key."""
        return f"{self.name}.{name}"

    def optional(self, name: str) -> Any:
        """The value, None where null. Raises ConfigError for one that is left to be given (`???`)."""
        value = self._values.get(name)
        if value == "???":
            raise ConfigError(f"{self.key(name)} has no value", remedy=f"set {self.key(name)}=VALUE")
        return value

    def required(self, name: str) -> Any:
        """The value; raises ConfigError where null."""
        value = self.optional(name)
        if value is None:
            raise ConfigError(f"{self.key(name)} has no value", remedy=f"set {self.key(name)}=VALUE")
        return value

    def text(self, name: str) -> str:
        """A text that may not be empty."""
        value = str(self.required(name)).strip()
        if not value:
            raise ConfigError(f"{self.key(name)} is empty", remedy=f"set {self.key(name)}=VALUE")
        return value

    def optional_text(self, name: str) -> str | None:
        """A text; None where null or empty."""
        value = self.optional(name)
        return str(value) if value not in (None, "") else None

    def whole(self, name: str, least: int | None = None) -> int:
        """A whole number, at least `least`."""
        value = int(self.required(name))
        return value if least is None else at_least(self.key(name), value, least)

    def number(self, name: str, least: float | None = None, most: float | None = None) -> float:
        """A finite number within [least, most]."""
        value = at_least(self.key(name), float(self.required(name)), -math.inf if least is None else least)
        if most is not None and value > most:
            raise ConfigError(f"{self.key(name)} is {value:g}", remedy=f"it can be {most:g} at most")
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        return bool(self.required(name))

    def sequence(self, name: str) -> list[Any]:
        """A list; null is the empty list."""
        value = self.optional(name)
        if value is not None and not isinstance(value, list):
            raise ConfigError(f"{self.key(name)} is {value!r}", remedy=f"write a list: {self.key(name)}=[a,b]")
        return list(value or [])

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        return tuple(str(value) for value in self.sequence(name))

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """One of `choices`."""
        return one_of(self.key(name), str(self.required(name)), choices)


def at_least(key: str, value: _Number, least: _Number, *, why: str = "") -> _Number:
    """`value` if it is finite and not below `least`; raises ConfigError."""
    if not math.isfinite(value) or value < least:
        reason = f" ({why})" if why else ""
        raise ConfigError(f"{key} is {value}", remedy=f"it must be at least {least}{reason}")
    return value


def one_of(key: str, value: str, choices: Sequence[str]) -> str:
    """`value` if it is one of `choices`; raises ConfigError."""
    if value not in choices:
        raise ConfigError(f"{key} is {value!r}", remedy=f"choose one of {', '.join(choices)}")
    return value


def check_output(output: str | None, base: Path) -> str | None:
    """Absolute path of the extra summary if it could be written; raises ConfigError."""
    if not output:
        return None
    path = (base / Path(output).expanduser()).absolute()
    remedy = "set output to a file in a folder that you can write to"
    if path.is_dir():
        raise ConfigError(f"output={output} is a folder", remedy=f"name a file, for instance {output}/summary.json")
    if path.exists():
        if not os.access(path, os.W_OK):
            raise ConfigError(f"output={output} can't be written", remedy=remedy)
        return str(path)
    folder = next(parent for parent in path.parents if parent.exists())
    if not folder.is_dir():
        raise ConfigError(f"output={output}: {folder} is not a folder", remedy=remedy)
    try:
        with tempfile.TemporaryFile(dir=folder):  # root may write everywhere by its rights, and still not in /proc
            pass
    except OSError as error:
        raise ConfigError(f"output={output}: {folder} can't be written to", remedy=remedy) from error
    return str(path)
