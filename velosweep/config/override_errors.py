"""An override that Hydra's grammar can't read, in the words of the person who wrote it."""

from __future__ import annotations

import re
import shlex

from velosweep.errors import ConfigError

_CLOSING = {"(": ")", "[": "]", "{": "}"}
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'")
_MISSING = re.compile(r"(?:^|[,(\[])\s*(?:,|$|[)\]])")
_CALL = re.compile(r"\s*(\w+)\(")


def refusal_of(override: str, detail: str, *, kind: str | None) -> ConfigError:
    """The refusal of `key=value`. `kind`: what the key takes (`text`, `list`, `int`…), None for an unknown one.

    `detail` is the parser's complaint, of which only what a person can use is told.
    """
    key, _, value = override.partition("=")
    if kind == "text" or kind is None:
        return ConfigError(
            f"Can't read {override!r}: it holds a character that must be in quotes", remedy=quoting(key, value)
        )
    reason = _reason(value, detail)
    return ConfigError(f"Can't read {override!r}: {reason}", remedy=_remedy(key, value, kind))


def quoting(key: str, value: str) -> str:
    """How to write a value that Hydra's grammar takes apart: quotes inside the shell's quotes."""
    inner = value.replace("\\", "\\\\").replace('"', '\\"').replace("'", "'\\''")
    advice = f"text with commas, brackets, # or quotes needs inner quotes: '{key}=\"{inner}\"'"
    return advice + ("; prompts.file=FILE takes prompts as they are" if key.startswith("prompt") else "")


def _reason(value: str, detail: str) -> str:
    unknown = re.search(r"Unknown function '(\w+)'", detail)
    if unknown:
        return f"there is no function {unknown[1]}()"
    left, stray = _brackets(value)
    if left:
        return f"{left[-1]} is never closed"
    if stray:
        return f"{stray} closes nothing"
    if _MISSING.search(value):
        return "a value is missing beside a comma"
    call = _CALL.match(value)
    if call:
        return f"{call[1]}() can't take what is in its brackets"
    return "it holds a character that must be in quotes"


def _brackets(value: str) -> tuple[list[str], str]:
    """The brackets outside quotes that are left open, outermost first, and the first that closes none."""
    left: list[str] = []
    for letter in _QUOTED.sub("", value):
        if letter in _CLOSING:
            left.append(letter)
        elif letter in _CLOSING.values():
            if not left or _CLOSING[left[-1]] != letter:
                return [], letter
            left.pop()
    return left, ""


def _remedy(key: str, value: str, kind: str) -> str:
    name = key.lstrip("+")
    if ";" in value:
        separated = f"{key}={','.join(value.replace(';', ' ').split())}"
        return f"several values are separated by commas: -m {shlex.quote(separated)}"
    if kind == "list":
        left, _ = _brackets(value)
        whole = value + "".join(_CLOSING[letter] for letter in reversed(left))
        return f"write a list: {shlex.quote(f'{key}={whole}')}" if left else f"write a list: '{key}=[A,B]'"
    if kind in ("int", "number"):
        return f"one value is {name}=4; several are -m {name}=4,8,12 or -m '{name}=range(4,13,4)'"
    return f"one value is {name}=VALUE; several are -m {name}=A,B"
