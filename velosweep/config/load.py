"""Hydra's DictConfig ends here: checked, frozen values of `velosweep.config.settings` go on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from velosweep.config import job_parts
from velosweep.config.hydra_errors import translating_errors
from velosweep.config.key_names import KEY_TYPES, unknown_key
from velosweep.config.keys import freeze
from velosweep.config.prompts import load_prompts
from velosweep.config.schema import KEYS, RUN_KEYS
from velosweep.config.settings import Job, RunSettings, TunerSettings
from velosweep.errors import VelosweepError, together

_JOB_KEYS = [name for name in KEYS if "." not in name and (name not in RUN_KEYS or name == "tuner")]
"""A single job has no use for `tuner`, and still says what is wrong with it."""


def load_job(
    cfg: DictConfig, *, num: int = 0, overrides: Sequence[str] = (), directory: str = "", base: Path | None = None
) -> Job:
    """The job that `cfg` describes; `id` and `baseline_id` are left empty for planning to fill.

    `engine.kind` may still be `auto`; paths and threads are as configured. `base` is what relative files are
    relative to (default: the current directory). Raises ConfigError and PromptError.
    """
    return JobLoader(base=base).load(cfg, num=num, overrides=overrides, directory=directory)


def load_settings(cfg: DictConfig, unresolved: Mapping[str, Any] | None = None) -> RunSettings:
    """How to run, which changes no result; `unresolved` as in `plain_values`. Raises ConfigError."""
    values = plain_values(cfg, RUN_KEYS, unresolved)
    found = {name: freeze(KEYS[name], name, values[name]) for name in RUN_KEYS}
    report, display, _ = found.pop("report"), found.pop("display"), found.pop("tuner")
    return RunSettings(
        **found,
        report_plots=report.plots,
        report_paths=report.paths,
        verbosity=-1 if display.quiet else int(display.verbose),
    )


def load_tuner(cfg: DictConfig) -> TunerSettings:
    """How `hydra/sweeper=tune` searches. Raises ConfigError."""
    found: TunerSettings = freeze(KEYS["tuner"], "tuner", plain_values(cfg, ("tuner",))["tuner"])
    return found


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
    """Loads the jobs of a sweep one after another: jobs with the same settings share the same frozen values."""

    def __init__(self, *, base: Path | None = None) -> None:
        base = base or Path.cwd()
        self._prompts = partial(load_prompts, base=base)
        self._output = partial(job_parts.output_path, base=base)
        self._made: dict[Any, Any] = {}
        self._resolved: dict[Any, Any] = {}

    def load(
        self,
        cfg: DictConfig,
        *,
        num: int,
        overrides: Sequence[str],
        directory: str,
        unresolved: Mapping[str, Any] | None = None,
    ) -> Job:
        """As `load_job`; `unresolved` as in `plain_values`. Says all that is wrong at once."""
        values = plain_values(cfg, _JOB_KEYS, unresolved, self._resolved)
        parts = _Parts(values, self._made)
        pair, speculation = parts.make("model_pair", by=job_parts.model_pair), parts.make("speculation")
        skip_vanilla = parts.make("skip_vanilla")
        parts.check(job_parts.check_pair, pair, speculation, skip_vanilla)
        engine = parts.make("engine", "llama_cpp", by=job_parts.engine)
        n_draft, n_predict = parts.make("n_draft"), parts.make("n_predict")
        parts.check(job_parts.check_context, "n_draft", n_draft, engine)
        parts.check(job_parts.check_context, "n_predict", n_predict, engine)
        job = {
            "prompts": parts.make("prompt", "prompts", by=self._prompts),
            "sampling": parts.make("sampling"),
            "protocol": parts.make("protocol", "iterations", by=job_parts.protocol),
            "target_speedup": parts.make("target_speedup"),
            "output": parts.make("output", by=self._output),
        }
        parts.make("tuner")
        if parts.problems and values["engine"]["kind"] != "attached":  # an attached server's models are where it runs
            parts.check(job_parts.check_main_model, pair)
        if parts.problems:
            raise together(parts.problems)
        return Job(
            id="",
            num=num,
            baseline_id="",
            model_pair=pair,
            n_draft=n_draft,
            n_predict=n_predict,
            speculation=speculation,
            engine=engine,
            skip_vanilla=skip_vanilla,
            overrides=tuple(overrides),
            directory=directory,
            **job,
        )


class _Parts:
    """Makes a job's frozen values from the plain `values` of its keys, and keeps what is wrong with them.

    `made`: what was made before, by function and values.
    """

    def __init__(self, values: dict[str, Any], made: dict[Any, Any]) -> None:
        self.problems: list[VelosweepError] = []
        self._values = values
        self._made = made

    def make(self, *names: str, by: Callable[..., Any] | None = None) -> Any:
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
