"""The YAML files that a configuration is composed of: which were read, and an error for one that holds no keys.

Import it only once Hydra has scanned its plugins, which loads `FileConfigSource` anew.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from omegaconf import OmegaConf
from omegaconf.errors import GrammarParseError

from velosweep.config.command_words import quoted
from velosweep.config.hydra_errors import not_utf8
from velosweep.config.schema import GROUPS, KEY_TYPES
from velosweep.errors import ConfigError

if TYPE_CHECKING:
    from hydra.plugins.config_source import ConfigResult


def unreadable_interpolation(place: str) -> ConfigError:
    """The error for a ${…} at `place` that OmegaConf's grammar can't read."""
    return ConfigError(f"{place}: a ${{ can't be read", remedy="close it with }, or write \\${ for a plain ${")


_KEYS_OF_GROUP = {
    "model_pair": "`main_model: FILE` and `draft_model: FILE`",
    "prompts": "the prompts below `items:`, or a file's path after `file:`",
    "experiment": "`# @package _global_` and below it keys with values, such as `n_draft: 8`",
}
_read: list[Path] = []  # by Hydra, for the configuration at hand
# Hydra's names of who chose a folder: velosweep or the command line, and not the current folder or a file.
_TRUSTED = ("main", "command-line", "hydra.searchpath in command-line")
_PLUGIN = re.compile(r"hydra_plugins(\.\w+){1,2}\.[A-Z]\w*")
# Variables of `hydra.job.env_set` that say where programs and libraries are, or where a token is sent.
_LOADS_CODE = re.compile(r"(LD|DYLD|HF|VK|OCL)_\w+|PYTHON\w+|(\w+_)?PATH|\w+_LIBRARIES")
# Interpolations that give a text or refer to a key; others (`oc.decode`, `oc.create`) can make code of any text.
_HARMLESS = re.compile(r"\$\{((oc\.env|oc\.select|now|hydra|python_version):[^${}]*|[^${}:]*)\}")


def check_files() -> None:
    """Let Hydra read files through `CheckedFiles` from now on, those of folders that `hydra.searchpath` adds, too."""
    _read.clear()
    SourcesRegistry.instance().types["file"] = CheckedFiles


def file_read(name: str) -> str:
    """The file that Hydra read for `prompts/default`; the name itself where it read none."""
    return next((str(file) for file in reversed(_read) if file.with_suffix("").as_posix().endswith(f"/{name}")), name)


def file_with(text: str) -> str | None:
    """The file that Hydra read last and that holds `text`; None where none does."""
    return next((str(file) for file in reversed(_read) if text in file.read_text(encoding="utf-8")), None)


class CheckedFiles(FileConfigSource):
    """Hydra's source of files in a folder, in which a list of values means a sweep over them.

    Raises ConfigError for a file that is empty, not text, or no mapping.

    Hydra merges these or ignores them, and reports the outcome without the file's name.
    """

    def load_config(self, config_path: str) -> "ConfigResult":
        file = Path(self.path, self._normalize_file_name(config_path)).resolve()
        try:
            if file.is_file():
                content = _checked_content(file, group=config_path.partition("/")[0])
                if self.provider not in _TRUSTED and (code := _code(content)):
                    raise ConfigError(
                        f"{file} names code to run ({code}), and nothing of the current folder is run unasked",
                        remedy=f"to have it run: --config-dir {shlex.quote(str(self.path))}",
                    )
                _read.append(file)
            return spread_lists(super().load_config(config_path), config_path)
        except UnicodeDecodeError as error:
            raise not_utf8(error, file) from error
        except GrammarParseError as error:
            key = str(getattr(error, "full_key", "") or "")
            raise unreadable_interpolation(f"{file}, {key}" if key else str(file)) from error


def spread_lists(loaded: "ConfigResult", config_path: str) -> "ConfigResult":
    """The file's content, where `n_draft: [2, 4]` is a sweep: `hydra.sweeper.params` has `n_draft: 2,4` instead.

    Only lists at keys that take one value, and of a group's choices; a list of one is that value.
    """
    config: Any = OmegaConf.to_container(loaded.config)
    if not isinstance(config, dict):
        return loaded
    package, group = loaded.header.get("package"), config_path.rpartition("/")[0].replace("/", ".")
    prefix = "" if package == "_global_" else group if package in (None, "_group_") else package
    params = {} if prefix else _choices(config)
    for key, owner, name in _lists(config, f"{prefix}." if prefix else ""):
        if len(owner[name]) > 1:
            params[key] = ",".join(map(_word, owner[name]))
        owner[name] = owner[name][0]  # what holds where one job is looked at
    loaded.config = OmegaConf.create(config)
    if not params:
        return loaded
    if prefix:  # what is Hydra's can only be set from the top
        loaded.config = OmegaConf.create({"defaults": config.pop("defaults")} if "defaults" in config else {})
        OmegaConf.update(loaded.config, prefix, config, force_add=True)
        loaded.header["package"] = "_global_"
    OmegaConf.update(loaded.config, "hydra.mode", "MULTIRUN", force_add=True)
    OmegaConf.update(loaded.config, "hydra.sweeper.params", params, merge=True, force_add=True)
    return loaded


def _choices(config: dict[str, Any]) -> dict[str, str]:
    """The groups of which a file names several choices: what they are swept over.

    `protocol: quick`, as other keys are written, becomes the entry of `defaults` that Hydra wants. Of several the
    first is it; Hydra would put all of them into one job.
    """
    params: dict[str, str] = {}
    entries = list(config["defaults"]) if isinstance(config.get("defaults"), list) else []
    for name in GROUPS:
        chosen = config.get(name)
        words = chosen if isinstance(chosen, list) else [chosen]
        if words and all(isinstance(word, str) for word in words):
            entries.append({f"override /{name}": chosen})
            del config[name]
    for entry in entries:
        for key, value in entry.items() if isinstance(entry, dict) else ():
            group = str(key).removeprefix("override").strip().lstrip("/")
            if group in GROUPS and isinstance(value, list) and value:
                entry[key] = value[0]
                params |= {group: ",".join(map(str, value))} if len(value) > 1 else {}
    if entries:
        config["defaults"] = entries
    return params


def _lists(config: dict[str, Any], prefix: str) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Lists of values at keys that take one: the dotted key, and where it is."""
    for name, value in config.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _lists(value, f"{key}.")
        elif KEY_TYPES.get(key) not in ("int", "number", "text", "bool") or not isinstance(value, list):
            continue
        elif value and not any(isinstance(one, (list, dict)) for one in value):
            yield key, config, name


