"""`velosweep run`: measure by ordinary flags; they are translated into keys, and Hydra does the rest."""

import argparse
import difflib
import glob
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from velosweep.config.command_words import quoted
from velosweep.config.flags import ALIASES, FLAGS, FLAGS_OF
from velosweep.config.keys import expanded
from velosweep.config.schema import GROUPS, KEYS, nearest
from velosweep.errors import ConfigError


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    from velosweep.hydra_app.application import run

    return run(words(argv), typed=("velosweep", "run", *argv))


def words(argv: Sequence[str], command: str = "run") -> list[str]:
    """The command line of Hydra's grammar that means the same; with -m where a setting has several values.

    `command`: ours, that takes these flags. Raises ConfigError for what contradicts itself.
    """
    flags, overrides = split_overrides(argv)
    parser = _parser()
    parser.prog = f"velosweep {command}"
    arguments = parsed(parser, flags)
    if numbered := [text for text in arguments.draft or () if text.isdigit() and not os.path.exists(text)]:  # noqa: PTH110
        raise ConfigError(f"--draft takes a file, not {numbered[0]}", remedy=f"for the length: --n-draft {numbered[0]}")
    refuse_lone_draft(arguments, overrides)
    if arguments.budget and not arguments.tune:
        raise ConfigError("--budget is for a search", remedy="add --tune")
    values = {**flag_values(arguments, "run"), "hydra/sweeper": ["tune"] if arguments.tune else []}
    several = arguments.tune or any(len(of_key) > 1 for of_key in values.values()) or any(map(is_several, overrides))
    if not several and arguments.out:
        values["hydra.run.dir"] = values.pop("hydra.sweep.dir")
    return [*(["-m"] if several else []), *hydra_arguments(values, DEFAULTS, overrides)]


