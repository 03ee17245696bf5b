"""Hydra's DictConfig ends here: checked, frozen values of `velosweep.config.settings` go on."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from velosweep.config.hydra_errors import refusing
from velosweep.config.key_names import KEY_TYPES, unknown_key
from velosweep.config.keys import freeze, keys_of
from velosweep.config.prompts import load_prompts
from velosweep.config.schema import RUN_KEYS, LlamaCpp, PairKeys, PromptKeys, SweepKeys
from velosweep.config.settings import (
    EngineSettings,
    Job,
    ModelPair,
    PromptSet,
    Protocol,
    RunSettings,
    Speculation,
    TunerSettings,
)
from velosweep.errors import ConfigError, VelosweepError, together

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
        pair, speculation = parts.make(_model_pair, "model_pair"), parts.make(_itself, "speculation")
        skip_vanilla = parts.make(_itself, "skip_vanilla")
        parts.check(_check_pair, pair, speculation, skip_vanilla)
        engine = parts.make(_engine, "engine", "llama_cpp")
        n_draft, n_predict = parts.make(_itself, "n_draft"), parts.make(_itself, "n_predict")
        parts.check(_check_draft_length, n_draft, engine)
        parts.check(_check_length, n_predict, engine)
        job = {
            "prompts": parts.make(self._prompts, "prompt", "prompts"),
            "sampling": parts.make(_itself, "sampling"),
            "protocol": parts.make(_protocol, "protocol", "iterations"),
            "target_speedup": parts.make(_itself, "target_speedup"),
            "output": parts.make(self._output, "output"),
        }
        parts.make(_itself, "tuner")  # a single job has no use for it, and still says what is wrong with it
        if parts.problems and values["engine"]["kind"] != "attached":  # an attached server's models are where it runs
            parts.check(_check_main_model, pair)
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
        return load_prompts(
            prompt=prompt,
            name=keys.name,
            items=keys.items,
            file=keys.file,
            limit=keys.limit,
            seed=keys.seed,
            categories=keys.categories,
            chat=keys.chat,
            base=self._base,
        )

    def _output(self, output: str | None) -> str | None:
        """Absolute path of the extra summary; raises ConfigError where it could not be written."""
        if output is None:
            return None
        path = (self._base / Path(output).expanduser()).absolute()
        remedy = "set output to a file in a folder that you can write to"
        if path.is_dir():
            raise ConfigError(f"output={output} is a folder", remedy=f"name a file, for instance {output}/summary.json")
        if path.exists():
            if not os.access(path, os.W_OK):
                raise ConfigError(f"output={output} can't be written", remedy=remedy)
            return str(path)
        folder = next(parent for parent in path.parents if parent.exists())
        if not folder.is_dir():
            raise ConfigError(f"output={output}: {folder} is not a folder", remedy=remedy)
        try:
            with tempfile.TemporaryFile(dir=folder):  # root may write everywhere by its rights, and still not in /proc
                pass
        except OSError as error:
            raise ConfigError(f"output={output}: {folder} can't be written to", remedy=remedy) from error
        return str(path)


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


# ---------------------------------------------------------------- values made of several keys


def _model_pair(keys: PairKeys) -> ModelPair:
    """The pair. Files that are named win over a synthetic shape, and then name the pair."""
    shape = keys.synthetic
    if shape is not None and not keys.main_model and not keys.draft_model:
        if shape.kept_layers > shape.layers:
            raise ConfigError(
                f"model_pair.synthetic.kept_layers is {shape.kept_layers} of {shape.layers} layers",
                remedy=f"it can be {shape.layers} at most",
            )
        return ModelPair(name=keys.name, main_model="", synthetic=shape)
    if not keys.main_model:
        raise ConfigError(
            "model_pair.main_model has no value", remedy="set it to a GGUF file, or choose model_pair=synthetic"
        )
    named = shape is None and keys.name != "custom"
    models = [keys.main_model, keys.draft_model] if keys.draft_model else [keys.main_model]
    main, *draft = [model if "://" in model else str(Path(model).expanduser()) for model in models]
    name = keys.name if named else " + ".join(Path(model).stem for model in (main, *draft))
    return ModelPair(name=name, main_model=main, draft_model=draft[0] if draft else None)


def _engine(settings: EngineSettings, llama_cpp: LlamaCpp) -> EngineSettings:
    if settings.kind == "attached" and not (settings.vanilla_url or settings.speculative_url):
        raise ConfigError(
            "engine.kind is 'attached' and no server is named",
            remedy="set engine.vanilla_url and engine.speculative_url, e.g. http://127.0.0.1:8080",
        )
    return replace(settings, program=str(Path(llama_cpp.path).expanduser())) if llama_cpp.path else settings


def _protocol(protocol: Protocol, iterations: int) -> Protocol:
    if protocol.launches > iterations:
        raise ConfigError(
            f"iterations is {iterations}",
            remedy=f"it must be at least {protocol.launches} (protocol.launches shares them out)",
        )
    rule = protocol.adaptive
    if rule is not None and rule.max_pairs < rule.min_pairs:
        raise ConfigError(
            f"protocol.adaptive.max_pairs is {rule.max_pairs}",
            remedy=f"it must be at least {rule.min_pairs} (protocol.adaptive.min_pairs)",
        )
    return replace(protocol, iterations=iterations)


# ---------------------------------------------------------------- checks of values against each other


def _check_pair(pair: ModelPair, speculation: Speculation, skip_vanilla: bool) -> None:
    if speculation.needs_draft_model and pair.synthetic is None and not pair.draft_model:
        raise ConfigError(
            "model_pair.draft_model has no value",
            remedy="set it to a GGUF file, or choose a speculation that needs none, e.g. speculation=ngram-simple",
        )
    if skip_vanilla and not speculation.kinds:
        raise ConfigError(
            "skip_vanilla=true with speculation=none leaves nothing to measure", remedy="drop one of the two"
        )


def _check_draft_length(n_draft: int, engine: EngineSettings) -> None:
    """Refuse a draft that no context holds: a typing error, and a llama-server counts each position."""
    if engine.kind != "attached" and n_draft >= engine.context:  # an attached server's context is its own
        raise ConfigError(
            f"n_draft is {n_draft}, and engine.context is {engine.context}",
            remedy="the context takes prompt, answer and draft; drafts of 2 to 16 tokens are usual",
        )


def _check_length(n_predict: int, engine: EngineSettings) -> None:
    """Refuse where no run could be whole: the context takes the prompt and the answer."""
    if engine.kind != "attached" and n_predict >= engine.context:
        raise ConfigError(
            f"n_predict is {n_predict}, and engine.context is {engine.context}",
            remedy=f"the context takes prompt and answer: set engine.context={2 * n_predict}, or lower n_predict",
        )


def _check_main_model(pair: ModelPair) -> None:
    """A missing file is refused later; said here only beside what else is wrong."""
    if pair.main_model and "://" not in pair.main_model and not os.path.exists(pair.main_model):  # noqa: PTH110
        raise ConfigError(f"No model at {pair.main_model}", remedy="set model_pair.main_model to a GGUF file")
