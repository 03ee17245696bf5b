"""`velosweep run`: measure by ordinary flags; they are translated into keys, and Hydra does the rest."""

import argparse
import difflib
import glob
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

from velosweep.config.command_words import quoted
from velosweep.config.flag_habits import counterpart
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
    if arguments.draft and not arguments.main:
        raise ConfigError("--draft is given without --main", remedy="velosweep run --main MAIN.gguf --draft DRAFT.gguf")
    if arguments.budget and not arguments.tune:
        raise ConfigError("--budget is for a search", remedy="add --tune")
    values = {
        "model_pair.main_model": files(arguments.main),
        "model_pair.draft_model": files(arguments.draft),
        "speculation": split_values(arguments.kind),
        "n_draft": split_numbers(arguments.n_draft),
        "iterations": split_numbers(arguments.iterations),
        "llama_cpp.path": files(arguments.llama_cpp_path),
        "output": [quoted(str(expanded(arguments.output)))] if arguments.output else [],
        "skip_vanilla": ["true"] if arguments.skip_vanilla else [],
        **measuring_values(arguments),
        "hydra/sweeper": ["tune"] if arguments.tune else [],
        "tuner.budget": [arguments.budget] if arguments.budget else [],
    }
    several = arguments.tune or any(len(of_key) > 1 for of_key in values.values()) or any(map(_is_several, overrides))
    folder = "hydra.sweep.dir" if several else "hydra.run.dir"
    values[folder] = [quoted(arguments.out)] if arguments.out else []
    return [*(["-m"] if several else []), *hydra_arguments(values, DEFAULTS, overrides)]


