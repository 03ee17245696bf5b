"""Hydra's DictConfig ends here: checked, frozen values of `velosweep.config.settings` go on.

A sweep of 10,000 jobs loads 10,000 configurations that differ in a few keys, so `JobLoader` keeps the sections
it has frozen and freezes again only those that an override touches.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from velosweep.config import sections
from velosweep.config.checks import Section, at_least, check_output, one_of
from velosweep.config.hydra_errors import KEYS, refusing, unknown_key
from velosweep.config.prompts import load_prompts
from velosweep.config.settings import (
    EngineSettings,
    Job,
    ModelPair,
    PromptSet,
    Protocol,
    RunSettings,
    Sampling,
    Speculation,
    TunerSettings,
)
from velosweep.errors import VelosweepError, together

_Value = TypeVar("_Value")
_KNOWN = frozenset(KEYS)
_REFERENCE = re.compile(r"\$\{(?:oc\.env:|([A-Za-z_]\w*)[.}])")
_TOP_LEVEL = tuple(key for key in KEYS if "." not in key)


def load_job(
    cfg: DictConfig, *, num: int = 0, overrides: Sequence[str] = (), directory: str = "", base: Path | None = None
) -> Job:
    """The job that `cfg` describes; `id` and `baseline_id` are left empty for planning to fill.

    `engine.kind` may still be `auto`; paths and threads are as configured. `base` is what relative prompt
    files are relative to (default: the current directory). Raises ConfigError and PromptError.
    """
    return JobLoader(base=base).load(cfg, num=num, overrides=overrides, directory=directory)


def load_settings(cfg: DictConfig) -> RunSettings:
    """How to run, which changes no result. Raises ConfigError."""
    with refusing():
        return _load_settings(cfg)


def _load_settings(cfg: DictConfig) -> RunSettings:
    quiet, verbose = bool(cfg.display.quiet), bool(cfg.display.verbose)
    return RunSettings(
        gpus=sections.gpus(OmegaConf.to_object(cfg.gpus) if OmegaConf.is_config(cfg.gpus) else cfg.gpus),
        gpus_per_lane=at_least("gpus_per_lane", int(cfg.gpus_per_lane), 1),
        cpu_lanes=at_least("cpu_lanes", int(cfg.cpu_lanes), 1),
        on_busy=one_of("on_busy", str(cfg.on_busy), ("wait", "fail")),
        dry_run=bool(cfg.dry_run),
        report_plots=bool(cfg.report.plots),
        report_paths=bool(cfg.report.paths),
        verbosity=-1 if quiet else int(verbose),
        force=bool(cfg.force),
    )


def load_tuner(cfg: DictConfig) -> TunerSettings:
    """How `hydra/sweeper=tune` searches. Raises ConfigError."""
    with refusing():
        return sections.tuner(Section("tuner", OmegaConf.to_container(cfg.tuner, resolve=True)))


class JobLoader:
    """Loads jobs one after another and shares the parts that are alike."""

    def __init__(self, *, base: Path | None = None) -> None:
        self._base = base or Path.cwd()
        self._values: Mapping[str, Any] = {}
        self._frozen: dict[tuple[tuple[str, ...], str], Any] = {}
        self._resolutions: dict[tuple[str, ...] | None, Any] = {}

    def load(
        self,
        cfg: DictConfig,
        *,
        num: int,
        overrides: Sequence[str],
        directory: str,
        unresolved: Mapping[str, Any] | None = None,
    ) -> Job:
        """As `load_job`. `unresolved`: `cfg` as `OmegaConf.to_container` gives it, where the caller has that."""
        with refusing():
            self._values = self._resolved(
                cfg, unresolved or {str(key): _plain(cfg, str(key), resolve=False) for key in cfg}
            )
            _refuse_unknown("", self._values)
            for key in _TOP_LEVEL:
                if key not in self._values:
                    raise unknown_key(key)
            return self._load(num, overrides, directory)

    def _resolved(self, cfg: DictConfig, unresolved: Mapping[str, Any]) -> dict[str, Any]:
        """All top-level values but Hydra's as plain lists, dicts and scalars. Raises what OmegaConf raises.

        OmegaConf takes a millisecond for an interpolation, so what alike ones gave is remembered.
        """
        values: dict[str, Any] = {}
        for key, value in unresolved.items():
            if key == "hydra" or "${" not in repr(value):
                values[key] = value
                continue
            cause = _cause(value, unresolved)
            if cause is None or cause not in self._resolutions:
                self._resolutions[cause] = _plain(cfg, key, resolve=True)
            values[key] = self._resolutions[cause]
        values.pop("hydra", None)
        return values

    def _load(self, num: int, overrides: Sequence[str], directory: str) -> Job:
        try:
            return self._job(num, overrides, directory)
        except VelosweepError as first:
            raise together([first, *self._problems()]) from first

    def _job(self, num: int, overrides: Sequence[str], directory: str) -> Job:
        values = self._values
        pair, speculation, skip_vanilla = self._what()
        engine = self._engine()
        self._part("tuner", sections.tuner)  # a job of its own has no use for it, and says all the same what is wrong
        return Job(
            id="",
            num=num,
            baseline_id="",
            model_pair=pair,
            n_draft=self._n_draft(engine),
            n_predict=self._n_predict(engine),
            prompts=self._prompts(),
            speculation=speculation,
            sampling=self._sampling(),
            engine=engine,
            protocol=self._protocol(),
            skip_vanilla=skip_vanilla,
            target_speedup=at_least("target_speedup", float(values["target_speedup"]), 0.0),
            output=self._output(),
            overrides=tuple(overrides),
            directory=directory,
        )

    def _problems(self) -> list[VelosweepError]:
        """What is wrong with each part by itself: asked only where something is, so that all is said at once."""
        found: list[VelosweepError] = []
        parts: tuple[Callable[[], object], ...] = (
            self._what,
            self._missing_model,
            self._engine,
            lambda: at_least("n_draft", int(self._values["n_draft"]), 1),
            lambda: at_least("n_predict", int(self._values["n_predict"]), 2),
            self._prompts,
            self._sampling,
            self._protocol,
            lambda: self._part("tuner", sections.tuner),
            self._output,
        )
        for part in parts:
            try:
                part()
            except VelosweepError as error:
                found.append(error)
        return found

    def _what(self) -> tuple[ModelPair, Speculation, bool]:
        """What is measured: models, how they speculate, and whether without vanilla."""
        pair = self._part("model_pair", sections.model_pair)
        speculation = self._part("speculation", sections.speculation)
        skip_vanilla = bool(self._values["skip_vanilla"])
        sections.check_pair(pair, speculation, skip_vanilla=skip_vanilla)
        return pair, speculation, skip_vanilla

    def _missing_model(self) -> None:
        """Refuse a main model that isn't there, which else is found later: while other things are wrong already."""
        if self._section("engine").optional("kind") != "attached":  # such a server's models are where it runs
            sections.check_main_model(self._part("model_pair", sections.model_pair))

    def _n_draft(self, engine: EngineSettings) -> int:
        n_draft = at_least("n_draft", int(self._values["n_draft"]), 1)
        sections.check_draft_length(n_draft, engine)
        return n_draft

    def _n_predict(self, engine: EngineSettings) -> int:
        n_predict = at_least("n_predict", int(self._values["n_predict"]), 2)
        sections.check_length(n_predict, engine)
        return n_predict

    def _sampling(self) -> Sampling:
        return self._part("sampling", sections.sampling)

    def _output(self) -> str | None:
        return self._once(("output",), lambda: check_output(self._values["output"], self._base))

    def _part(self, name: str, freeze: Callable[[Section], _Value]) -> _Value:
        """The section `name`, checked and frozen."""
        return self._once((name,), lambda: freeze(self._section(name)))

    def _section(self, name: str) -> Section:
        values = self._values[name]
        _refuse_unknown(f"{name}.", values if isinstance(values, dict) else ())
        return Section(name, values)

    def _once(self, keys: tuple[str, ...], make: Callable[[], _Value]) -> _Value:
        """What `make` gives for the values of these keys; the same object for the same values."""
        cause = (keys, repr([self._values[key] for key in keys]))
        if cause not in self._frozen:
            self._frozen[cause] = make()
        found: _Value = self._frozen[cause]
        return found

    def _engine(self) -> EngineSettings:
        return self._once(("engine", "llama_cpp"), self._read_engine)

    def _read_engine(self) -> EngineSettings:
        settings = sections.engine(self._section("engine"))
        path = self._section("llama_cpp").optional_text("path")
        return replace(settings, program=str(Path(path).expanduser())) if path else settings

    def _prompts(self) -> PromptSet:
        return self._once(("prompt", "prompts"), self._read_prompts)

    def _read_prompts(self) -> PromptSet:
        section = self._section("prompts")
        return load_prompts(
            prompt=self._values["prompt"],
            name=section.text("name"),
            items=section.sequence("items"),
            file=section.optional_text("file"),
            limit=section.optional("limit"),
            seed=section.whole("seed"),
            categories=None if section.optional("categories") is None else section.texts("categories"),
            chat=section.flag("chat"),
            base=self._base,
        )

    def _protocol(self) -> Protocol:
        return self._once(("protocol", "iterations"), self._read_protocol)

    def _read_protocol(self) -> Protocol:
        protocol = sections.protocol(self._section("protocol"))
        iterations = at_least("iterations", int(self._values["iterations"]), 1)
        if protocol.launches > iterations:
            at_least("iterations", iterations, protocol.launches, why="protocol.launches shares them out")
        return replace(protocol, iterations=iterations)


def _cause(value: Any, values: Mapping[str, Any]) -> tuple[str, ...] | None:
    """All that decides what the interpolations in `value` resolve to; None where that can't be told by its text."""
    text = repr(value)
    names = _REFERENCE.findall(text)
    referred = [repr(values.get(name)) for name in names if name]
    if len(names) != text.count("${") or any("${" in other for other in referred):
        return None
    return (text, *referred)


def _plain(cfg: DictConfig, key: str, *, resolve: bool) -> Any:
    value = cfg[key]
    return OmegaConf.to_container(value, resolve=resolve) if OmegaConf.is_config(value) else value


def _refuse_unknown(prefix: str, names: Iterable[object]) -> None:
    """Refuse a key that isn't in the schema: `+key=value` lets Hydra add any."""
    for name in names:
        if f"{prefix}{name}" not in _KNOWN:
            raise unknown_key(f"{prefix}{name}")