def _word(value: object) -> str:
    """A value as the command line has it."""
    if isinstance(value, str):
        return value if "${" in value else quoted(value)
    return "null" if value is None else str(value).lower()


def _code(content: object) -> str | None:
    """What Hydra or Python's logging would call by its name, or might; installed plugins of Hydra are no code of a
    folder."""
    if isinstance(content, str):
        left = re.sub(r"(?<!\\)((?:\\\\)*)\\\$", r"\1", content)  # without what is escaped
        while (shorter := _HARMLESS.sub("", left)) != left:
            left = shorter
        return f"perhaps, by {content}" if "${" in left else None
    if isinstance(content, dict):
        for name in ("_target_", "()", "class"):
            called = str(content.get(name, ""))
            if re.search(r"\w\.\w|://|\$\{", called) and not _PLUGIN.fullmatch(called):
                return f"{name}: {called}"
        if loads := next(filter(_LOADS_CODE.fullmatch, map(str, content)), None):
            return f"{loads}: {content[loads]}"
    inner = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    return next((found for value in inner if (found := _code(value))), None)


def _checked_content(file: Path, group: str) -> object:
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError):
        return None  # which Hydra raises with a line number
    if isinstance(content, dict) or (content is None and group not in GROUPS):
        return content
    held = "a list" if isinstance(content, list) else "a text" if isinstance(content, str) else "a value"
    said = "is empty" if content is None else f"holds {held} instead of keys with values"
    remedy = f"in it write {_KEYS_OF_GROUP.get(group, '`key: value` lines')}"
    raise ConfigError(f"{file} {said}", remedy=remedy)
