"""The command line's words before Hydra reads them: what can be none is refused, what it can't read is quoted."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path

from velosweep.config.hydra_errors import BOOLEANS, GROUPS, KEYS, TEXT_KEYS, nearest
from velosweep.errors import ConfigError

_PATH_KEY = re.compile(r"\+{0,2}(output|[\w.]*\.(main_model|draft_model|path|file|dir))=")


def expand_home(words: Iterable[str]) -> list[str]:
    """`~/` of paths made absolute: shells leave it in `model_pair.main_model=~/x.gguf`, and Hydra can't read it."""
    home = str(Path.home())
    return [re.sub(r"(?<=[=,\[])~(?=/|$)", lambda _: home, word) if _PATH_KEY.match(word) else word for word in words]


_GRAMMAR = frozenset("'\"\\,$[](){}")


def quote_letters(words: Iterable[str]) -> list[str]:
    """Values with letters beyond ASCII put in quotes, without which Hydra's grammar knows no ü; not those of lists."""
    return [_quoted(word) for word in words]


def _quoted(word: str) -> str:
    key, equals, value = word.partition("=")
    plain = value.isascii() or not equals or not _GRAMMAR.isdisjoint(value)
    return word if plain else f'{key}="{value}"'


def check_words(words: Iterable[str], verbs: Iterable[str] = (), *, multirun: bool = False) -> None:
    """Raise ConfigError for a word that can be no override (a command out of place, a mere word), or a key twice.

    `multirun`: -m was given, and stands in the command that a remedy shows.
    """
    before = ""
    given: dict[str, str] = {}
    words = list(words)
    for place, word in enumerate(words):
        if word in verbs:
            raise ConfigError(f"{word!r} must be the first word", remedy=f"write: velosweep {word} …")
        if "=" not in word and not word.startswith("~"):
            others = [other for other in words if other != word]
            if others and (multirun or word in _SWEEPS or any(map(_SEVERAL.match, others))):
                others = ["-m", *others]
            raise _cut_apart(words, place) or _mere_word(word, before, verbs, others)
        if not word.partition("=")[0].strip(" +~"):
            raise ConfigError(f"{word!r} has no key", remedy="settings are written key=value, such as n_draft=8")
        _check_equals(word)
        key, value = (part.strip() for part in word.lstrip("+").partition("=")[::2])
        if key in given:
            raise _given_twice(key, given[key], value)
        if not word.startswith("~"):  # taking a key out and then giving it anew is two things
            given[key] = value
        before = word
    if given.get("prompt", "null") != "null" and given.get("prompts.file", "null") != "null":
        raise ConfigError("prompt and prompts.file are both given, and one would be ignored", remedy="give one of them")


def _check_equals(word: str) -> None:
    """Raise ConfigError for `n_draft = 4` in one word, for `n_draft==4` and for `n_draft@=4`, which is for groups."""
    key, _, value = word.partition("=")
    name = key.strip().lstrip("+~")
    bare, package, _ = name.partition("@")
    if package and bare in KEYS:
        raise ConfigError(f"Can't read {word!r}", remedy=f"write it as {shlex.quote(f'{bare}={value}')}")
    if name not in KEYS or (key == key.strip() and (name in TEXT_KEYS or not value.startswith("="))):
        return
    if (meant := value.lstrip("= ").rstrip()) and (key, value) != (key.strip(), meant):
        raise ConfigError(f"Can't read {word!r}", remedy=f"write it as {shlex.quote(f'{key.strip()}={meant}')}")


def _cut_apart(words: Sequence[str], place: int) -> ConfigError | None:
    """Refusal of a path or text whose spaces the shell took for ends of words; None where it isn't that."""
    before = words[place - 1] if place else ""
    key, equals, value = before.partition("=")
    if not equals or key.lstrip("+") not in TEXT_KEYS or value.lower().endswith(".gguf"):
        return None
    rest = list(takewhile(lambda word: "=" not in word, words[place:]))
    whole = shlex.quote(" ".join([before, *rest]))
    return ConfigError(f"{words[place]!r} is neither a command nor key=value", remedy=f"quote it: {whole}")


def _given_twice(key: str, first: str, second: str) -> ConfigError:
    """Refusal of a key with two values: Hydra would take the last, and say nothing."""
    if key == "prompt":
        more = f'several prompts are \'prompts.items=["{first}","{second}"]\''
    else:
        more = f"to measure each: velosweep -m {shlex.quote(f'{key}={first},{second}')}"
    said = f"{key} is given twice, as {first} and as {second}" if first != second else f"{key}={first} is given twice"
    return ConfigError(said, remedy=f"give it once; {more}" if first != second else "give it once")


_SEVERAL = re.compile(rf"(?!(?:{'|'.join(map(re.escape, TEXT_KEYS))})=)[^=]+=(?:[\w.-]+,|range\(|choice\()")
"""A word that gives several values, as far as can be told before Hydra reads it."""
_SEARCH = "a search is: velosweep -m hydra/sweeper=tune 'n_draft=range(1,17)'"
_SWEEPS = ("sweep", "grid", "multirun")
_SAID_OTHERWISE = {
    **dict.fromkeys(("tune", "search", "optimize", "autotune"), _SEARCH),
    **dict.fromkeys(("plan", "dry-run", "dryrun"), "add dry_run=true to what you would run"),
    **dict.fromkeys(("run", "bench", "benchmark", "measure"), "leave the word out: velosweep {n_draft=8}"),
    **dict.fromkeys(_SWEEPS, "a sweep is: velosweep {-m n_draft=4,8,12}"),
}


def _mere_word(word: str, before: str, verbs: Iterable[str], others: Sequence[str]) -> ConfigError:
    """Refusal of a word without `=`; `before` is the override in front of it, `others` what is right beside it."""
    if before.endswith(","):
        return ConfigError(f"{before!r} ends with a comma", remedy="write the values without spaces: n_draft=4,8,12")
    if word.lower().endswith(".gguf"):
        remedy = f"write model_pair.main_model={word}, and the draft model as model_pair.draft_model="
        return ConfigError(f"{word!r} is a file without its key", remedy=remedy)
    if word.startswith("-"):
        return ConfigError(f"There is no option {word!r} here", remedy="settings are written key=value")
    if word in _SAID_OTHERWISE:
        remedy = re.sub(r"\{(.*)\}", lambda example: shlex.join(others) or example[1], _SAID_OTHERWISE[word])
        return ConfigError(f"There is no command {word!r}", remedy=remedy)
    if word in BOOLEANS:
        return ConfigError(f"{word!r} has no value", remedy=f"write {word}=true")
    verb, key = nearest(word, verbs), nearest(word, (*KEYS, *GROUPS))
    if verb:
        return ConfigError(f"There is no command {word!r}", remedy=f"did you mean: velosweep {verb}?")
    hint = f"did you mean {key}=VALUE?" if key else "velosweep --help lists commands and keys"
    return ConfigError(f"{word!r} is neither a command nor key=value", remedy=f"{hint} (texts with spaces: quote)")
