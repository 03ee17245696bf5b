"""The words of the command line, checked and quoted before Hydra reads them."""

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from itertools import takewhile

from velosweep.config.schema import KEY_TYPES, RUN_KEYS, TEXT_KEYS, nearest
from velosweep.errors import ConfigError


def read_words(words: Iterable[str], commands: Iterable[str] = (), *, multirun: bool = False) -> list[str]:
    """The words as Hydra can read them: `~/` of paths made absolute, letters beyond ASCII quoted.

    Raises ConfigError for a word that is not an override (a command out of place, a word without =), and for a key
    that is given twice. `multirun`: -m was given, and is part of the command that a remedy shows.
    """
    words = list(words)
    _refuse_spaces(words)
    given: dict[str, str] = {}
    for place, word in enumerate(words):
        _check_form(words, place, commands, multirun=multirun)
        key, value = (part.strip() for part in word.lstrip("+").partition("=")[::2])
        if key in given:  # Hydra would silently take the last
            first, remedy = given[key], "give it once"
            if first == value:
                raise ConfigError(f"{key}={value} is given twice", remedy=remedy)
            if key == "prompt":
                remedy += f'; several prompts are \'prompts.items=["{first}","{value}"]\''
            elif key.partition(".")[0] not in (*RUN_KEYS, "hydra", "output"):  # these give no jobs that differ
                remedy += f"; to measure each: velosweep -m {shlex.quote(f'{key}={first},{value}')}"
            raise ConfigError(f"{key} is given twice, as {first} and as {value}", remedy=remedy)
        if not word.startswith("~"):  # taking a key out and then giving it anew is two things
            given[key] = value
    if given.get("prompt", "null") != "null" and given.get("prompts.file", "null") != "null":
        raise ConfigError("prompt and prompts.file are both given, and one would be ignored", remedy="give one of them")
    return prepare_words(words)


def quoted(text: str) -> str:
    """`text` as a value that Hydra reads back as this text, whatever it holds; ordinary paths stay as they are."""
    if _ORDINARY_PATH.fullmatch(text):
        return text
    text = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", text)  # OmegaConf's escape
    text = re.sub(r"(\\*)(\"|\Z)", lambda found: found[1] * 2 + ('\\"' if found[2] else ""), text)  # Hydra's
    return f'"{text}"'


_ORDINARY_PATH = re.compile(r"(?:\.{0,2}/|[A-Za-z_][\w-]*[./])[\w./-]+", re.ASCII)
_PATH_KEY = re.compile(r"\+{0,2}(output|[\w.]*\.(main_model|draft_model|path|file|dir))=")
_PATTERN_KEY = re.compile(r"\+{0,2}engine\.(draft_)?override_tensor=(?!null$|$)")
_GRAMMAR = frozenset("'\"\\,$[](){}")


def prepare_words(words: Iterable[str]) -> list[str]:
    """`~/` of paths made absolute, which Hydra can't read; quotes around patterns and values with letters beyond ASCII;
    leave to add names to a map.

    Shells leave `~` in `model_pair.main_model=~/x.gguf`, and Hydra's grammar knows no ü. Lists stay as they are.
    """
    home, prepared = os.path.expanduser("~"), []  # noqa: PTH111 (Path.home raises where there is none)
    for word in words:
        if _PATH_KEY.match(word):
            word = re.sub(r"(?<=[=,\[])~(?=/|$)", lambda _: home, word)
        if _PATTERN_KEY.match(word) and not {"'", '"'} & set(word):
            word = word.replace("=", "='", 1) + "'"
        key, equals, value = word.partition("=")
        if KEY_TYPES.get(key) == "map":  # its names are the person's own, which Hydra must be told to add
            key, word = f"++{key}", f"++{word}"
        plain = value.isascii() or not equals or not _GRAMMAR.isdisjoint(value)
        prepared.append(word if plain else f'{key}="{value}"')
    return prepared


def _refuse_spaces(words: Sequence[str]) -> None:
    """Raise ConfigError for `n_draft= 4`, `n_draft =4` and `n_draft = 4`, which the shell made several words of."""
    for place, word in enumerate(words[:-1]):
        rest = words[place + 1 : place + 3]
        if word.endswith("=") and word[:-1].lstrip("+") in KEY_TYPES and "=" not in rest[0]:
            rest = rest[:1]
        elif word not in KEY_TYPES or not rest[0].startswith("="):
            continue
        elif rest[0] != "=":
            rest = rest[:1]
        said, meant = " ".join([word, *rest]), shlex.quote("".join([word, *rest]))
        raise ConfigError(f"The space is the mistake in {said!r}", remedy=f"write it without: {meant}")


