"""The configuration of each job of a sweep, and the job's `.hydra/` folder as Hydra writes it.

Composing takes Hydra about 60 ms and dumping a configuration 10. So Hydra composes once for each choice of group files,
a job's plain values are written over those of the job before it, and each different section is dumped once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf._utils import OmegaConfDumper
from omegaconf.errors import OmegaConfBaseException

from velosweep.config.schema import KEYS
from velosweep.errors import ConfigError
from velosweep.results.paths import is_sweep

_VALUE_KEYS = frozenset(name for name, key in KEYS.items() if key.type_word)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobConfig:
    """A job's configuration, valid until the next job's is composed.

    `unresolved`: the same as plain dicts, lists and scalars. `parsed`: its overrides, without Hydra's.
    """

    num: int
    cfg: DictConfig
    unresolved: dict[str, Any]
    parsed: list[Override]

    @property
    def overrides(self) -> list[str]:
        """Its overrides as they were written."""
        return [override.input_line or "" for override in self.parsed]

    def number(self) -> None:
        """Write the job's number, its overrides and the directory name made of them into `cfg`."""
        hydra = self.cfg.hydra
        with read_write(hydra), open_dict(hydra):
            hydra.job.update(self.own_values())
            hydra.overrides.task = self.overrides

    def own_values(self) -> dict[str, Any]:
        """Values of hydra.job; from Hydra 1.4 on override_dirname is an interpolation."""
        job, own = self.unresolved["hydra"]["job"], {"num": self.num, "id": str(self.num)}
        if "${" in str(job["override_dirname"]):
            return own
        from hydra._internal.config_loader_impl import get_overrides_dirname

        return {**own, "override_dirname": get_overrides_dirname(self.parsed, **job["config"]["override_dirname"])}


class JobConfigs:
    """Composes the jobs of one sweep, whose own configuration is `sweep`, one after another."""

    def __init__(self, sweep: DictConfig, loader: ConfigLoader) -> None:
        self._sweep = sweep
        self._loader = loader
        self._parse = cache(OverridesParser.create(config_loader=loader).parse_override)
        self._compositions: dict[tuple[tuple[str, ...], ...], tuple[DictConfig, dict[str, Any]]] = {}

    def compose(self, overrides: Sequence[str], num: int) -> JobConfig:
        """The configuration of job `num`. Raises ConfigError, and what Hydra raises for overrides of groups."""
        parsed = [self._parse(line) for line in overrides]
        values = [override for override in parsed if _is_value(override)]
        groups = tuple(override.input_line or "" for override in parsed if not _is_value(override))
        cfg, unresolved = self._composed(groups, values)
        for override in values:
            _write_value(cfg, override)
            top = override.key_or_group.partition(".")[0]
            plain = override.value() if OmegaConf.is_interpolation(cfg, top) else cfg[top]
            is_config = OmegaConf.is_config(plain)
            unresolved[top] = OmegaConf.to_container(plain, enum_to_str=True) if is_config else plain
        own = [override for override in parsed if not override.is_hydra_override()]
        return JobConfig(num=num, cfg=cfg, unresolved=unresolved, parsed=own)

    def _composed(self, groups: tuple[str, ...], values: Sequence[Override]) -> tuple[DictConfig, dict[str, Any]]:
        """What Hydra composes for `groups`, with the values of the latest job that gave the same keys.

        One for each set of keys, so that no job keeps another's value. Raises ConfigError for a +key that is there.
        """
        known = (groups, tuple(override.key_or_group for override in values))
        if known not in self._compositions:
            cfg = self._loader.load_sweep_config(self._sweep, list(groups))
            for override in values:
                _refuse_addition(cfg, override)
            unresolved: Any = OmegaConf.to_container(cfg, enum_to_str=True)
            self._compositions[known] = cfg, unresolved
        return self._compositions[known]


def _refuse_addition(cfg: DictConfig, override: Override) -> None:
    """Raise ConfigError for a `+key` that is there, unless it is a list."""
    key, line = override.key_or_group, str(override.input_line)
    there = override.is_add() and OmegaConf.select(cfg, key, throw_on_missing=False) is not None
    if there and not isinstance(override.value(), list):
        raise ConfigError(f"There is a key {key!r} already", remedy=f"leave the + out: {line.lstrip('+')}")


def _write_value(cfg: DictConfig, override: Override) -> None:
    """Write an override's value into `cfg` as Hydra does, which raises ConfigCompositionException, too."""
    force = override.is_add() or override.is_force_add()
    try:
        OmegaConf.update(cfg, override.key_or_group, override.value(), merge=True, force_add=force)
    except OmegaConfBaseException as error:
        raise ConfigCompositionException(f"Error merging override {override.input_line}") from error


def _is_value(override: Override) -> bool:
    """Whether an override only sets a value: not a group, a deletion, or a mapping, which would be merged."""
    key = override.key_or_group
    plain = ("." in key or key in _VALUE_KEYS) and "/" not in key and override.package is None
    return plain and not (override.is_delete() or override.is_hydra_override() or isinstance(override.value(), dict))


class HydraFolders:
    """Writes jobs' `.hydra/` folders below `root`; sections that are equal in several jobs are dumped once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._goes_on = is_sweep(root)
        self._texts: dict[tuple[str, str, str], str] = {}

    def write(self, config: JobConfig, directory: str) -> None:
        """Write config.yaml, hydra.yaml and overrides.yaml of the job whose results go to `root/directory`.

        Files of an earlier sweep in this folder are kept: a resumed job's are the same, and where the job is another
        one the sweep will be refused and the earlier one must stay resumable.
        """
        subdir = config.unresolved["hydra"]["output_subdir"]
        if subdir is None:
            return
        folder = self._root / directory / str(subdir)
        if self._goes_on and (folder / "config.yaml").is_file():
            return
        folder.mkdir(parents=True, exist_ok=True)
        own = {key: value for key, value in config.unresolved.items() if key != "hydra"}
        hydra = config.unresolved["hydra"]
        hydra = {
            **hydra,
            "job": {**hydra["job"], **config.own_values()},
            "overrides": {**hydra["overrides"], "task": config.overrides},
            "runtime": {**hydra["runtime"], "output_dir": str(self._root / directory)},
        }
        (folder / "config.yaml").write_text(self._sections("", own), encoding="utf-8")
        (folder / "hydra.yaml").write_text("hydra:\n" + self._sections("hydra", hydra), encoding="utf-8")
        (folder / "overrides.yaml").write_text(to_yaml(config.overrides), encoding="utf-8")

    def _sections(self, parent: str, sections: dict[str, Any]) -> str:
        """The lines of keys below `parent` ("" at the top)."""
        lines = []
        for key, value in sections.items():
            known = (parent, key, repr(value))
            if known not in self._texts:
                text = to_yaml({parent: {key: value}} if parent else {key: value})
                self._texts[known] = text.partition("\n")[2] if parent else text
            lines.append(self._texts[known])
        return "".join(lines)


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes YAML as OmegaConf does, several times as fast."""


_Dumper.add_representer(str, OmegaConfDumper.str_representer)


def to_yaml(content: Any) -> str:
    """Plain values as `OmegaConf.to_yaml` writes them."""
    return str(yaml.dump(content, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False))