def refuse_lone_draft(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Raise ConfigError for a draft model without a main model, by a flag or a key."""
    has_main = arguments.main or {"model_pair", "model_pair.main_model"} & set(map(_key_of, overrides))
    if arguments.draft and not has_main:
        raise ConfigError("--draft is given without --main", remedy="add --main MAIN.gguf")


def parsed(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """What the words say. Raises ConfigError for those that are no flags of the command."""
    arguments, unknown = parser.parse_known_args(words)
    if not unknown:
        return arguments
    flag, flags = unknown[0].partition("=")[0], re.findall(r"(?<![\w-])--?[a-z][a-z-]*", parser.format_help())
    remedy = f"{parser.prog} --help lists its flags; other settings are written KEY=VALUE"
    pairs = [word.partition("=")[::2] for word in unknown]
    if as_flags := [f"--{name} {shlex.quote(value)}" for name, value in pairs if f"--{name}" in flags]:
        remedy = f"write {' '.join(as_flags)}"
    elif flag.lower().endswith(".gguf"):
        main, *drafts = list(filter(None, [getattr(arguments, "model", None), *unknown]))
        remedy = f"write: {shlex.join(['velosweep', 'run', '--main', main, '--draft', *(drafts or ['DRAFT.gguf'])])}"
    elif ALIASES.get(flag) == "model_pair.main_model":
        remedy = f"the model needs no flag: {parser.prog} MODEL.gguf"
    elif re.fullmatch(r"s|sec|min|minutes?|h|hours?", flag):
        remedy = f"write the time as one word, such as 10{flag}"
    elif near := difflib.get_close_matches(flag, flags, n=1, cutoff=0.7):
        remedy = f"did you mean {near[0]}? {remedy}"
    elif flag.startswith("-") and (key := nearest(flag)):
        remedy = f"did you mean {key}=VALUE? {remedy}"
    elif flag.startswith("-"):
        remedy = f"if it is llama-server's, write it as 'engine.args=[{flag}]'. {remedy}"
    raise ConfigError(f"{parser.prog} can't read {unknown[0]!r}", remedy=remedy)


# Prompts go through the model's chat template where it has one.
DEFAULTS = {"prompts.chat": ["auto"]}


def hydra_arguments(
    values: Mapping[str, Sequence[str]], defaults: Mapping[str, Sequence[str]], overrides: Sequence[str]
) -> list[str]:
    """`key=a,b` for each key that has values, then `overrides`. `defaults`: of keys that neither of these sets.

    Raises ConfigError for a key that both set.
    """
    for override in overrides:
        if of_key := values.get(key := _key_of(override)):
            said = f"{key} is given twice, as {','.join(of_key)} and as {override.partition('=')[2]}"
            raise ConfigError(said, remedy="give it once")
    given = {key for key, of_key in values.items() if of_key} | {_key_of(override) for override in overrides}
    chosen = {**{key: of_key for key, of_key in defaults.items() if key not in given}, **values}
    return [*(f"{key}={','.join(dict.fromkeys(of_key))}" for key, of_key in chosen.items() if of_key), *overrides]


def _key_of(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


_OVERRIDE = re.compile(r"[+~]{0,2}([A-Za-z_][\w./]*)=")
_SECTIONS = {"hydra", *(key.partition(".")[0] for key in KEYS if "." in key)}


def split_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags and their values, and the words that set one of our keys as in `velosweep KEY=VALUE`; also a key in one of
    our sections that is misspelled, or the person's own, such as +speculation.parameters.NAME.

    Hydra's -m, which stands before such a word, is neither: what has several values is a sweep here without it. What
    follows --prompt is a text, whatever it begins with.
    """
    flags: list[str] = []
    overrides: list[str] = []
    for word, after in zip_longest(argv, argv[1:], fillvalue=""):
        is_text = bool(flags) and flags[-1] in ("-p", "--prompt")
        if is_text or not (_is_override(word) or (word == "-m" and _is_override(after))):
            flags.append(word)
        elif word != "-m":
            overrides.append(word)
    return flags, overrides


def _is_override(word: str) -> bool:
    found = _OVERRIDE.match(word)
    key = found[1] if found else ""
    return key in KEYS or key in GROUPS or ("." in key and key.partition(".")[0] in _SECTIONS)


def is_several(override: str) -> bool:
    """Whether `key=…` names several values."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(override).is_sweep_override()


def file_names(given: Iterable[str] | None) -> list[str]:
    """The paths that were given: patterns stand for the files they match, commas for several.

    Raises ConfigError for a pattern that matches nothing.
    """
    found: list[str] = []
    for text in given or ():
        for part in [text] if os.path.exists(text) else split_values([text]):  # noqa: PTH110 (a name may be too long)
            path = part if "://" in part else str(expanded(part))  # a path would lose a slash of hf://
            matches = sorted(glob.glob(path)) if glob.has_magic(path) and not os.path.exists(path) else [path]  # noqa: PTH110, PTH207
            if not matches:
                raise ConfigError(f"No file matches {part}", remedy="check the folder, or name the files")
            found += matches
    return found


def split_values(given: Iterable[str] | None) -> list[str]:
    """`a,b c` as a, b, c."""
    return [part.strip() for text in given or () for part in text.split(",") if part.strip()]


_MOST_NUMBERS = 10_000


def split_numbers(given: Iterable[str] | None) -> list[str]:
    """As `split_values`; `2-5` stands for 2, 3, 4, 5. Raises ConfigError for `5-2`."""
    found: list[str] = []
    for part in split_values(given):
        span = re.fullmatch(r"(\d+)(?:-|\.\.)(\d+)", part)
        if span and int(span[1]) > int(span[2]):
            raise ConfigError(f"{part} names no number", remedy=f"write the smaller one first: {span[2]}-{span[1]}")
        if span and int(span[2]) - int(span[1]) >= _MOST_NUMBERS:
            raise ConfigError(
                f"{part} is more than {_MOST_NUMBERS} numbers", remedy="name the few that matter: 2,4,8,16"
            )
        found += map(str, range(int(span[1]), int(span[2]) + 1)) if span else [part]
    return found


# How the values of a flag are read that takes several: as Hydra's grammar has them.
_READERS: dict[str, Callable[[Sequence[str]], list[str]]] = {
    "N": split_numbers,
    "KIND": split_values,
    "FILE": lambda given: list(map(quoted, file_names(given))),
    "TEXT": lambda given: list(map(quoted, given)),
}


def add_flags(parser: argparse.ArgumentParser, command: str) -> None:
    """The flags of `command` that set keys; its `--help` lists our spellings of them."""
    taken: set[str] = set()
    for flag in (FLAGS[key] for key in FLAGS_OF[command]):
        how: dict[str, Any] = {"metavar": flag.takes} if flag.takes else {"action": "store_true"}
        if flag.takes in _READERS:
            how |= {"action": "append"} if flag.takes == "TEXT" else {"action": "extend", "nargs": "+"}
        for spellings, text in ((flag.ours, flag.text), (flag.others, argparse.SUPPRESS)):
            if words := [word for word in spellings.split() if word not in taken]:
                parser.add_argument(*words, dest=flag.attribute, help=text, **how)
                taken.update(words)


def flag_values(arguments: argparse.Namespace, command: str) -> dict[str, list[str]]:
    """The keys that the flags of `command` set, with their values. Raises ConfigError for a flag without a value."""
    found: dict[str, list[str]] = {}
    for key in FLAGS_OF[command]:
        flag = FLAGS[key]
        given = getattr(arguments, flag.attribute)
        if given is True:
            found[key] = ["true"]
        elif flag.takes in _READERS and given:
            found[key] = _READERS[flag.takes](given)
            if not found[key]:
                raise ConfigError(f"{flag.name} {' '.join(given)} names no value", remedy=f"{flag.name}: {flag.text}")
        elif given:
            found[key] = [quoted(str(expanded(given)))]
    if {"prompt", "prompts.file"} <= found.keys():
        raise ConfigError("--prompt and --prompts are both given, and one would be ignored", remedy="give one of them")
    if len(found.get("prompt", ())) > 1:
        found["prompts.items"] = [f"[{','.join(found.pop('prompt'))}]"]
    if arguments.prompts and not _is_file(arguments.prompts):
        del found["prompts.file"]
        found["prompts"] = [arguments.prompts]
    return found


def _is_file(prompts: str) -> bool:
    """Whether it is meant as a file, and not as the name of a set."""
    path = expanded(prompts)
    return path.exists() or bool(path.suffix) or "/" in prompts


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="velosweep run",
        usage="velosweep run --main MAIN.gguf --draft DRAFT.gguf … [--n-draft 2,4,8] [--tune] …",
        description="Measure a model with and without speculative decoding. Flags that take several values measure "
        "every combination. The run is saved as the configuration that these flags stand for.",
        epilog="Any other setting: KEY=VALUE, as `velosweep --help` lists them, e.g. engine.mmap=false. llama-server's "
        "spellings are taken, too: -c, -t, -ngl, -fa, -ctk, -ctv, -np, --draft-max, --temp, --seed.",
    )
    parser.add_argument("--tune", action="store_true", help="search these values for the fastest")
    add_flags(parser, "run")
    return parser
