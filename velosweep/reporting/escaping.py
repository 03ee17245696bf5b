"""Text from configurations, models and prompts made safe for the place where it is shown.

A prompt or a path may hold terminal control sequences, Markdown, a spreadsheet formula or a script; shown
raw, it could act. HTML is escaped by jinja2; `json_for_script` covers data inside a `<script>`.
"""

import json
import re
import unicodedata
from functools import lru_cache

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~])")
_HOMES = re.compile(r"(?:/home/|/Users/|[A-Za-z]:\\Users\\)[^/\\\s'\"]+|/root(?=[/\s'\"]|$)")
# A path that shlex quotes for the characters in it, in a command and on a page: an apostrophe, or `&#39;`.
_QUOTED_HOME = re.compile(rf"(?<![^\s>])('|&#39;)(?:{_HOMES.pattern})/(?=[\w@%+=:,./-]*(?!&#39;)[^\w@%+=:,./'\n-])")
_KEY = re.compile(r"(://[^/\s@:]*:)[^/\s@]+@")  # of an address: http://:KEY@host
_UNSEEN = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")  # controls that JSON lets through
_ASCII = str.maketrans(
    {
        "×": "x", "±": "+/-", "–": "-", "—": "-", "…": "...", "·": ".", "→": "->", "≥": ">=", "≤": "<=", "σ": "sd",
        "α": "alpha", "τ": "tau", "✅": "[ok]", "⚠": "[!]", "❌": "[failed]", "📊": "*", "💾": "*", "🔹": "-",
        "🔸": "-",
        "━": "=", "─": "-", "│": "|", "├": "+", "└": "+", "┤": "+", "●": "o", "○": ".", "█": "#", "\ufe0f": "",
        "\u202f": " ", "\u00a0": " ", "▶": ">", "┄": ".", "┊": ":", "⏸": "", "▲": "^", "▼": "v", "≈": "~", "✗": "x",
        "📈": "*", "ℹ": "i", "🐢": "slow", "∅": "none", "°": "deg ", "“": '"', "”": '"', "⏎": "\\n",
    }
)  # fmt: skip


def terminal_text(text: str) -> str:
    """`text` on one line without control sequences: control characters and bidirectional marks become escapes."""
    if text.isprintable():  # most texts: none of the characters that are replaced is printable
        return text
    shown = []
    for char in text:
        category = unicodedata.category(char)
        # Cc: ESC, CSI and their kin; Cf: bidirectional overrides; Zl, Zp: line breaks in disguise; Cs: lone halves.
        if char != "\n" and (category in {"Cc", "Cs", "Zl", "Zp"} or (category == "Cf" and char != "\u200d")):
            char = f"\\x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{ord(char):04x}"
        shown.append("⏎" if char == "\n" else char)
    return "".join(shown)


def look_alikes(text: str) -> str:
    """`text` in ASCII: signs become what looks like them, the rest `?`."""
    return text.translate(_ASCII).encode("ascii", "replace").decode("ascii")


def replace_with_look_alikes(error: UnicodeError) -> tuple[str, int]:
    """An error handler for `codecs.register_error`: what an output's encoding lacks is written in look-alikes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return look_alikes(error.object[error.start : error.end]), error.end


def markdown_text(text: str) -> str:
    """`text` for a cell of a Markdown table: one line, nothing that formats or links."""
    return _MARKDOWN.sub(r"\\\1", terminal_text(text).replace("⏎", " "))


def csv_text(text: str) -> str:
    """`text` for a cell of a CSV file: what a spreadsheet would run as a formula starts with an apostrophe."""
    shown = terminal_text(text.replace("\n", " "))
    return f"'{shown}" if text.startswith(_FORMULA_STARTS) else shown


def shorten_homes(text: str) -> str:
    """`text` with home directories (and the user names in them) replaced by `~`, outside the quotes of commands."""
    return _HOMES.sub("~", _QUOTED_HOME.sub(r"~/\1", text))


def without_keys(text: str) -> str:
    """`text` without the keys (passwords) in addresses of servers: pages and rows are passed on."""
    return _KEY.sub(r"\1…@", text)


def json_text(text: str) -> str:
    """JSON whose strings hold no control that a terminal would obey: each is written as its escape."""
    return _UNSEEN.sub(lambda control: f"\\u{ord(control[0]):04x}", text)


@lru_cache(maxsize=4096)
def plot_text(text: str) -> str:
    """`text` for a name or hover box of Plotly, which would read `<b>` and `&` as mark-up."""
    return terminal_text(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def json_for_script(value: object) -> str:
    """`value` as compact JSON that can't end the `<script>` it stands in. Raises ValueError on NaN."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def clip(text: str, width: int) -> str:
    """`text` in at most `width` characters, `…` where something is left out."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"
