"""One configuration from the command line's words, for those who don't run it as Hydra's job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from velosweep.config import search_path

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from hydra.core.config_search_path import ConfigSearchPath
    from hydra.core.override_parser.types import Override


def set_version_base() -> None:
    """Hydra 1.3 must be asked to behave as 1.3 and not as 1.1; from 1.4 on there is nothing to ask."""
    import hydra
    from hydra import version

    if hydra.__version__.startswith("1.3."):
        version.setbase("1.3")


def start_hydra(search_path: ConfigSearchPath) -> Hydra:
    """Hydra, reading `search_path`; its files are refused by name where they hold no configuration."""
    from hydra._internal.hydra import Hydra

    from velosweep.config.yaml_files import check_sources

    hydra = Hydra.create_main_hydra2("velosweep", search_path)
    check_sources(hydra)
    return hydra


def compose(overrides: Sequence[str], *, config_dir: str | None = None) -> DictConfig:
    """The configuration of one job, without Hydra's own part. Raises ConfigError for what can't be composed."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from velosweep.config.command_words import read_words
    from velosweep.config.hydra_errors import translating_errors

    words = read_words(overrides)
    set_version_base()
    hydra = start_hydra(search_path.build(config_dir))
    try:
        with translating_errors():
            cfg = hydra.compose_config(
                config_name=search_path.PRIMARY,
                overrides=words,
                run_mode=RunMode.RUN,
                with_log_configuration=False,
            )
    finally:
        GlobalHydra.instance().clear()
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg


def write_value(cfg: DictConfig, override: Override, *, again: bool = False) -> None:
    """Write an override's value into `cfg` as Hydra does; `again`: `+key` wrote it before.

    Raises ConfigError for a `+key` that is there, ConfigCompositionException for what OmegaConf refuses.
    """
    from hydra.errors import ConfigCompositionException

    from velosweep.errors import ConfigError

    key, value, line = override.key_or_group, override.value(), override.input_line
    try:
        there = override.is_add() and not again and OmegaConf.select(cfg, key, throw_on_missing=False) is not None
        if there and not isinstance(value, (dict, list)):
            raise ConfigError(f"There is a key {key!r} already", remedy=f"leave the + out: {str(line).lstrip('+')}")
        OmegaConf.update(cfg, key, value, merge=True, force_add=override.is_add() or override.is_force_add())
    except OmegaConfBaseException as error:
        raise ConfigCompositionException(f"Error merging override {line}") from error
