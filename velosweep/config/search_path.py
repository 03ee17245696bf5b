"""Where configuration comes from: `conf/` in the current folder, then velosweep's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from velosweep.errors import ConfigError

if TYPE_CHECKING:
    from hydra.core.config_search_path import ConfigSearchPath

PRIMARY = "sweep"


def package_conf() -> Path:
    """velosweep's own configuration: inside the package in a wheel, beside it in a checkout.

    Raises ConfigError where neither is there (a broken installation).
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / f"{PRIMARY}.yaml").is_file():
            return folder
    raise ConfigError(f"velosweep's configuration is missing beside {package}", remedy="install velosweep again")


def own_conf(directory: Path | None = None) -> Path | None:
    """The person's own `conf/` in `directory` (default: the current one); None where there is none but ours."""
    folder = (directory or Path.cwd()) / "conf"
    if not folder.is_dir() or folder.resolve() == package_conf().resolve():
        return None
    return folder.absolute()


def build(config_dir: str | None = None, config_path: str | None = None) -> ConfigSearchPath:
    """Hydra's search path: --config-dir, the person's own conf/, velosweep's, Hydra's; the first to have a file wins.

    `config_path` replaces velosweep's own. Raises ConfigError for a folder that isn't there.
    """
    from hydra._internal.utils import create_config_search_path
    from hydra.core.config_search_path import SearchPathQuery

    main = Path(config_path).absolute() if config_path else package_conf()
    _must_be_folder("--config-path", main)
    search_path = create_config_search_path(f"file://{main}")
    before = SearchPathQuery(provider="main")
    own = own_conf()
    if own is not None and own != main:
        search_path.prepend(provider="own", path=f"file://{own}", anchor=before)
        before = SearchPathQuery(provider="own")
    if config_dir:
        folder = Path(config_dir).absolute()
        _must_be_folder("--config-dir", folder)
        search_path.prepend(provider="command-line", path=f"file://{folder}", anchor=before)
    return search_path


def _must_be_folder(flag: str, folder: Path) -> None:
    if not folder.is_dir():
        raise ConfigError(f"{flag}: there is no folder {folder}", remedy="give the folder that holds your YAML files")
