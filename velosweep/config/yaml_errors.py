"""Errors for a file that is not YAML or not text: with file, line and what to do."""

from __future__ import annotations

import re
from pathlib import Path

from velosweep.errors import ConfigError, VelosweepError

_INDENT = "indent all keys of one level by the same number of spaces; put a text with ': ' in quotes"
# What PyYAML complains of -> what to do.
_REMEDIES = (
    (r"'\\t'", "indent with spaces"),
    (r"cannot start any token|alias|anchor|tag|constructor|chomping", "put the value in quotes"),
    (r"mapping values are not allowed|<block end>", _INDENT),
    (r"expected ',' or", "close the bracket, or put the text in quotes"),
    (r"unexpected end of stream", "close the quote"),
    (r"duplicate key", "leave one of them"),
    (r"expected ':'", "write `key: value`, with a space after the colon"),
    (r"escape character", "use single quotes for paths"),
    (r"special characters", "save the file as UTF-8 text"),
    (r"recursion", "write it with fewer brackets and lists within each other"),
)
# Where these began tells more than where the parser noticed.
_BEGAN_EARLIER = re.compile("end of stream|expected ',' or|could not find expected ':'")


def not_yaml(error: Exception, file: object = None, kind: type[VelosweepError] = ConfigError) -> VelosweepError:
    """Our error for one of PyYAML, in its words. `file`: where it doesn't name the file itself."""
    problem = str(getattr(error, "problem", None) or "") or str(error).strip().partition("\n")[0]
    said = f"{getattr(error, 'context', None) or ''} {problem}"
    before, at = getattr(error, "context_mark", None), getattr(error, "problem_mark", None)
    mark = (before if _BEGAN_EARLIER.search(problem) else at) or at or before
    line = "" if mark is None else f", line {mark.line + 1}"
    remedy = next((remedy for pattern, remedy in _REMEDIES if re.search(pattern, said)), "look at that line")
    name = file or getattr(mark, "name", None) or getattr(error, "name", None) or "A YAML file"
    return kind(f"{name}{line} is not YAML: {problem or type(error).__name__}", remedy=remedy)


def not_utf8(error: UnicodeDecodeError, file: Path, kind: type[VelosweepError] = ConfigError) -> VelosweepError:
    """Our error for a file whose bytes are not text."""
    line = error.object.count(b"\n", 0, error.start) + 1
    return kind(f"{file}, line {line} is not UTF-8 text", remedy="save the file as UTF-8")
