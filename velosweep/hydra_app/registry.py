"""Registers velosweep's schema and the settings of its launchers and sweepers with Hydra.

The plugin shims call `register` with the names of their classes. Not in the shims themselves: Hydra runs those
files outside of the import system, where dataclasses can't resolve their annotations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore

from velosweep.config import schema

schema.register()


@dataclass
class LauncherConf:
    """A launcher without settings."""

    _target_: str = "???"


@dataclass
class GridConf:
    """Settings of the sweeper `grid`."""

    _target_: str = "???"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None


def register(group: str, name: str, target: str, conf: Any) -> None:
    """Offer `hydra/<group>=<name>`, made of the class `target` with the settings `conf`."""
    ConfigStore.instance().store(
        group=f"hydra/{group}",
        name=name,
        node=conf(_target_=f"hydra_plugins.velosweep_plugins.{target}"),
        provider="velosweep",
    )