def parsed(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """What the words say. Raises ConfigError for those that are no flags of the command.

    A flag of llama-server's is answered with what it is here; argparse would take `-ngl` for `-n gl`.
    """
    flags = re.findall(r"(?<![\w-])--?[a-z][a-z-]*", parser.format_help())
    for place, word in enumerate(words):
        flag, _, value = word.partition("=")
        here = counterpart(flag) if flag not in flags else None
        if here is not None and (here.endswith("=") or here in flags):
            value = value or next((after for after in words[place + 1 : place + 2] if not after.startswith("-")), "…")
            instead = here + value if here.endswith("=") else f"{here} {value}"
            raise ConfigError(f"{parser.prog} has no {flag}", remedy=f"write {instead} instead")
    arguments, unknown = parser.parse_known_args(words)
    if not unknown:
        return arguments
    remedy = f"{parser.prog} --help lists its flags; other settings are written KEY=VALUE"
    if unknown[0].lower().endswith(".gguf"):
        main, *drafts = list(filter(None, [getattr(arguments, "model", None), *unknown]))
        remedy = f"write: {shlex.join(['velosweep', 'run', '--main', main, '--draft', *(drafts or ['DRAFT.gguf'])])}"
    elif counterpart(unknown[0]) == "--main":
        remedy = f"the model needs no flag: {parser.prog} MODEL.gguf"
    elif re.fullmatch(r"s|sec|min|minutes?|h|hours?", unknown[0]):
        remedy = f"write the time as one word, such as 10{unknown[0]}"
    elif near := difflib.get_close_matches(unknown[0].partition("=")[0], flags, n=1, cutoff=0.7):
        remedy = f"did you mean {near[0]}? {remedy}"
    elif unknown[0].startswith("-") and (key := nearest(unknown[0].partition("=")[0])):
        remedy = f"did you mean {key}=VALUE? {remedy}"
    raise ConfigError(f"{parser.prog} can't read {unknown[0]!r}", remedy=remedy)


# Prompts go through the model's chat template where it has one.
DEFAULTS = {"prompts.chat": ["auto"]}


def hydra_arguments(
    values: Mapping[str, Sequence[str]], defaults: Mapping[str, Sequence[str]], overrides: Sequence[str]
) -> list[str]:
    """`key=a,b` for each key that has values, then `overrides`. `defaults`: of keys that neither of these sets."""
    given = {key for key, of_key in values.items() if of_key} | {_key_of(override) for override in overrides}
    chosen = {**{key: of_key for key, of_key in defaults.items() if key not in given}, **values}
    return [*(f"{key}={','.join(dict.fromkeys(of_key))}" for key, of_key in chosen.items() if of_key), *overrides]


def _key_of(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


_OVERRIDE = re.compile(r"[+~]{0,2}([A-Za-z_][\w./]*)=")


def split_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags and their values, and the words that set one of our keys as in `velosweep KEY=VALUE`."""

    def is_override(word: str) -> bool:
        found = _OVERRIDE.match(word)
        return found is not None and (found[1] in KEYS or found[1] in GROUPS or found[1].startswith("hydra."))

    return [word for word in argv if not is_override(word)], [word for word in argv if is_override(word)]


def _is_several(override: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(override).is_sweep_override()


def files(given: Iterable[str] | None) -> list[str]:
    """As `file_names`, quoted for Hydra."""
    return list(map(quoted, file_names(given)))


def file_names(given: Iterable[str] | None) -> list[str]:
    """The paths that were given: patterns stand for the files they match, commas for several.

    Raises ConfigError for a pattern that matches nothing.
    """
    found: list[str] = []
    for text in given or ():
        for part in [text] if os.path.exists(text) else text.split(","):  # noqa: PTH110 (may be too long for a name)
            path = str(expanded(part))
            matches = sorted(glob.glob(path)) if glob.has_magic(path) and not os.path.exists(path) else [path]  # noqa: PTH110, PTH207
            if not matches:
                raise ConfigError(f"No file matches {part}", remedy="check the folder, or name the files")
            found += matches
    return [path for path in found if path]


def split_values(given: Iterable[str] | None) -> list[str]:
    """`a,b c` as a, b, c."""
    return [part.strip() for text in given or () for part in text.split(",") if part.strip()]


def split_numbers(given: Iterable[str] | None) -> list[str]:
    """As `split_values`; `2-5` stands for 2, 3, 4, 5."""
    found: list[str] = []
    for part in split_values(given):
        span = re.fullmatch(r"(\d+)(?:-|\.\.)(\d+)", part)
        found += map(str, range(int(span[1]), int(span[2]) + 1)) if span else [part]
    return found


def _prompt_values(prompts: Sequence[str] | None, source: str | None) -> dict[str, list[str]]:
    """The keys for prompts given as texts, and for a file of them or the name of a set. Raises ConfigError for both."""
    if prompts and source:
        raise ConfigError("--prompt and --prompts are both given, and one would be ignored", remedy="give one of them")
    if source:
        path = expanded(source)
        is_file = path.exists() or path.suffix or "/" in source
        return {"prompts.file": [quoted(str(path))]} if is_file else {"prompts": [source]}
    if prompts and len(prompts) > 1:
        return {"prompts.items": [f"[{','.join(map(quoted, prompts))}]"]}
    return {"prompt": [quoted(prompts[0])] if prompts else []}


def measuring_values(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """The keys of `add_measuring_flags`, but for programs and folders. Raises ConfigError."""
    return {
        "n_predict": split_numbers(arguments.n_predict),
        **_prompt_values(arguments.prompt, arguments.prompts),
        "dry_run": ["true"] if arguments.dry_run else [],
        "display.quiet": ["true"] if arguments.quiet else [],
        "display.verbose": ["true"] if arguments.verbose else [],
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="velosweep run",
        usage="velosweep run --main MAIN.gguf --draft DRAFT.gguf … [--n-draft 2,4,8] [--tune] …",
        description="Measure a model with and without speculative decoding. Flags that take several values measure "
        "every combination. The run is saved as the configuration that these flags stand for.",
        epilog="Any other setting: KEY=VALUE, as `velosweep --help` lists them, e.g. engine.context=8192",
    )
    many = {"nargs": "+", "action": "extend", "metavar": "FILE"}
    parser.add_argument("-m", "--main", "--main-model", "--model", **many, help="main model (several, or a pattern)")  # type: ignore[arg-type]
    parser.add_argument("-d", "-md", "--draft", "--draft-model", "--model-draft", **many, help="draft model, likewise")  # type: ignore[arg-type]
    add_measuring_flags(parser)
    parser.add_argument("--n-draft", nargs="+", metavar="N", help="tokens drafted at a time: 8, or 2,4,8, or 1-8")
    parser.add_argument("--kind", nargs="+", metavar="KIND", help="kinds of speculation (default: draft)")
    parser.add_argument("--tune", action="store_true", help="search these values for the fastest")
    parser.add_argument("--budget", metavar="TIME", help="--tune: most time of measuring, e.g. 90s, 10min, 2h")
    parser.add_argument("-i", "--iterations", nargs=1, metavar="N", help="runs of each setting (default: 5)")
    parser.add_argument("-o", "--output", metavar="FILE", help="also write the summary to this file")
    parser.add_argument("--skip-vanilla", action="store_true", help="measure speculative decoding only")
    return parser


def add_measuring_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of `run` and `best` alike."""
    parser.add_argument("-p", "--prompt", action="append", metavar="TEXT", help="a prompt (repeat for more)")
    parser.add_argument("--prompts", metavar="FILE", help="a file of prompts, or the name of a set, such as mixed")
    parser.add_argument("-n", "--n-predict", nargs="+", metavar="N", help="tokens generated per run (default: 100)")
    parser.add_argument(
        "-l",
        "--llama-server",
        "--llama-cpp-path",
        dest="llama_cpp_path",
        nargs="+",
        metavar="PATH",
        help="llama-server, or the folder of a llama.cpp",
    )
    parser.add_argument("--out", metavar="DIR", help="folder for the results (default: outputs/<date>/<time>)")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and run nothing")
    parser.add_argument("-q", "--quiet", action="store_true", help="results only")
    parser.add_argument("-v", "--verbose", action="store_true", help="also load times and every remark")
