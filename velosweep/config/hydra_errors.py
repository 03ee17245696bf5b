"""Errors of Hydra and OmegaConf in our own form: with file, key, value and what to do."""

from __future__ import annotations

import re
import shlex
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from velosweep.config.key_names import GROUPS, KEY_TYPES, nearest, unknown_key
from velosweep.config.schema import RUN_KEYS
from velosweep.config.value_syntax import how_to_write, several_in, unreadable_override
from velosweep.config.yaml_errors import not_yaml
from velosweep.errors import ConfigError, VelosweepError

_THEIRS = {"hydra", "omegaconf", "antlr4", "yaml"}


@contextmanager
def translating_errors() -> Iterator[None]:
    """Raise errors of Hydra and OmegaConf as ours."""
    try:
        yield
    except Exception as error:
        ours = translate(error)
        if ours is None or ours is error:
            raise
        raise ours from error


def translate(error: BaseException) -> VelosweepError | None:
    """Our error for one of Hydra, OmegaConf or PyYAML; None where it is none of theirs (a bug, then)."""
    from hydra.errors import HydraException, MissingConfigException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if isinstance(error, VelosweepError):
        return error
    if isinstance(error, OverrideParseException):
        return unreadable_override(error.override, str(error))
    if isinstance(error, MissingConfigException):
        return _missing_choice(error)
    if isinstance(error, YAMLError):
        return not_yaml(error)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, VelosweepError):
            return cause
        if isinstance(cause, OmegaConfBaseException):
            return _from_omegaconf(cause, str(error))
        cause = cause.__cause__ or cause.__context__
    frames = list(traceback.walk_tb(error.__traceback__))
    module = str(frames[-1][0].f_globals.get("__name__", "")) if frames else ""
    if isinstance(error, HydraException) or module.partition(".")[0] in _THEIRS:  # they also raise plain ValueErrors
        return _from_hydra(" ".join(str(error).split()) or type(error).__name__)
    return None


# ---------------------------------------------------------------- files and groups


def _missing_choice(error: object) -> ConfigError:
    from velosweep.config.yaml_files import file_with

    wanted = str(getattr(error, "missing_cfg_file", None) or "")
    options = sorted(map(str, getattr(error, "options", None) or ()))
    group = next((known for known in GROUPS if wanted.startswith(f"{known}/")), wanted.rpartition("/")[0])
    if not group:
        return ConfigError(" ".join(str(error).split()), remedy="velosweep --info searchpath shows where was looked")
    choice = wanted.removeprefix(f"{group}/")
    stem = Path(choice).stem  # of a file's path in place of its name
    guess = stem if stem in options else nearest(choice, options)
    plus = "+" if group == "experiment" else ""
    meant = f"did you mean {plus}{group}={guess}? " if guess else ""
    there = f"There are: {', '.join(options)}" if options else f"no file of {group}/ was found"
    return _in_file(file_with(f"{group}: {choice}"), ConfigError(f"There is no {group}={choice}", remedy=meant + there))


def _in_file(file: str | None, error: ConfigError) -> ConfigError:
    """The error with the file in front that it comes from, where it comes from one."""
    if not file:
        return error
    return ConfigError(f"{file}: {error.message[:1].lower()}{error.message[1:]}", remedy=error.remedy)


def _from_hydra(text: str) -> ConfigError:
    several = re.search(r"(?:Ambiguous value for argument|Sweep parameters) '(.*?)'(?: 1\.| requires|$)", text)
    if several:
        return _several_values(several[1])
    unknown = re.search(r"Could not (?:override|delete from config\.) '(.+?)'|config group '(.+?)' does not", text)
    if unknown:
        return unknown_key(unknown[1] or unknown[2])
    added = re.search(r"Multiple values for (\S+)\. .*'override \S+: (.*)'", text)
    if added:
        return ConfigError(f"There is a {added[1]} already", remedy=f"leave the + out: {added[1]}={added[2]}")
    defaults = re.search(r"Invalid defaults list in '(.+?)'", text)
    if defaults:
        return ConfigError(
            f"`defaults:` in {defaults[1]}.yaml is not a list",
            remedy="write each entry on a line of its own after a dash: - override /model_pair: NAME",
        )
    return ConfigError(f"The configuration can't be composed: {text}", remedy="see `velosweep --help`")


