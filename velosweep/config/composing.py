"""What Hydra composes a configuration from (`conf/` in the current folder, then velosweep's own), and one composed."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from velosweep.config.speculation_kinds import KINDS
from velosweep.errors import ConfigError

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from hydra.core.config_search_path import ConfigSearchPath
    from omegaconf import DictConfig

PRIMARY = "sweep"
OWN = "own"  # Hydra's provider of what is in the person's conf/


def package_conf() -> Path:
    """velosweep's own configuration: inside the package in a wheel, beside it in a checkout.

    Raises ConfigError where neither is there (a broken installation).
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / f"{PRIMARY}.yaml").is_file():
            return folder
    raise ConfigError(f"velosweep's configuration is missing beside {package}", remedy="install velosweep again")


def own_conf() -> Path | None:
    """The person's own `conf/` in the current folder; None where there is none but ours."""
    folder = Path.cwd() / "conf"
    return folder if folder.is_dir() and folder.resolve() != package_conf().resolve() else None


def build_search_path(config_dir: str | None = None, config_path: str | None = None) -> "ConfigSearchPath":
    """Hydra's search path: --config-dir, the person's own conf/, velosweep's, Hydra's; the first to have a file wins.

    `config_path` replaces velosweep's own. Raises ConfigError for a folder that isn't there.
    """
    from hydra._internal.utils import create_config_search_path
    from hydra.core.config_search_path import SearchPathQuery

    main = Path(config_path).absolute() if config_path else package_conf()
    folders = {"--config-path": main, **({"--config-dir": Path(config_dir).absolute()} if config_dir else {})}
    for flag, folder in folders.items():
        if not folder.is_dir():
            remedy = "give the folder that holds your YAML files"
            raise ConfigError(f"{flag}: there is no folder {folder}", remedy=remedy)
    search_path = create_config_search_path(f"file://{main}")
    before = SearchPathQuery(provider="main")
    own = own_conf()
    if own is not None and own != main:
        search_path.prepend(provider=OWN, path=f"file://{own}", anchor=before)
        before = SearchPathQuery(provider=OWN)
    if config_dir:
        search_path.prepend(provider="command-line", path=f"file://{folders['--config-dir']}", anchor=before)
    return search_path


def set_version_base() -> None:
    """Hydra 1.3 must be asked to behave as 1.3 and not as 1.1; from 1.4 on there is nothing to ask."""
    import hydra
    from hydra import version

    if hydra.__version__.startswith("1.3."):
        version.setbase("1.3")


def register_kinds(words: Sequence[str]) -> None:
    """Make `speculation=NAME` mean `speculation.kinds=[NAME]` for kinds by llama.cpp's names that we have no file for.

    A file of that name in a person's own conf/ comes first, as any file does.
    """
    from hydra.core.config_store import ConfigStore

    for word in words:
        key, _, value = word.partition("=")
        for name in re.findall(r"\b(?:draft|ngram)-[a-z0-9-]+", value) if key.lstrip("+") == "speculation" else ():
            if name not in KINDS:
                ConfigStore.instance().store(
                    group="speculation", name=name, node={"kinds": [name]}, provider="velosweep"
                )


def start_hydra(config_dir: str | None = None, config_path: str | None = None) -> "Hydra":
    """Hydra, reading our search path; its files are refused by name where they hold no configuration."""
    from hydra._internal.hydra import Hydra

    set_version_base()
    search_path = build_search_path(config_dir, config_path)  # has Hydra look for its plugins
    from velosweep.config.yaml_files import check_files

    check_files()
    return Hydra.create_main_hydra2("velosweep", search_path)


def compose(overrides: Sequence[str], *, config_dir: str | None = None) -> "DictConfig":
    """The configuration of one job, without Hydra's own part. Raises ConfigError for what can't be composed."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import open_dict

    from velosweep.config.command_words import read_words
    from velosweep.config.hydra_errors import translating_errors

    words = read_words(overrides)
    register_kinds(words)
    hydra = start_hydra(config_dir)
    try:
        with translating_errors():
            cfg = hydra.compose_config(
                config_name=PRIMARY, overrides=words, run_mode=RunMode.RUN, with_log_configuration=False
            )
    finally:
        GlobalHydra.instance().clear()
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg
