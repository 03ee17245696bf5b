"""What Hydra and OmegaConf complain of, in our words: key, value, remedy, nearest known key."""

from __future__ import annotations

import difflib
import re
import shlex
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from velosweep.config.override_errors import quoting, refusal_of
from velosweep.config.schema import describe_keys
from velosweep.config.yaml_errors import mistake_of
from velosweep.errors import ConfigError, VelosweepError

_TYPES = {key.name: key.type for key in describe_keys()}
KEYS = tuple(_TYPES)
GROUPS = ("model_pair", "prompts", "engine", "protocol", "speculation", "experiment", "hydra/launcher", "hydra/sweeper")
# The specification's flags, and words people bring along from llama.cpp's tools.
ALIASES = {
    "llama_cpp_path": "llama_cpp.path",
    "main_model": "model_pair.main_model",
    "draft_model": "model_pair.draft_model",
    "model": "model_pair.main_model",
    "draft": "n_draft",
    "draft_max": "n_draft",
    "spec_draft_n_max": "n_draft",
    "ctx_size": "engine.context",
    "n_ctx": "engine.context",
    "n_gpu_layers": "engine.gpu_layers",
    "ngl": "engine.gpu_layers",
    "temp": "sampling.temperature",
    "seed": "sampling.seed",
}


_TEXT_KEY = re.compile(r"(^|\.)(prompt|output|main_model|draft_model|path|file|name|args|vanilla_url|speculative_url)$")
TEXT_KEYS = frozenset(key for key in KEYS if _TEXT_KEY.search(key))
BOOLEANS = frozenset(key for key, kind in _TYPES.items() if kind == "bool")


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant: an alias, the same last part, or the most alike; None if none is."""
    known = tuple(known)
    plain = word.replace("-", "_").lstrip("_+")
    plain = plain if plain in known else plain.lower()
    if ALIASES.get(plain) in known:
        return ALIASES[plain]
    same_leaf = [key for key in known if key.rsplit(".", 1)[-1] == plain.rsplit(".", 1)[-1]]
    if len(same_leaf) == 1:
        return same_leaf[0]
    for candidates in (known, {key.rsplit(".", 1)[-1]: key for key in known}):
        match = difflib.get_close_matches(plain, list(candidates), n=1, cutoff=0.7)
        if match:
            return candidates[match[0]] if isinstance(candidates, dict) else match[0]
    return None


def unknown_key(key: str) -> ConfigError:
    """Refusal of a key that doesn't exist, with the one that was probably meant."""
    if key in KEYS:
        return ConfigError(f"{key} was taken out of the configuration", remedy=f"set {key}=VALUE; drop ~{key}")
    guess = nearest(key, (*KEYS, *GROUPS))
    if guess == "experiment":  # the one group that has no default, so that Hydra wants it added
        guess = "+experiment=NAME"
    remedy = f"did you mean {guess}?" if guess else _HELP
    section = key.rpartition(".")[0]
    if section and guess and section.startswith(guess):
        remedy = f"{section} has {', '.join(_leaves(section))}"
    return ConfigError(f"There is no key {key!r}", remedy=remedy)


def _leaves(section: str) -> list[str]:
    """The names of a section's keys."""
    names = (key.removeprefix(f"{section}.") for key in KEYS if key.startswith(f"{section}."))
    return [name for name in names if "." not in name]


def translate(error: BaseException) -> VelosweepError | None:
    """Our refusal for an exception of Hydra or OmegaConf; None where it is neither (a bug, then)."""
    from hydra.errors import HydraException, MissingConfigException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if isinstance(error, VelosweepError):
        return error
    if isinstance(error, OverrideParseException):
        return _unreadable_override(error.override, str(error))
    if isinstance(error, MissingConfigException):
        return _missing_choice(error)
    if isinstance(error, YAMLError):
        return _unreadable_file(error)
    for cause in _chain(error):
        if isinstance(cause, VelosweepError):
            return cause
        if isinstance(cause, OmegaConfBaseException):
            return _from_omegaconf(cause, str(error))
    if isinstance(error, HydraException):
        return _from_hydra(str(error))
    return _from_within(error)


