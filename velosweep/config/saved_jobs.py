"""Jobs from the YAML that a sweep saved (`<job>/.hydra/config.yaml`), read against today's schema, never a pickle."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from velosweep.config.hydra_errors import translate, translating_errors
from velosweep.config.load import JobLoader, load_settings
from velosweep.config.schema import omegaconf_schema
from velosweep.config.settings import Job, RunSettings
from velosweep.config.yaml_errors import not_yaml
from velosweep.errors import ConfigError, StorageError


def load_saved(
    folders: Sequence[tuple[int, str, Path]], *, overrides: Sequence[str] = (), base: Path | None = None
) -> tuple[list[Job], RunSettings]:
    """The jobs of a saved sweep: `folders` holds (number, directory below the root, the job's folder).

    `overrides` (`key=value`, plain values) are laid over every job. `base`: what relative files are relative to.
    Raises StorageError for a configuration that is gone or unreadable, ConfigError for one that can't be run.
    """
    loader = JobLoader(base=base)
    jobs, settings = [], None
    for num, directory, folder in folders:
        cfg = _read(folder / ".hydra" / "config.yaml", overrides)
        jobs.append(loader.load(cfg, num=num, overrides=_saved_overrides(folder, overrides), directory=directory))
        settings = settings or load_settings(cfg)
    if settings is None:
        raise StorageError("The sweep has no job", remedy="name a folder that velosweep wrote")
    return jobs, settings


def copy_saved(source: Path, target: Path, overrides: Sequence[str] = ()) -> None:
    """Copy a job's `.hydra/` to a new job's folder with `overrides` laid over it, so that it can be resumed too."""
    shutil.copytree(source / ".hydra", target / ".hydra")
    if overrides:
        OmegaConf.save(_read(source / ".hydra" / "config.yaml", overrides), target / ".hydra" / "config.yaml")
        OmegaConf.save(list(_saved_overrides(source, overrides)), target / ".hydra" / "overrides.yaml")


def _read(path: Path, overrides: Sequence[str]) -> Any:
    remedy = "run the original command again with hydra.sweep.dir set to this folder"
    try:
        merged = OmegaConf.merge(OmegaConf.structured(omegaconf_schema()), OmegaConf.load(path))
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(f"The saved configuration {path} can't be read: {reason}", remedy=remedy) from error
    except YAMLError as error:
        raise not_yaml(error, f"The saved configuration {path}", StorageError) from error
    except OmegaConfBaseException as error:
        ours = translate(error)
        raise StorageError(
            f"The saved configuration {path} is damaged: {ours.message if ours else error}", remedy=remedy
        ) from error
    for override in overrides:
        _write(merged, override)
    return merged


def _write(cfg: Any, override: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    with translating_errors():
        parsed = OverridesParser.create().parse_override(override)
        if parsed.is_sweep_override():
            raise ConfigError(f"{override!r} names several values", remedy=f"give {parsed.key_or_group} one value")
        OmegaConf.update(cfg, parsed.key_or_group, parsed.value(), merge=True)


def _saved_overrides(folder: Path, overrides: Sequence[str]) -> tuple[str, ...]:
    path = folder / ".hydra" / "overrides.yaml"
    saved = [str(line) for line in OmegaConf.load(path)] if path.is_file() else []
    return (*saved, *overrides)
