"""How values are written on the command line: what Hydra's grammar can't read, and how to write what was meant."""

from __future__ import annotations

import re
import shlex

from velosweep.config.key_names import GROUPS, KEY_TYPES
from velosweep.config.schema import KEYS, RUN_KEYS
from velosweep.errors import ConfigError

_HELP = "run `velosweep --help` for what the key takes"


def unreadable_override(override: str, detail: str) -> ConfigError:
    """The error for a `key=value` that Hydra's grammar can't read. Most of its message, `detail`, helps nobody."""
    key, _, value = override.partition("=")
    name = key.strip().lstrip("+~")
    unquoted = re.sub(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'", "", value)
    call = re.search(r"while evaluating '.*?': (.*)", detail)
    reason = "it holds a character that must be in quotes"
    if name in GROUPS or KEY_TYPES.get(name, "text") != "text":
        if call:
            reason = call[1].rstrip()
        elif re.search(r"(?:^|[,(\[])\s*(?:,|$|[)\]])", value):
            reason = "a value is missing beside a comma"
        for opening, closing in ("{}", "[]", "()"):
            if unquoted.count(opening) > unquoted.count(closing):
                reason = f"{opening} is never closed"
            elif unquoted.count(opening) < unquoted.count(closing):
                reason = f"{closing} has no {opening} before it"
    return ConfigError(f"Can't read {override!r}: {reason}", remedy=how_to_write(key, value))


def how_to_write(key: str, value: str, otherwise: str | None = None) -> str:
    """How the value that was meant by `key=value` is written. `otherwise`: in place of an example."""
    name = re.sub(r"\[\d+\]$", "", key.strip().lstrip("+~"))  # an item of a list stands for the list
    known, kind = KEYS.get(name), "choice" if name in GROUPS else KEY_TYPES.get(name)
    several = several_in(value)
    if kind in ("list", "any"):
        written = f"{name}=[{several or value.strip('[], ') or 'A,B'}]"
        return f"write a list: {shlex.quote(written)}" if written != f"{name}={value}" else _HELP
    if kind == "":
        return _HELP
    if kind in (None, "text"):
        inner = value.replace("\\", "\\\\").replace('"', '\\"').replace("'", "'\\''")
        advice = f"text with commas, brackets, # or quotes needs inner quotes: '{key}=\"{inner}\"'"
        return advice + ("; prompts.file=FILE takes prompts as they are" if key.startswith("prompt") else "")
    if name.partition(".")[0] in RUN_KEYS and several:
        return f"give one value: {name} holds for the whole sweep"
    if otherwise:
        return otherwise
    span = re.fullmatch(r"(\d+)\s*(?:\.\.+|-|:|to)\s*(\d+)", value)
    if span:
        return f"several values are: -m '{name}=range({span[1]},{int(span[2]) + 1})', whose end is left out"
    if several:
        return f"several values are: -m {shlex.quote(f'{name}={several}')}"
    example = "VALUE" if known is None or known.default is None or "$" in known.default_word else known.default_word
    if name.partition(".")[0] in RUN_KEYS:
        return f"write {name}={example}"
    span_too = f" or -m '{name}=range(START,STOP,STEP)'" if kind in ("int", "number") else ""
    return f"one value is {name}={example}; several are -m {name}=A,B{span_too}"


def several_in(value: str) -> str:
    """`4,8` for `4;8`, `[4, 8]` and the like; nothing for a single value or a function."""
    parts = [part for part in re.split(r"\s*[;,]\s*", value.strip("[]() ")) if part]
    return ",".join(parts) if len(parts) > 1 and not re.search(r"\w\(", value) else ""