@contextmanager
def refusing() -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise within into our refusals."""
    try:
        yield
    except Exception as error:
        refusal = translate(error)
        if refusal is None or refusal is error:
            raise
        raise refusal from error


def _unreadable_file(error: Exception) -> ConfigError:
    mistake = mistake_of(error)
    return ConfigError(
        f"{mistake.file or 'A YAML file'}{mistake.place} is not YAML: {mistake.what}", remedy=mistake.remedy
    )


_HELP = "velosweep --help lists the keys"
_THEIRS = {"hydra", "omegaconf", "antlr4", "yaml"}


def _from_within(error: BaseException) -> ConfigError | None:
    """Hydra's parts also assert and raise plain ValueErrors at odd overrides; None where it was our code."""
    frames = list(traceback.walk_tb(error.__traceback__))
    if not frames or str(frames[-1][0].f_globals.get("__name__", "")).partition(".")[0] not in _THEIRS:
        return None
    reason = " ".join(str(error).split()) or type(error).__name__
    defaults = re.search(r"Invalid defaults list in '(.+?)'", reason)
    if defaults:
        return ConfigError(
            f"What stands below `defaults:` in {defaults[1]}.yaml is no list",
            remedy="write each on a line of its own behind a dash: - override /model_pair: NAME",
        )
    return ConfigError(f"The configuration can't be composed: {reason}", remedy="see `velosweep --help`")


