"""The YAML files that a configuration is composed of: which were read, and an error for one that holds no keys.

Import it only once Hydra has scanned its plugins, which loads `FileConfigSource` anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from omegaconf.errors import GrammarParseError

from velosweep.config.hydra_errors import not_utf8
from velosweep.config.schema import GROUPS
from velosweep.errors import ConfigError

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
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


def check_sources(hydra: Hydra) -> None:
    """Let `hydra` read files through `CheckedFiles`."""
    _read.clear()
    sources = hydra.config_loader.get_sources()
    sources[:] = [
        CheckedFiles(source.provider, source.path) if source.scheme() == "file" else source for source in sources
    ]


def file_read(name: str) -> str:
    """The file that Hydra read for `prompts/default`; the name itself where it read none."""
    return next((str(file) for file in reversed(_read) if file.with_suffix("").as_posix().endswith(f"/{name}")), name)


def file_with(text: str) -> str | None:
    """The file that Hydra read last and that holds `text`; None where none does."""
    return next((str(file) for file in reversed(_read) if text in file.read_text(encoding="utf-8")), None)


class CheckedFiles(FileConfigSource):
    """Hydra's source of files in a folder; raises ConfigError for one that is empty, not text, or no mapping.

    Hydra merges these or ignores them, and reports the outcome without the file's name.
    """

    def load_config(self, config_path: str) -> ConfigResult:
        """As Hydra's."""
        file = Path(self.path, self._normalize_file_name(config_path)).resolve()
        try:
            if file.is_file():
                _check_content(file, group=config_path.partition("/")[0])
                _read.append(file)
            return super().load_config(config_path)
        except UnicodeDecodeError as error:
            raise not_utf8(error, file) from error
        except GrammarParseError as error:
            key = str(getattr(error, "full_key", "") or "")
            raise unreadable_interpolation(f"{file}, {key}" if key else str(file)) from error


def _check_content(file: Path, group: str) -> None:
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError):
        return  # which Hydra raises with a line number
    if isinstance(content, dict) or (content is None and group not in GROUPS):
        return
    held = "a list" if isinstance(content, list) else "a text" if isinstance(content, str) else "a value"
    said = "is empty" if content is None else f"holds {held} instead of keys with values"
    remedy = f"in it write {_KEYS_OF_GROUP.get(group, '`key: value` lines')}"
    raise ConfigError(f"{file} {said}", remedy=remedy)
