"""Hydra's DictConfig ends here: checked, frozen values of `velosweep.config.settings` go on."""

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from velosweep.config import job_parts
from velosweep.config.hydra_errors import not_yaml, translate, translating_errors
from velosweep.config.keys import freeze
from velosweep.config.prompts import load_prompts
from velosweep.config.schema import GROUPS, KEY_TYPES, KEYS, RUN_KEYS, omegaconf_schema, unknown_key
from velosweep.config.settings import Job, RunSettings
from velosweep.errors import ConfigError, StorageError, VelosweepError, combine_errors

_JOB_KEYS = [name for name in KEYS if "." not in name and (name not in RUN_KEYS or name == "tuner")]
"""A single job has no use for `tuner`, and still says what is wrong with it."""
_JOB_FIELDS = [name for name in _JOB_KEYS if name not in ("llama_cpp", "prompt", "iterations", "tuner")]
"""The others are parts of these (see `JobLoader`)."""


def load_settings(cfg: DictConfig, unresolved: Mapping[str, Any] | None = None, *, tune: bool = False) -> RunSettings:
    """How to run, which changes no result; `unresolved` as in `plain_values`. Raises ConfigError.

    `tune`: `hydra/sweeper=tune` searches the grid, by the settings of `tuner`.
    """
    values = plain_values(cfg, RUN_KEYS, unresolved)
    found = {name: freeze(KEYS[name], name, values[name]) for name in RUN_KEYS}
    report, display, tuner = found.pop("report"), found.pop("display"), found.pop("tuner")
    return RunSettings(
        **found,
        report_plots=report.plots,
        report_paths=report.paths,
        verbosity=-1 if display.quiet else int(display.verbose),
        tuner=tuner if tune else None,
    )


def plain_values(
    cfg: DictConfig,
    names: Sequence[str],
    unresolved: Mapping[str, Any] | None = None,
    resolved: dict[Any, Any] | None = None,
) -> dict[str, Any]:
    """These top-level values as plain lists, dicts and scalars, interpolations resolved. Raises ConfigError.

    `unresolved`: what `OmegaConf.to_container` makes of `cfg`, where the caller has that. `resolved` remembers what
    interpolations gave for a next configuration: OmegaConf takes a millisecond for one.
    """
    found = {}
    with translating_errors():
        resolved = {} if resolved is None else resolved
        plain: Any = unresolved or OmegaConf.to_container(cfg)
        _refuse_unknown({name: value for name, value in plain.items() if name != "hydra"})
        for name in names:
            if name not in plain:  # ~name took it out
                raise unknown_key(name)
            value = plain[name]
            if "${" in repr(value):
                cause = _decided_by(value, plain)
                if cause is None or cause not in resolved:
                    node = cfg[name]
                    resolved[cause] = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
                value = resolved[cause]
            found[name] = value
    return found


_REFERENCE = re.compile(r"\$\{(?:oc\.env:|([A-Za-z_]\w*)[.}])")


def _decided_by(value: Any, values: Mapping[str, Any]) -> tuple[str, ...] | None:
    """All that decides what the interpolations in `value` resolve to; None where that can't be told by its text."""
    text = repr(value)
    names = _REFERENCE.findall(text)
    referred = [repr(values.get(name)) for name in names if name]
    if len(names) != text.count("${") or any("${" in other for other in referred):
        return None
    return (text, *referred)


