"""What is wrong with a YAML file, in the words of the person who wrote it: line, mistake, what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """`line` counts from 1, None where the parser doesn't tell; `file` as the parser was given it."""

    line: int | None
    what: str
    remedy: str
    file: str | None = None

    @property
    def place(self) -> str:
        """`, line 4`, or nothing."""
        return "" if self.line is None else f", line {self.line}"


_QUOTES = "put the value in quotes"
_INDENT = "indent all keys of one level by the same number of spaces"
# PyYAML's words -> what they come from, and what to do. {0}: what the words name.
_KNOWN = (
    (r"found character '\\t' that cannot start any token", "a tab, where YAML wants spaces", "indent with spaces"),
    (r"found character '(.)' that cannot start any token", "a value can't start with {0}", _QUOTES),
    (r"found undefined alias|while scanning an alias", "a value can't start with *", _QUOTES),
    (r"while scanning an anchor", "a value can't start with &", _QUOTES),
    (r"could not determine a constructor|found undefined tag handle|while scanning a tag", "a value can't start with !",
     _QUOTES),
    (r"expected chomping or indentation indicators", "a value can't start with | or > and go on in its line", _QUOTES),
    (r"mapping values are not allowed here", "a colon where none can be: the line is indented too far, or its text "
     "holds ': '", f"{_INDENT}; put a text with ': ' in quotes"),
    (r"expected ',' or '(.)'.*<stream end>", "a bracket is never closed: {0} is missing", "close it"),
    (r"expected ',' or '(.)'", "in the brackets that open here a comma or {0} is missing",
     "put it in, or quote the text"),
    (r"found unexpected end of stream", "a quote is never closed", "close it"),
    (r"found duplicate key (.+)", "the key {0} stands twice", "leave one of them"),
    (r"could not find expected ':'", "this is no key: value", "write `key: value`, with a space after the colon"),
    (r"found unknown escape character '(.)'", "a backslash before {0} in double quotes", "use single quotes for paths"),
    (r"expected <block end>", "something follows the end of a value, or a line is indented unlike those above it",
     f"{_INDENT}; quote a text as a whole"),
    (r"special characters are not allowed", "a character that text files don't have", "save the file as UTF-8 text"),
    (r"recursion", "brackets or lists within lists too deep to read", "write it flatter"),
)  # fmt: skip
# Where these began tells more than where the parser noticed.
_BEGAN_EARLIER = re.compile("end of stream|expected ',' or|could not find expected ':'")


def mistake_of(error: Exception) -> Mistake:
    """What a YAML parser complained of. What isn't known keeps the parser's words."""
    problem = str(getattr(error, "problem", None) or "")
    context = str(getattr(error, "context", None) or "")
    said = problem or str(error).strip().partition("\n")[0] or type(error).__name__
    before, at = getattr(error, "context_mark", None), getattr(error, "problem_mark", None)
    mark = (before if _BEGAN_EARLIER.search(said) else at) or at or before
    name = getattr(mark, "name", None) or getattr(error, "name", None)
    what, remedy = _in_our_words(f"{context} {problem}" if problem else str(error)) or (said, "look at that line")
    return Mistake(line=None if mark is None else mark.line + 1, what=what, remedy=remedy, file=name)


def _in_our_words(said: str) -> tuple[str, str] | None:
    for pattern, what, remedy in _KNOWN:
        found = re.search(pattern, said)
        if found:
            return what.format(*found.groups()), remedy
    return None