def _chain(error: BaseException | None) -> Iterable[BaseException]:
    """The error and what caused it, outermost first, ending at the root."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        error = error.__cause__ or error.__context__
    return seen


def _unreadable_override(override: str, detail: str) -> ConfigError:
    key, equals, _ = override.partition("=")
    if not equals:
        guess = nearest(override, (*KEYS, *GROUPS))
        hint = f", for instance {guess}=VALUE" if guess else ""
        return ConfigError(f"{override!r} is no key=value{hint}", remedy="velosweep --help shows how to write them")
    if override.startswith("-"):
        return ConfigError(f"There is no option {override!r}", remedy="write key=value; velosweep --help lists both")
    name = key.strip().lstrip("+~")
    if not re.fullmatch(r"[\w$./@:-]+", name) or name.strip(".") != name:
        guess = nearest(re.sub(r"\s+", "_", name.strip(". ")), (*KEYS, *GROUPS))
        return ConfigError(f"There is no key {name!r}", remedy=f"did you mean {guess}?" if guess else _HELP)
    known = "choice" if name in GROUPS else _TYPES.get(name)
    return refusal_of(override, detail, kind="text" if known != "list" and _TEXT_KEY.search(name) else known)


def _missing_choice(error: object) -> ConfigError:
    text = str(error)
    wanted = str(getattr(error, "missing_cfg_file", None) or "")
    options = [str(option) for option in getattr(error, "options", None) or ()]
    group, _, choice = wanted.rpartition("/")
    for known in GROUPS:  # a file's path in place of its name
        if wanted.startswith(f"{known}/"):
            group, choice = known, wanted.removeprefix(f"{known}/")
    if not group:
        return ConfigError(" ".join(text.split()), remedy="velosweep --info searchpath shows where was looked")
    stem = Path(choice).stem
    guess = stem if stem in options else nearest(choice, options)
    remedy = (f"did you mean {group}={guess}? " if guess else "") + (
        f"There are: {', '.join(sorted(options))}" if options else f"no file of {group}/ was found"
    )
    return ConfigError(f"There is no {group}={choice}", remedy=remedy)


def _from_hydra(text: str) -> ConfigError:
    ambiguous = re.search(r"(?:Ambiguous value for argument|Sweep parameters) '(.*?)'(?:\n| requires)", text, re.DOTALL)
    if ambiguous:
        return comma_without_multirun(ambiguous[1])
    group = re.search(r"Could not override '(.+?)'\.\s*No match in the defaults list", text)
    if group:
        return unknown_key(group[1])
    package = re.search(r"config group '(.+?)' does not\s+exist", text)
    if package:
        return unknown_key(package[1])
    could_not = re.search(r"Could not override '(.+?)'", text)
    if could_not:
        return unknown_key(could_not[1])
    return ConfigError(" ".join(text.split()) or "The configuration can't be composed", remedy="velosweep --help")


def comma_without_multirun(override: str) -> ConfigError:
    """Refusal of a list of values where one is wanted."""
    key, _, value = override.partition("=")
    if key in ("prompt", "output") or key.endswith(("model", "path", "file")):
        remedy = f"{quoting(key, value)}; to measure each, add -m"
    else:
        remedy = f"add -m to measure each: velosweep -m {shlex.quote(override)}"
        if _TYPES.get(key.lstrip("+")) in ("list", "any"):
            remedy += f"; or write a list as '{key}=[{value}]'"
    return ConfigError(f"{override!r} names several values, but this is one job", remedy=remedy)


def _from_omegaconf(error: BaseException, outer: str) -> ConfigError:
    """Unknown key, wrong type, missing value or broken interpolation."""
    from omegaconf.errors import GrammarParseError

    key = str(getattr(error, "full_key", "") or "")
    reason = str(getattr(error, "msg", "") or error).splitlines()[0]
    override = re.search(r"Error merging override (.*)", outer)
    absent = re.search(r"Key '(.+?)' (?:is )?not in", reason)
    if absent and (key or absent[1]) == "experiment":  # it was found, and its keys were put below its own name
        return ConfigError(
            "The experiment's file sets keys below 'experiment'", remedy="let its first line be: # @package _global_"
        )
    if absent:
        return unknown_key(key or absent[1])
    place = f"{key}: " if key else ""
    if isinstance(error, GrammarParseError):
        return unreadable_interpolation(place)
    nowhere = re.search(r"Interpolation key '(.+?)' not found", reason)
    if nowhere:
        return ConfigError(
            f"{place}${{{nowhere[1]}}} names a key that there isn't",
            remedy="write the value itself; an environment variable is ${oc.env:NAME}",
        )
    if "Missing mandatory value" in reason:
        return ConfigError(f"{key or 'A key'} has no value", remedy=f"set {key}=VALUE" if key else None)
    said = f" (from {override[1].strip()!r})" if override else ""
    remedy = "run `velosweep --help` for what the key takes" if key else "see `velosweep --help`"
    several = re.search(r"Value '([^']+,[^']+)'", reason)
    if override:
        remedy = _shape_of_value(key, override[1].strip().partition("=")[2]) or remedy
    elif several:  # from a file
        remedy = (
            "several values belong below hydra.sweeper.params, as in conf/experiment/ndraft_grid.yaml, or on the "
            f"command line: -m {shlex.quote(f'{key}={several[1]}')}"
        )
    return ConfigError(f"{place}{_plain(reason)}{said}", remedy=remedy)


def unreadable_interpolation(place: str) -> ConfigError:
    """Refusal of a ${…} at `place` that OmegaConf's grammar can't read."""
    return ConfigError(
        f"{place}a ${{ can't be read", remedy="close it with }, or write \\${ where no more than the signs is meant"
    )


def _shape_of_value(key: str, value: str) -> str | None:
    """How to write a value of another shape than the key takes: several for one, or one for a list."""
    if _TYPES.get(key) == "list":
        return f"write a list: '{key}=[{value}]'"
    span = re.fullmatch(r"(\d+)\s*(?:\.\.+|-|:|to)\s*(\d+)", value)
    if span:
        return f"several values are: -m '{key}=range({span[1]},{int(span[2]) + 1})', whose end is left out"
    if value.startswith("[") and value.endswith("]") and "," in value:
        several = shlex.quote(f"{key}={value[1:-1].replace(' ', '')}")
        return f"several values are: -m {several}"
    return None


def _plain(reason: str) -> str:
    """OmegaConf's sentence with the names that people know."""
    if "is not a ListConfig" in reason:
        return "this is not a list"
    names = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false", "String": "text"}
    return re.sub(
        r"Value '(.*)' of type '.*?' could not be converted to (\w+)",
        lambda found: f"{found[1]!r} is not {names.get(found[2], found[2])}",
        reason,
    )
