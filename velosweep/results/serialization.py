"""Frozen values of the model as JSON values, and back."""

from __future__ import annotations

import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, TypeVar, Union

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """A frozen value of the model as JSON values: dataclasses as objects, times as RFC 3339."""
    if type(value) in _JSON:
        return value
    if is_dataclass(value):
        return {name: to_plain(getattr(value, name)) for name, _, _ in _fields(value.__class__)}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")
    return value


_JSON = frozenset({str, int, float, bool, type(None)})


def from_plain(kind: type[T], value: dict[str, Any]) -> T:
    """The inverse of `to_plain`; keys that `kind` doesn't know are left out, absent ones take their default.

    Raises KeyError, TypeError or ValueError for what doesn't fit.
    """
    given = {}
    for name, hint, needed in _fields(typing.cast("Any", kind)):
        if name in value:
            found = value[name]
            given[name] = found if type(found) is hint else _decode(hint, found)
        elif needed:
            raise KeyError(name)
    return kind(**given)


@lru_cache
def _fields(kind: type) -> tuple[tuple[str, Any, bool], ...]:
    """Name and type of each field, and whether it has no default."""
    hints = typing.get_type_hints(kind)
    return tuple(
        (field.name, hints[field.name], field.default is MISSING and field.default_factory is MISSING)
        for field in fields(kind)
    )


def _decode(hint: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _decode(next(argument for argument in arguments if argument is not type(None)), value)
    if origin is tuple:
        return tuple(_decode(arguments[0], item) for item in value)
    if is_dataclass(hint):
        return from_plain(typing.cast("type[Any]", hint), value)
    if hint is datetime:
        return datetime.fromisoformat(value.replace("Z", "+00:00"))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint):
        raise TypeError(f"expected {hint.__name__}, found {value!r}")
    return value