def _check_form(words: Sequence[str], place: int, commands: Iterable[str], *, multirun: bool) -> None:
    """Raise ConfigError where `words[place]` is no key=value, or its key or `=` is misspelled."""
    word = words[place]
    if word in commands:
        raise ConfigError(f"{word!r} must be the first word", remedy=f"write: velosweep {word} …")
    if word.startswith("-"):
        raise ConfigError(f"There is no option {word!r} here", remedy="settings are written key=value")
    if "=" not in word and not word.startswith("~"):
        raise _no_override(words, place, commands, multirun=multirun)
    key, _, value = word.lstrip("+~").partition("=")
    name, package, _ = key.strip().partition("@")
    if not name:
        raise ConfigError(f"{word!r} has no key", remedy="settings are written key=value, such as n_draft=8")
    if not re.fullmatch(r"[\w$/:-][\w$./:-]*(?<!\.)", name):
        guess = nearest(re.sub(r"\s+", "_", name.strip(". ")))
        hint = f"did you mean {guess}?" if guess else "velosweep --help lists the keys"
        raise ConfigError(f"There is no key {name!r}", remedy=hint)
    if name not in KEY_TYPES:
        return
    # `n_draft@=4` is for groups; `n_draft = 4` in one word and `n_draft==4` are slips, but texts may begin with =.
    meant = value.lstrip("= ").rstrip()
    slip = key != key.strip() or (value.startswith("=") and name not in TEXT_KEYS)
    if package or (slip and meant):
        prefix = word[: len(word) - len(word.lstrip("+~"))]
        written = shlex.quote(f"{name}={value}" if package else f"{prefix}{name}={meant}")
        raise ConfigError(f"Can't read {word!r}", remedy=f"write it as {written}")


_SEVERAL = re.compile(rf"(?!(?:{'|'.join(map(re.escape, TEXT_KEYS))})=)[^=]+=(?:[\w.-]+,|range\(|choice\()")
"""A word that gives several values, as far as one can see before Hydra reads it."""
_SEARCH = "a search is: velosweep -m hydra/sweeper=tune 'n_draft=range(1,17)'"
_SWEEPS = ("sweep", "grid", "multirun")
# Words that people take for commands; {…} stands for what else they wrote.
_NO_COMMANDS = {
    **dict.fromkeys(("tune", "search", "optimize", "autotune"), _SEARCH),
    **dict.fromkeys(("plan", "dry-run", "dryrun"), "add dry_run=true to what you would run"),
    **dict.fromkeys(("bench", "benchmark", "measure"), "leave the word out: velosweep {n_draft=8}"),
    **dict.fromkeys(_SWEEPS, "a sweep is: velosweep {-m n_draft=4,8,12}"),
}


def _no_override(words: Sequence[str], place: int, commands: Iterable[str], *, multirun: bool) -> ConfigError:
    word, before = words[place], words[place - 1] if place else ""
    key, equals, value = before.partition("=")
    if equals and key.lstrip("+") in TEXT_KEYS and not value.lower().endswith(".gguf"):  # the shell split a text
        whole = " ".join([before, *takewhile(lambda word: "=" not in word, words[place:])])
        return ConfigError(f"{word!r} is neither a command nor key=value", remedy=f"quote it: {shlex.quote(whole)}")
    if before.endswith(","):
        return ConfigError(f"{before!r} ends with a comma", remedy="write the values without spaces: n_draft=4,8,12")
    if word.lower().endswith(".gguf"):
        remedy = f"write model_pair.main_model={word}, and the draft model as model_pair.draft_model="
        if "=" not in before:
            remedy = (
                f"write: velosweep run --main {shlex.quote(word)} --draft DRAFT.gguf (or model_pair.main_model={word})"
            )
        return ConfigError(f"{word!r} is a file without its key", remedy=remedy)
    if word in _NO_COMMANDS:
        others = [other for other in words if other != word]
        if others and (multirun or word in _SWEEPS or any(map(_SEVERAL.match, others))):
            others = ["-m", *others]
        remedy = re.sub(r"\{(.*)\}", lambda example: shlex.join(others) or example[1], _NO_COMMANDS[word])
        return ConfigError(f"There is no command {word!r}", remedy=remedy)
    if KEY_TYPES.get(word) == "bool":
        return ConfigError(f"{word!r} has no value", remedy=f"write {word}=true")
    if command := nearest(word, commands):
        return ConfigError(f"There is no command {word!r}", remedy=f"did you mean: velosweep {command}?")
    guess = nearest(word)
    hint = f"did you mean {guess}=VALUE?" if guess else "velosweep --help lists commands and keys"
    return ConfigError(f"{word!r} is neither a command nor key=value", remedy=f"{hint} (texts with spaces: quote)")
