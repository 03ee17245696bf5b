"""Hydra's DictConfig ends here: checked, frozen values of `velosweep.config.settings` go on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from velosweep.config import job_parts
from velosweep.config.hydra_errors import refusing
from velosweep.config.key_names import KEY_TYPES, unknown_key
from velosweep.config.keys import freeze, keys_of
from velosweep.config.prompts import load_prompts
from velosweep.config.schema import RUN_KEYS, PromptKeys, SweepKeys
from velosweep.config.settings import Job, PromptSet, RunSettings, TunerSettings
from velosweep.errors import VelosweepError, together

_KEYS = {key.name: key for key in keys_of(SweepKeys)}


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
    found = {name: freeze(_KEYS[name], name, values[name]) for name in RUN_KEYS}
    report, display, _ = found.pop("report"), found.pop("display"), found.pop("tuner")
    return RunSettings(
        **found,
        report_plots=report.plots,
        report_paths=report.paths,
        verbosity=-1 if display.quiet else int(display.verbose),
    )


def load_tuner(cfg: DictConfig) -> TunerSettings:
    """How `hydra/sweeper=tune` searches. Raises ConfigError."""
    found: TunerSettings = freeze(_KEYS["tuner"], "tuner", plain_values(cfg, ("tuner",))["tuner"])
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
    with refusing():
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
        self._base = base or Path.cwd()
        self._made: dict[tuple[object, str], Any] = {}
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
        names = [name for name in _KEYS if name not in RUN_KEYS or name == "tuner"]
        values = plain_values(cfg, names, unresolved, self._resolved)
        parts = _Parts(values, self._made)
        pair, speculation = parts.make(job_parts.model_pair, "model_pair"), parts.make(_itself, "speculation")
        skip_vanilla = parts.make(_itself, "skip_vanilla")
        parts.check(job_parts.check_pair, pair, speculation, skip_vanilla)
        engine = parts.make(job_parts.engine, "engine", "llama_cpp")
        n_draft, n_predict = parts.make(_itself, "n_draft"), parts.make(_itself, "n_predict")
        parts.check(job_parts.check_draft_length, n_draft, engine)
        parts.check(job_parts.check_length, n_predict, engine)
        job = {
            "prompts": parts.make(self._prompts, "prompt", "prompts"),
            "sampling": parts.make(_itself, "sampling"),
            "protocol": parts.make(job_parts.protocol, "protocol", "iterations"),
            "target_speedup": parts.make(_itself, "target_speedup"),
            "output": parts.make(self._output, "output"),
        }
        parts.make(_itself, "tuner")  # a single job has no use for it, and still says what is wrong with it
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

    def _prompts(self, prompt: str | None, keys: PromptKeys) -> PromptSet:
        return load_prompts(prompt, keys, base=self._base)

    def _output(self, output: str | None) -> str | None:
        return job_parts.output_path(output, self._base) if output else None


class _Parts:
    """Makes a job's frozen values from the plain `values` of its keys, and keeps what is wrong with them.

    `made`: what was made before, by function and values.
    """

    def __init__(self, values: dict[str, Any], made: dict[tuple[object, str], Any]) -> None:
        self.problems: list[VelosweepError] = []
        self._values = values
        self._made = made

    def make(self, function: Callable[..., Any], *names: str) -> Any:
        """What `function` makes of these keys' frozen values; None where something is wrong with them."""
        cause = (function, repr([self._values[name] for name in names]))
        try:
            if cause not in self._made:
                self._made[cause] = function(*(freeze(_KEYS[name], name, self._values[name]) for name in names))
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
    """Refuse a key that isn't in the schema: `+key=value` lets Hydra add any."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if key not in KEY_TYPES:
            raise unknown_key(key)
        if isinstance(value, dict) and KEY_TYPES[key] != "map":
            _refuse_unknown(value, f"{key}.")


def _itself(value: Any) -> Any:
    return value