class JobLoader:
    """Loads the jobs of a sweep one after another: jobs with the same settings share the same frozen values.

    `base` is what relative files are relative to (default: the current directory).
    """

    def __init__(self, *, base: Path | None = None) -> None:
        base = base or Path.cwd()
        self._joined: dict[str, tuple[tuple[str, ...], Callable[..., Any]]] = {
            "model_pair": (("model_pair",), job_parts.model_pair),
            "engine": (("engine", "llama_cpp"), job_parts.engine),
            "prompts": (("prompt", "prompts"), partial(load_prompts, base=base)),
            "protocol": (("protocol", "iterations"), job_parts.protocol),
            "output": (("output",), partial(job_parts.output_path, base=base)),
        }
        self._made: dict[Any, Any] = {}
        self._resolved: dict[Any, Any] = {}

    def load(
        self,
        cfg: DictConfig,
        *,
        num: int = 0,
        overrides: Sequence[str] = (),
        directory: str = "",
        unresolved: Mapping[str, Any] | None = None,
    ) -> Job:
        """The job that `cfg` describes; `id` and `baseline_id` are left empty for planning to fill.

        `engine.kind` may still be `auto`; paths and threads are as configured. `unresolved` as in `plain_values`.
        Raises ConfigError and PromptError for all that is wrong at once.
        """
        values = plain_values(cfg, _JOB_KEYS, unresolved, self._resolved)
        parts = _Parts(values, self._made)
        made = {name: parts.make(*self._joined.get(name, ((name,), None))) for name in _JOB_FIELDS}
        parts.make(("tuner",))
        parts.check(job_parts.check_measurable, made["model_pair"], made["speculation"], made["skip_vanilla"])
        for key in ("n_draft", "n_predict"):
            parts.check(job_parts.check_context, key, made[key], made["engine"])
        if parts.problems and values["engine"]["kind"] != "attached":  # an attached server's models are where it runs
            parts.check(job_parts.check_main_model, made["model_pair"])
        if parts.problems:
            raise combine_errors(parts.problems)
        return Job(id="", num=num, baseline_id="", overrides=tuple(overrides), directory=directory, **made)


class _Parts:
    """Makes a job's frozen values from the plain `values` of its keys, and keeps what is wrong with them.

    `made`: what was made before, by function and values.
    """

    def __init__(self, values: dict[str, Any], made: dict[Any, Any]) -> None:
        self.problems: list[VelosweepError] = []
        self._values = values
        self._made = made

    def make(self, names: Sequence[str], by: Callable[..., Any] | None = None) -> Any:
        """The frozen value of a key, or what `by` makes of several keys'; None where something is wrong with them."""
        cause = (by, *names, repr([self._values[name] for name in names]))
        try:
            if cause not in self._made:
                frozen = [freeze(KEYS[name], name, self._values[name]) for name in names]
                self._made[cause] = by(*frozen) if by else frozen[0]
            return self._made[cause]
        except VelosweepError as error:
            self.problems.append(error)
            return None

    def check(self, function: Callable[..., None], *parts: Any) -> None:
        """Call `function`, which raises what is wrong, with parts that are all there."""
        try:
            if None not in parts:
                function(*parts)
        except VelosweepError as error:
            self.problems.append(error)


def _refuse_unknown(values: dict[str, Any], prefix: str = "") -> None:
    """Raise ConfigError for a key that isn't in the schema: `+key=value` lets Hydra add any."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if key not in KEY_TYPES:
            raise unknown_key(key)
        if isinstance(value, dict) and KEY_TYPES[key] != "map":
            _refuse_unknown(value, f"{key}.")


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
    from hydra.core.override_parser.overrides_parser import OverridesParser

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
    with translating_errors():
        for override in OverridesParser.create().parse_overrides(list(overrides)):
            if override.is_sweep_override():
                remedy = f"give {override.key_or_group} one value"
                raise ConfigError(f"{override.input_line!r} names several values", remedy=remedy)
            if override.key_or_group in GROUPS and not isinstance(override.value(), dict):
                remedy = f"set the keys that it would set: {override.key_or_group}.KEY=VALUE"
                raise ConfigError(f"{override.input_line!r} names a file, and a saved sweep has keys", remedy=remedy)
            OmegaConf.update(merged, override.key_or_group, override.value(), merge=True)
    return merged


def _saved_overrides(folder: Path, overrides: Sequence[str]) -> tuple[str, ...]:
    path = folder / ".hydra" / "overrides.yaml"
    saved = [str(line) for line in OmegaConf.load(path)] if path.is_file() else []
    return (*saved, *overrides)
