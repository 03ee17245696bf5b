"""One configuration a job, cheaply.

Composing takes Hydra 60 ms. Jobs of a grid differ in a few plain values, so each selection of group files is
composed once into a working configuration, and a job's values are written over those of the job before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

_Value = TypeVar("_Value")


@dataclass(kw_only=True, slots=True)
class Selection:
    """A composed selection of groups. `working` carries the values of `applied` (key -> override as written).

    `pristine`: without any, once it was needed.
    """

    overrides: tuple[str, ...]
    working: DictConfig
    applied: dict[str, str] = field(default_factory=dict)
    pristine: DictConfig | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A job's configuration, `cfg`, valid until the next one is composed.

    `touched[root]` tells everything that the value of a top-level key depends on apart from other keys: equal
    tokens mean equal sections (unless they interpolate).
    """

    cfg: DictConfig
    selection: Selection
    overrides: tuple[Override, ...]
    plain: dict[str, str]

    def token(self, root: str) -> tuple[Any, ...]:
        """What decided the section `root`: the selection of groups and the values written into it."""
        inside = f"{root}."
        return (
            self.selection.overrides,
            *(line for key, line in self.plain.items() if key == root or key.startswith(inside)),
        )


class Composer:
    """Composes the jobs of one sweep after another. `master` is the sweep's own configuration."""

    def __init__(self, master: DictConfig, loader: ConfigLoader) -> None:
        self._master = master
        self._loader = loader
        self._parser = OverridesParser.create(config_loader=loader)
        self._parsed: dict[str, tuple[Override, bool]] = {}
        self._groups: dict[str, bool] = {}
        self._selections: dict[tuple[str, ...], Selection] = {}
        self._remembered: dict[tuple[Any, ...], Any] = {}

    def compose(self, overrides: Sequence[str]) -> Point:
        """The configuration of the job with these overrides. Raises what Hydra raises for illegal ones."""
        parsed = [self._parse(line) for line in overrides]
        plain: dict[str, str] = {}
        values: dict[str, Override] = {}
        structural = []
        for line, (override, is_plain) in zip(overrides, parsed, strict=True):
            if is_plain:
                key = override.key_or_group
                plain[key], values[key] = line, override
            else:
                structural.append(line)
        selection = self._select(tuple(structural))
        if selection.applied.keys() - plain.keys():
            selection.pristine = selection.pristine or self._composed(selection.overrides)
            selection.working, selection.applied = deepcopy(selection.pristine), {}
        for key, line in plain.items():
            if selection.applied.get(key) != line:
                _write(selection.working, key, values[key], again=key in selection.applied)
                selection.applied[key] = line
        return Point(
            cfg=selection.working,
            selection=selection,
            overrides=tuple(override for override, _ in parsed),
            plain=plain,
        )

    def remember(self, key: tuple[Any, ...], make: Callable[[], _Value]) -> _Value:
        """What `make` returned for this key the first time."""
        if key not in self._remembered:
            self._remembered[key] = make()
        found: _Value = self._remembered[key]
        return found

    def _parse(self, line: str) -> tuple[Override, bool]:
        """The override and whether it only writes a plain value."""
        if line not in self._parsed:
            override = self._parser.parse_override(line)
            self._parsed[line] = (override, self._is_plain(override))
        return self._parsed[line]

    def _is_plain(self, override: Override) -> bool:
        key = override.key_or_group
        if override.is_delete() or override.package is not None or override.is_hydra_override():
            return False
        return not isinstance(override.value(), (dict, list)) and not self._is_group(key)

    def _is_group(self, key: str) -> bool:
        if key not in self._groups:
            choices, top = self._master.hydra.runtime.choices, "." not in key
            # To ask for a group's options Hydra reads its search path anew; a plain value of ours can't be one.
            plain = key in self._master and not isinstance(self._master._get_node(key), DictConfig)
            asked = top and not plain and bool(self._loader.get_group_options(key))
            self._groups[key] = "/" in key or key in choices or asked
        return self._groups[key]

    def _select(self, overrides: tuple[str, ...]) -> Selection:
        if overrides not in self._selections:
            self._selections[overrides] = Selection(overrides=overrides, working=self._composed(overrides))
        return self._selections[overrides]

    def _composed(self, overrides: tuple[str, ...]) -> DictConfig:
        """What Hydra composes for these overrides; the sweep's own configuration where that was made of the same."""
        fixed = [(line, *self._parse(line)) for line in self._master.hydra.overrides.task]
        added = any(is_plain and override.is_add() for _, override, is_plain in fixed)
        if added or overrides != tuple(line for line, _, is_plain in fixed if not is_plain):
            return self._loader.load_sweep_config(self._master, list(overrides))
        composed = deepcopy(self._master)
        OmegaConf.set_readonly(composed, None)  # Hydra hands the sweep's to its plugins read-only
        OmegaConf.set_readonly(composed.hydra, False)
        with open_dict(composed.hydra):
            composed.hydra.overrides.task = []
            composed.hydra.job.override_dirname = ""
        return composed


def _write(cfg: DictConfig, key: str, override: Override, *, again: bool) -> None:
    """Write one value as Hydra does; `again`: over one that was written before (`+key` may then exist)."""
    if again and override.is_add():
        OmegaConf.update(cfg, key, override.value(), merge=True, force_add=True)
    else:
        ConfigLoaderImpl._apply_overrides_to_config([override], cfg)
