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
from omegaconf import DictConfig, ListConfig, OmegaConf
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
    config, package = loaded.config, loaded.header.get("package")
    group = config_path.rpartition("/")[0].replace("/", ".")
    prefix = "" if package == "_global_" else group if package in (None, "_group_") else package
    if not isinstance(config, DictConfig):
        return loaded
    params = {} if prefix else _choices(config)
    for key, owner, name in _lists(config, f"{prefix}." if prefix else ""):
        values = OmegaConf.to_container(owner._get_node(name))
        if not isinstance(values, list) or not values or any(isinstance(value, (list, dict)) for value in values):
            continue
        if len(values) > 1:
            params[key] = ",".join(map(_word, values))
        owner[name] = values[0]  # what holds where one job is looked at
    if not params:
        return loaded
    if prefix:  # what is Hydra's can only be set from the top
        defaults = {"defaults": config.pop("defaults")} if "defaults" in config else {}
        top = OmegaConf.create(defaults)
        OmegaConf.update(top, prefix, config, force_add=True)
        loaded.config = config = top
        loaded.header["package"] = "_global_"
    OmegaConf.update(config, "hydra.mode", "MULTIRUN", force_add=True)
    OmegaConf.update(config, "hydra.sweeper.params", params, merge=True, force_add=True)
    return loaded


def _choices(config: DictConfig) -> dict[str, str]:
    """The groups of which a file names several choices: what they are swept over.

    `protocol: quick`, as other keys are written, becomes the entry of `defaults` that Hydra wants. Of several the
    first is it; Hydra would put all of them into one job.
    """
    params: dict[str, str] = {}
    plain: dict[Any, Any] = OmegaConf.to_container(config)  # type: ignore[assignment]
    entries = list(plain.get("defaults") or ()) if isinstance(plain.get("defaults"), list) else []
    for name in GROUPS:
        chosen = plain.get(name)
        words = chosen if isinstance(chosen, list) else [chosen]
        if words and all(isinstance(word, str) for word in words):
            entries.append({f"override /{name}": chosen})
            config.pop(name)
    for entry in entries:
        for key, value in entry.items() if isinstance(entry, dict) else ():
            group = str(key).removeprefix("override").strip().lstrip("/")
            if group in GROUPS and isinstance(value, list) and value:
                entry[key] = value[0]
                params |= {group: ",".join(map(str, value))} if len(value) > 1 else {}
    if entries:
        config.defaults = entries
    return params


def _lists(config: DictConfig, prefix: str) -> Iterator[tuple[str, DictConfig, str]]:
    """Lists at keys that take one value: the dotted key, and where it is."""
    for name in map(str, list(config)):
        node, key = config._get_node(name), f"{prefix}{name}"
        if isinstance(node, ListConfig) and KEY_TYPES.get(key) in ("int", "number", "text", "bool"):
            yield key, config, name
        elif isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation():
            yield from _lists(node, f"{key}.")


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
