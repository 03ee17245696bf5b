"""How a setting is declared: once, as a field of the value that it becomes.

`key(default, text, least=…)` gives a dataclass field its default, its explanation and its limits. From that follow
the classes that OmegaConf validates YAML and the command line against (`structured`), the lines of `--help`,
and the check of a value (`freeze`).
"""

import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, make_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from velosweep.errors import ConfigError, VelosweepError, combine_errors


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A setting. `convert`: (dotted key, value as YAML has it) -> the frozen value; else `freeze` goes by type."""

    field: str  # the dataclass's attribute
    name: str  # what YAML calls it,
    hint: Any  # and its type there
    default: Any
    section: Any  # the dataclass of a section of keys, else None
    text: str
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()  # of texts, and of the items of lists
    convert: Callable[[str, Any], Any] | None = None

    @property
    def optional(self) -> bool:
        """Whether it may be null."""
        return self.hint is Any or type(None) in get_args(self.hint)

    @property
    def type_word(self) -> str:
        """The type as `--help` shows it; empty for a section that is always there.

        `int | None` is an int: that it may be null shows in its default or its text.
        """
        if self.section is not None:
            return "section" if self.optional else ""
        plain = (get_origin(one) or one for one in (self.hint, *get_args(self.hint)))
        return next((_TYPE_WORDS[one] for one in plain if one in _TYPE_WORDS), "any")

    @property
    def default_word(self) -> str:
        """The default as YAML has it."""
        return _yaml_word(self.default)


_TYPE_WORDS = {int: "int", float: "number", str: "text", bool: "bool", tuple: "list", dict: "map"}


def _yaml_word(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_yaml_word, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def time_key(name: str, text: str) -> Any:
    """A key for a time with its unit, in seconds; null: none."""
    return key(None, text, name=name, hint=str | None, convert=seconds)


def key(default: Any, text: str, **rules: Any) -> Any:
    """A field that people may set, with its line of `--help`. A dataclass as `default` makes a section of keys.

    `rules`: `least`, `most`, `choices`, `convert` of `Key`, and `name` and `hint` where YAML's differ from the field's.
    """
    metadata = {"key": {"text": text, **rules}}
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@cache
def keys_of(owner: type) -> tuple[Key, ...]:
    """The keys that a dataclass declares, in order; fields without `key` are none."""
    hints = get_type_hints(owner)
    found = []
    for item in fields(owner):
        if "key" not in item.metadata:
            continue
        declared = {"name": item.name, "hint": hints[item.name], **item.metadata["key"]}
        hint, default = declared["hint"], None if item.default is MISSING else item.default
        if isinstance(default, tuple):  # YAML has lists and mappings
            default = {} if get_origin(hint) is dict else list(default)
        section = next((one for one in (hint, *get_args(hint)) if is_dataclass(one)), None)
        found.append(Key(field=item.name, default=default, section=section, **declared))
    return tuple(found)


def dotted_keys(owner: type, prefix: str = "") -> Iterator[tuple[str, Key]]:
    """All keys with their dotted names, sections before their keys, in the order of their declaration."""
    for one in keys_of(owner):
        yield f"{prefix}{one.name}", one
        if one.section is not None:
            yield from dotted_keys(one.section, f"{prefix}{one.name}.")


@cache
def structured(owner: type, module: str) -> type:
    """The dataclass that OmegaConf validates `owner`'s keys with, which it must be able to change.

    It is put into `module` under its name with `Conf` at the end, since OmegaConf pickles sections by their class.
    """
    made: list[tuple[str, Any, Any]] = []
    for one in keys_of(owner):
        hint, default = one.hint, one.default
        if one.section is not None:
            hint = structured(one.section, module)
            if one.optional:
                hint = hint | None
            else:
                default = field(default_factory=hint)
        elif isinstance(default, (list, dict)):
            default = field(default_factory=default.copy)
        made.append((one.name, hint, default))
    conf = make_dataclass(f"{owner.__name__}Conf", made, namespace={"__module__": module})
    setattr(sys.modules[module], conf.__name__, conf)
    return conf


def freeze(one: Key, name: str, value: Any) -> Any:
    """The frozen value of the key `one`, dotted `name`. Raises ConfigError with name, value and what to do.

    `value`: plain lists, dicts and scalars, whose types OmegaConf has checked against `structured`.
    """
    if value == "???" or (value is None and not one.optional):
        raise ConfigError(f"{name} has no value", remedy=f"set {name}=VALUE")
    if one.convert is not None:
        return one.convert(name, value)
    if value is None:
        return None
    if one.section is not None:
        return _freeze_section(one.section, name, value)
    kind = next(part for part in get_args(one.hint) if part is not type(None)) if one.optional else one.hint
    if get_origin(kind) is tuple:
        return _freeze_items(one, name, value, get_args(kind)[0])
    if kind is bool:
        return value
    if kind is not str:
        return _within_limits(one, name, kind(value))
    text = str(value)
    if one.choices and (text or not one.optional):
        return choose(name, text, one.choices)
    if one.optional:
        return text or None
    if not text.strip():
        raise ConfigError(f"{name} is empty", remedy=f"set {name}=VALUE")
    return text.strip()


def check_limits(owner: type, section: str, values: Mapping[str, Any]) -> None:
    """Raise ConfigError for the first of `values` that is beyond what its key of `owner` allows."""
    for one in keys_of(owner):
        if one.choices or one.least is not None:
            freeze(one, f"{section}.{one.name}", values[one.name])


def _freeze_section(owner: Any, name: str, values: Any) -> Any:
    """All keys of a section; raises one error for all that is wrong with them."""
    if not isinstance(values, dict):
        raise ConfigError(f"{name} is {values!r}", remedy=f"{name} is a group of keys; see velosweep --help")
    made: dict[str, Any] = {}
    problems: list[VelosweepError] = []
    for one in keys_of(owner):
        try:
            made[one.field] = freeze(one, f"{name}.{one.name}", values.get(one.name))
        except VelosweepError as error:
            problems.append(error)
    if problems:
        raise combine_errors(problems)
    return owner(**made)


def _freeze_items(one: Key, name: str, values: Any, kind: Any) -> tuple[Any, ...]:
    if not isinstance(values, list):
        raise ConfigError(f"{name} is {values!r}", remedy=f"write a list: {name}=[a,b]")
    for value in values if one.choices else ():
        if value not in one.choices:
            raise ConfigError(f"{name} has {value!r}", remedy=f"choose from {', '.join(one.choices)}")
    frozen = tuple(values if kind is Any else map(kind, values))
    return tuple(dict.fromkeys(frozen)) if one.choices else frozen


def _within_limits(one: Key, name: str, value: float) -> float:
    least, most = one.least, one.most
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name} is {value}", remedy="give a finite number")
    if least is not None and value < least:
        raise ConfigError(f"{name} is {value}", remedy=f"it must be at least {least}")
    if most is not None and value > most:
        raise ConfigError(f"{name} is {value}", remedy=f"it can be {most:g} at most")
    return value


def choose(name: str, value: str, choices: tuple[str, ...]) -> str:
    """`value` if it is one of `choices`; raises ConfigError."""
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}", remedy=f"choose one of {', '.join(choices)}")
    return value


def expanded(path: str) -> Path:
    """The path with `~` as the home folder; unchanged where there is no home (`Path.expanduser` raises then)."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def on_off_auto(key: str, value: Any) -> str:
    """`on`, `off` or `auto`; YAML reads on and off as true and false."""
    word = str(value).lower()
    return choose(key, {"true": "on", "false": "off"}.get(word, word), ("on", "off", "auto"))


def yes_no_auto(key: str, value: Any) -> bool | None:
    """True, False, or None for `auto`."""
    word = str(value).lower()
    return {"true": True, "false": False, "auto": None}[choose(key, word, ("true", "false", "auto"))]


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
