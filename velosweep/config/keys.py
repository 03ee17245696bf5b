"""How a setting is declared: once, as a field of the value that it becomes.

`key(default, text, least=…)` gives a dataclass field its default, its explanation and its limits. From that follow
the classes that OmegaConf validates YAML and the command line against (`structured`), the lines of `--help`
(`describe`), and the check of a value (`freeze`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, make_dataclass
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from velosweep.errors import ConfigError, VelosweepError, together

Convert = Callable[[str, Any], Any]
"""(dotted key, value as YAML has it) -> the frozen value; raises ConfigError."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Declared:
    """What `key` was given."""

    text: str
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    name: str | None = None
    yaml_type: Any = None
    convert: Convert | None = None


def key(
    default: Any,
    text: str,
    *,
    least: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
    name: str | None = None,
    yaml_type: Any = None,
    convert: Convert | None = None,
) -> Any:
    """A field that people may set. `default` may be a dataclass: then the field is a section of keys.

    `name` and `yaml_type` where YAML has another name or type than the field; `convert` then makes the value.
    """
    declared = _Declared(
        text=text, least=least, most=most, choices=choices, name=name, yaml_type=yaml_type, convert=convert
    )
    if isinstance(default, type):
        return field(default_factory=default, metadata={"key": declared})
    return field(default=default, metadata={"key": declared})


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A declared key. `field`: the dataclass's attribute; `section`: the dataclass of a section, else None."""

    field: str
    name: str
    hint: Any
    default: Any
    section: Any
    declared: _Declared

    @property
    def optional(self) -> bool:
        """Whether it may be null."""
        return self.hint is Any or type(None) in get_args(self.hint)


@cache
def keys_of(owner: type) -> tuple[Key, ...]:
    """The keys that a dataclass declares, in order; fields without `key` are none."""
    hints = get_type_hints(owner)
    found = []
    for item in fields(owner):
        declared: _Declared | None = item.metadata.get("key")
        if declared is None:
            continue
        hint = declared.yaml_type or hints[item.name]
        section = next((one for one in (hint, *get_args(hint)) if is_dataclass(one)), None)
        default = None if item.default is MISSING else item.default
        if isinstance(default, tuple):  # YAML has lists and mappings
            default = {} if get_origin(hint) is dict else list(default)
        found.append(
            Key(
                field=item.name,
                name=declared.name or item.name,
                hint=hint,
                default=default,
                section=section,
                declared=declared,
            )
        )
    return tuple(found)


@cache
def structured(owner: type, module: str) -> type:
    """The dataclass that OmegaConf validates `owner`'s keys with: mutable, lists for tuples.

    It is put into `module` under its name with `Conf` at the end, since OmegaConf pickles sections by their class.
    """
    import sys

    made = []
    for one in keys_of(owner):
        if one.section is not None:
            inner = structured(one.section, module)
            hint, default = (
                (inner | None, field(default=None)) if one.optional else (inner, field(default_factory=inner))
            )
        elif isinstance(one.default, (list, dict)):
            hint, default = _list_for_tuple(one.hint), field(default_factory=one.default.copy)
        else:
            hint, default = _list_for_tuple(one.hint), field(default=one.default)
        made.append((one.name, hint, default))
    conf = make_dataclass(f"{owner.__name__}Conf", made, namespace={"__module__": module})
    setattr(sys.modules[module], conf.__name__, conf)
    return conf


def _list_for_tuple(hint: Any) -> Any:
    """`list[str] | None` for `tuple[str, ...] | None`."""
    if get_origin(hint) is tuple:
        return list[get_args(hint)[0]]  # type: ignore[misc]
    tuples = [one for one in get_args(hint) if get_origin(one) is tuple]
    return _list_for_tuple(tuples[0]) | None if tuples else hint


# ---------------------------------------------------------------- explaining


@dataclass(frozen=True)
class DescribedKey:
    """A dotted key as `--help` shows it. `type` and `default` are as YAML has them; a section's are empty."""

    name: str
    type: str
    default: str
    text: str


def describe(owner: type, prefix: str = "") -> Iterator[DescribedKey]:
    """All dotted keys, sections before their keys, in the order of their declaration."""
    for one in keys_of(owner):
        name = f"{prefix}{one.name}"
        always = one.section is not None and not one.optional
        kind = "section" if one.section is not None else _type_word(one.hint)
        default = _yaml_word(one.default)
        yield DescribedKey(name, "" if always else kind, "" if always else default, one.declared.text)
        if one.section is not None:
            yield from describe(one.section, f"{name}.")


_TYPE_WORDS = {int: "int", float: "number", str: "text", bool: "bool", tuple: "list", dict: "map"}


def _type_word(hint: Any) -> str:
    """`int | None` is an int: that it may be null shows in its default or its text."""
    plain = (get_origin(one) or one for one in (hint, *get_args(hint)))
    return next((_TYPE_WORDS[one] for one in plain if one in _TYPE_WORDS), "any")


def _yaml_word(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_yaml_word, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


# ---------------------------------------------------------------- checking


def freeze(one: Key, name: str, value: Any) -> Any:
    """The frozen value of the key `one`, dotted `name`. Raises ConfigError with name, value and what to do.

    `value`: plain lists, dicts and scalars, whose types OmegaConf has checked against `structured`.
    """
    if value == "???" or (value is None and not one.optional):
        raise ConfigError(f"{name} has no value", remedy=f"set {name}=VALUE")
    if one.declared.convert is not None:
        return one.declared.convert(name, value)
    if value is None:
        return None
    if one.section is not None:
        return _freeze_section(one.section, name, value)
    kind = next(part for part in get_args(one.hint) if part is not type(None)) if one.optional else one.hint
    if get_origin(kind) is tuple:
        return _freeze_items(one, name, value, get_args(kind)[0])
    if kind is str:
        return _freeze_text(one, name, str(value))
    return value if kind is bool else _within_limits(one, name, kind(value))


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
        raise together(problems)
    return owner(**made)


def _freeze_items(one: Key, name: str, values: Any, kind: Any) -> tuple[Any, ...]:
    if not isinstance(values, list):
        raise ConfigError(f"{name} is {values!r}", remedy=f"write a list: {name}=[a,b]")
    for value in values if one.declared.choices else ():
        if value not in one.declared.choices:
            raise ConfigError(f"{name} has {value!r}", remedy=f"choose from {', '.join(one.declared.choices)}")
    frozen = tuple(values if kind is Any else map(kind, values))
    return tuple(dict.fromkeys(frozen)) if one.declared.choices else frozen


def _freeze_text(one: Key, name: str, value: str) -> str | None:
    if not value and one.optional:
        return None
    if one.declared.choices:
        return choose(name, value, one.declared.choices)
    if not one.optional and not value.strip():
        raise ConfigError(f"{name} is empty", remedy=f"set {name}=VALUE")
    return value if one.optional else value.strip()


def _within_limits(one: Key, name: str, value: float) -> float:
    least, most = one.declared.least, one.declared.most
    if (isinstance(value, float) and not math.isfinite(value)) or (least is not None and value < least):
        remedy = "give a finite number" if least is None else f"it must be at least {least}"
        raise ConfigError(f"{name} is {value}", remedy=remedy)
    if most is not None and value > most:
        raise ConfigError(f"{name} is {value}", remedy=f"it can be {most:g} at most")
    return value


def choose(name: str, value: str, choices: tuple[str, ...]) -> str:
    """`value` if it is one of `choices`; raises ConfigError."""
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}", remedy=f"choose one of {', '.join(choices)}")
    return value
