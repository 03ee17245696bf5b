"""The YAML files that a configuration is composed of, refused by name where they hold no keys with values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from omegaconf import DictConfig, ListConfig
from omegaconf.errors import GrammarParseError

from velosweep.config.hydra_errors import GROUPS, unreadable_interpolation
from velosweep.errors import ConfigError

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from hydra.plugins.config_source import ConfigResult

_KEYS = {
    "model_pair": "`main_model: FILE` and `draft_model: FILE`",
    "prompts": "the prompts below `items:`, or a file's path after `file:`",
    "experiment": "`# @package _global_` and below it keys with values, such as `n_draft: 8`",
}
_OTHER_KEYS = "`key: value` lines"


def check_sources(hydra: Hydra) -> None:
    """Let `hydra` read files through `CheckedFiles`."""
    sources = hydra.config_loader.get_sources()
    sources[:] = [
        CheckedFiles(source.provider, source.path) if type(source) is FileConfigSource else source for source in sources
    ]


class CheckedFiles(FileConfigSource):
    """Hydra's source of files in a folder; refuses (ConfigError) one that is no text, a list, a mere text or empty.

    Hydra merges these or leaves them out, and complains of the outcome without the file's name.
    """

    def load_config(self, config_path: str) -> ConfigResult:
        """As Hydra's."""
        file = Path(self.path, self._normalize_file_name(config_path)).resolve()
        group = config_path.partition("/")[0]
        try:
            result = super().load_config(config_path)
        except UnicodeDecodeError as error:
            line = file.read_bytes().count(b"\n", 0, error.start) + 1
            raise ConfigError(f"{file}, line {line} is not UTF-8 text", remedy="save the file as UTF-8") from error
        except GrammarParseError as error:
            key = str(getattr(error, "full_key", "") or "")
            raise unreadable_interpolation(f"{file}{f', {key}' if key else ''}: ") from error
        except OSError as error:
            if not str(error).startswith("Invalid loaded object type"):
                raise
            raise _no_keys(file, group, "a mere value") from error
        held = _held(result.config, file, group)
        if held is not None:
            raise _no_keys(file, group, held)
        return result


def _no_keys(file: Path, group: str, held: str) -> ConfigError:
    said = f"holds {held}, and no keys with values" if held else "is empty"
    return ConfigError(f"{file} {said}", remedy=f"in it write {_KEYS.get(group, _OTHER_KEYS)}")


def _held(config: object, file: Path, group: str) -> str | None:
    """What the file holds instead of keys (nothing: ""); None where it holds some, or may be empty."""
    if isinstance(config, ListConfig):
        return "a list"
    if not isinstance(config, DictConfig):
        return "a mere value"
    if not config:
        return "" if group in GROUPS else None
    if len(config) == 1 and next(iter(config.values())) is None and not _has_key(file):
        return "a mere text"  # which OmegaConf takes for a key
    return None


def _has_key(file: Path) -> bool:
    import yaml

    return isinstance(yaml.safe_load(file.read_text(encoding="utf-8")), dict)