def _several_values(override: str) -> ConfigError:
    """The error for `key=a,b` without -m."""
    key, _, value = override.partition("=")
    remedy = how_to_write(key, value, otherwise=f"add -m to measure each: velosweep -m {shlex.quote(override)}")
    if KEY_TYPES.get(key) == "text" and key != "output":
        remedy += "; to measure each, add -m"
    return ConfigError(f"{override!r} names several values, but this is one job", remedy=remedy)


# ---------------------------------------------------------------- values


def _from_omegaconf(error: BaseException, outer: str) -> ConfigError:
    """Unknown key, wrong type, missing value or broken interpolation. `outer`: what Hydra said around it."""
    from omegaconf import errors

    from velosweep.config.yaml_files import file_read, file_with, unreadable_interpolation

    key = str(getattr(error, "full_key", "") or "")
    reason = str(getattr(error, "msg", "") or error).splitlines()[0]
    source = re.match(r"In '(.+?)': ", outer)
    file = file_read(source[1]) if source else None
    variable = re.search(r"Environment variable '(.+?)' not found", reason)
    nowhere = re.search(r"Interpolation key '(.+?)' not found", reason)
    if file is None and variable:
        file = file_with(f"oc.env:{variable[1]}")
    if file is None and nowhere:
        file = file_with(f"${{{nowhere[1]}}}")
    place = ", ".join(part for part in (file, key) if part) or "The configuration"
    if isinstance(error, errors.GrammarParseError):
        return unreadable_interpolation(place)
    if "does not support deletion" in reason:
        return unknown_key(key)
    if isinstance(error, (errors.ConfigKeyError, errors.ConfigAttributeError)) and "not in" in reason:
        if key == "experiment":  # it was found, and its keys were put below its own name
            return ConfigError(f"{file} sets keys below 'experiment'", remedy="begin it with: # @package _global_")
        return _in_file(file, unknown_key(key))
    if variable:
        return ConfigError(
            f"{place}: the environment variable {variable[1]} is not set",
            remedy=f"set {variable[1]}, or give what holds without it: ${{oc.env:{variable[1]},VALUE}}",
        )
    if nowhere:
        return ConfigError(
            f"{place}: ${{{nowhere[1]}}} refers to a key that does not exist",
            remedy="write the value itself; an environment variable is ${oc.env:NAME}",
        )
    if isinstance(error, errors.MissingMandatoryValue):
        return ConfigError(f"{key or 'A key'} has no value", remedy=f"set {key}=VALUE" if key else None)
    return _wrong_value(key, place, reason, outer)


def _wrong_value(key: str, place: str, reason: str, outer: str) -> ConfigError:
    """The error for a value of another type than the key takes."""
    override = re.search(r"Error merging override (.*)", outer)
    wrong = re.search(r"Value '(.*?)' (?:of type|is not)", reason)
    line = override[1].strip() if override else ""
    value = line.partition("=")[2] if override else wrong[1] if wrong else ""
    if "is not Optional" in reason:
        remedy = (
            f"write an empty list: '{key}=[]'" if KEY_TYPES.get(key) == "list" else "leave it out to get its default"
        )
        return ConfigError(f"{place} can't be null", remedy=remedy)
    several = several_in(value)
    if several and not override and key not in RUN_KEYS:
        remedy = f"in it write `{key}: {several}` below hydra.sweeper.params, as experiment/ndraft_grid.yaml does"
    else:
        remedy = how_to_write(key, value)
    names = {"Integer": "a whole number", "Float": "a number", "bool": "true or false", "String": "text"}
    if "is not a ListConfig" in reason:
        reason = "this is not a list"
    elif "is not a subclass of" in reason:
        reason = "this is a section of keys, which takes no value"
    else:
        reason = re.sub(
            r"Value '(.*)' (?:of type '.*?' could not be converted to (\w+)|is not a valid (bool).*)",
            lambda found: f"{found[1]!r} is not {names.get(found[2] or found[3], found[2])}",
            reason,
        )
    return ConfigError(f"{place}: {reason}{f' (from {line!r})' if override else ''}", remedy=remedy)
