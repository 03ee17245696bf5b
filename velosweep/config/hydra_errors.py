"""Errors of Hydra, OmegaConf and PyYAML in our own form: with file, line, key, value and what to do."""

import re
import shlex
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from velosweep.config.schema import GROUPS, KEY_TYPES, KEYS, RUN_KEYS, nearest, unknown_key
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


def _missing_choice(error: object) -> ConfigError:
    from velosweep.config.yaml_files import file_with

    wanted = str(getattr(error, "missing_cfg_file", None) or "")
    options = sorted(map(str, getattr(error, "options", None) or ()))
    group = next((known for known in GROUPS if wanted.startswith(f"{known}/")), wanted.rpartition("/")[0])
    if not group:
        return ConfigError(" ".join(str(error).split()), remedy="velosweep --info searchpath shows where it looked")
    choice = wanted.removeprefix(f"{group}/")
    stem = Path(choice).stem  # of a file's path in place of its name
    guess = stem if stem in options else nearest(choice, options)
    plus = "+" if group == "experiment" else ""
    meant = f"did you mean {plus}{group}={guess}? " if guess else ""
    meant = f"a file of prompts is prompts.file={choice}. " if group == "prompts" and Path(choice).suffix else meant
    there = f"There are: {', '.join(options)}" if options else f"no file of {group}/ was found"
    return _in_file(file_with(f"{group}: {choice}"), ConfigError(f"There is no {group}={choice}", remedy=meant + there))


def _in_file(file: str | None, error: ConfigError) -> ConfigError:
    """The error with the file in front that it comes from, where it comes from one."""
    if not file:
        return error
    return ConfigError(f"{file}: {error.message[:1].lower()}{error.message[1:]}", remedy=error.remedy)


def _from_hydra(text: str) -> ConfigError:
    several = re.search(r"(?:Ambiguous value for argument|Sweep parameters) '(.*?)'(?: 1\.| requires|$)", text)
    if several:  # key=a,b without -m
        key, _, value = several[1].partition("=")
        remedy = how_to_write(key, value, otherwise=f"add -m to measure each: velosweep -m {shlex.quote(several[1])}")
        if KEY_TYPES.get(key) == "text" and key != "output":
            remedy += "; to measure each, add -m"
        return ConfigError(f"{several[1]!r} names several values, but this is one job", remedy=remedy)
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
            remedy=f"set {variable[1]}, or give a default: ${{oc.env:{variable[1]},VALUE}}",
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
        remedy = f"write a list in it: `{key}: [{several.replace(',', ', ')}]`"
    else:
        remedy = how_to_write(key, value)
    names = {"Integer": "a whole number", "Float": "a number", "bool": "true or false", "String": "text"}
    if "is not a ListConfig" in reason:
        reason = "this is not a list"
    elif "is not a subclass of" in reason:
        reason = "this is a section of keys, which takes no value"
        remedy = remedy if key else "write its keys with their values below it, indented"
    else:
        reason = re.sub(
            r"Value '(.*)' (?:of type '.*?' could not be converted to (\w+)|is not a valid (bool).*)",
            lambda found: f"{found[1]!r} is not {names.get(found[2] or found[3], found[2])}",
            reason,
        )
    return ConfigError(f"{place}: {reason}{f' (from {line!r})' if override else ''}", remedy=remedy)


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
        return f"several values are: -m '{name}=range({span[1]},{int(span[2]) + 1})' (the end excluded)"
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


_INDENT = "indent all keys of one level by the same number of spaces; put a text with ': ' in quotes"
# What PyYAML complains of -> what to do.
_REMEDIES = (
    (r"'\\t'", "indent with spaces"),
    (r"cannot start any token|alias|anchor|tag|constructor|chomping", "put the value in quotes"),
    (r"mapping values are not allowed|<block end>", _INDENT),
    (r"expected ',' or", "close the bracket, or put the text in quotes"),
    (r"unexpected end of stream", "close the quote"),
    (r"duplicate key", "keep one of them"),
    (r"expected ':'", "write `key: value`, with a space after the colon"),
    (r"escape character", "use single quotes for paths"),
    (r"special characters", "save the file as UTF-8 text"),
    (r"recursion", "nest fewer brackets and lists"),
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
