"""Hydra's DictConfig ends here: checked, frozen values of `velosweep.model` go on.

A sweep of 10,000 jobs loads 10,000 configurations that differ in a few keys, so `JobLoader` keeps the sections
it has frozen and freezes again only those that an override touches.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from velosweep.config import sections
from velosweep.config.checks import Section, at_least, check_output, one_of
from velosweep.config.refusals import KEYS, refusing, unknown_key
from velosweep.model import Job, PromptSet, Protocol, RunSettings

_Value = TypeVar("_Value")
_KNOWN = frozenset(KEYS)


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


class JobLoader:
    """Loads jobs one after another and shares the parts that are alike."""

    def __init__(self, *, base: Path | None = None) -> None:
        self._base = base or Path.cwd()
        self._frozen: dict[tuple[str, str], Any] = {}
        self._by_token: dict[tuple[str, Hashable], Any] = {}
        self._token: Callable[[str], Hashable] | None = None

    def load(
        self,
        cfg: DictConfig,
        *,
        num: int,
        overrides: Sequence[str],
        directory: str,
        token: Callable[[str], Hashable] | None = None,
    ) -> Job:
        """As `load_job`. `token(section)` promises the same values where it gives the same answer."""
        self._token = token
        with refusing():
            return self._load(cfg, num, overrides, directory)

    def _load(self, cfg: DictConfig, num: int, overrides: Sequence[str], directory: str) -> Job:
        _refuse_unknown("", (str(key) for key in cfg if key != "hydra"))
        pair = self._part(cfg, "model_pair", sections.model_pair)
        speculation = self._part(cfg, "speculation", sections.speculation)
        skip_vanilla = bool(cfg.skip_vanilla)
        sections.check_pair(pair, speculation, skip_vanilla=skip_vanilla)
        path = cfg.llama_cpp.path
        engine = self._part(cfg, "engine", sections.engine)
        return Job(
            id="",
            num=num,
            baseline_id="",
            model_pair=pair,
            n_draft=at_least("n_draft", int(cfg.n_draft), 1),
            n_predict=at_least("n_predict", int(cfg.n_predict), 2),
            prompts=self._prompts(cfg),
            speculation=speculation,
            sampling=self._part(cfg, "sampling", sections.sampling),
            engine=replace(engine, program=str(Path(path).expanduser())) if path else engine,
            protocol=self._protocol(cfg),
            skip_vanilla=skip_vanilla,
            target_speedup=at_least("target_speedup", float(cfg.target_speedup), 0.0),
            output=check_output(cfg.output, self._base),
            overrides=tuple(overrides),
            directory=directory,
        )

    def _part(self, cfg: DictConfig, name: str, freeze: Callable[[Section], _Value]) -> _Value:
        """The section `name`, frozen; the same object for the same values."""
        token = (name, self._token(name)) if self._token else None
        if token in self._by_token:
            known: _Value = self._by_token[token]
            return known
        values = OmegaConf.to_container(cfg[name], resolve=True)
        _refuse_unknown(f"{name}.", values if isinstance(values, dict) else ())
        frozen = self._once(name, repr(values), lambda: freeze(Section(name, values)))
        if token and not _interpolates(cfg[name]):
            self._by_token[token] = frozen
        return frozen

    def _once(self, name: str, values: str, make: Callable[[], _Value]) -> _Value:
        key = (name, values)
        if key not in self._frozen:
            self._frozen[key] = make()
        found: _Value = self._frozen[key]
        return found

    def _prompts(self, cfg: DictConfig) -> PromptSet:
        prompt = cfg.prompt
        if prompt is None:
            return self._part(cfg, "prompts", lambda section: self._read_prompts(None, section))
        values = OmegaConf.to_container(cfg.prompts, resolve=True)
        return self._once(
            "prompts", repr((prompt, values)), lambda: self._read_prompts(prompt, Section("prompts", values))
        )

    def _read_prompts(self, prompt: str | None, section: Section) -> PromptSet:
        return load_prompts(
            prompt=prompt,
            name=section.text("name"),
            items=section.sequence("items"),
            file=section.optional_text("file"),
            limit=section.optional("limit"),
            seed=section.whole("seed"),
            categories=None if section.optional("categories") is None else section.texts("categories"),
            chat=section.flag("chat"),
            base=self._base,
        )

    def _protocol(self, cfg: DictConfig) -> Protocol:
        protocol = self._part(cfg, "protocol", sections.protocol)
        iterations = at_least("iterations", int(cfg.iterations), 1)
        if protocol.launches > iterations:
            at_least("iterations", iterations, protocol.launches, why="protocol.launches shares them out")
        if iterations == protocol.iterations:
            return protocol
        return self._once("protocol", f"{iterations} {protocol}", lambda: replace(protocol, iterations=iterations))


def _refuse_unknown(prefix: str, names: Iterable[object]) -> None:
    """Refuse a key that isn't in the schema: `+key=value` lets Hydra add any."""
    for name in names:
        if f"{prefix}{name}" not in _KNOWN:
            raise unknown_key(f"{prefix}{name}")


def _interpolates(section: DictConfig) -> bool:
    """Whether the section's values may depend on other sections (`${...}`, but for environment variables)."""
    return "${" in repr(OmegaConf.to_container(section, resolve=False)).replace("${oc.env:", "")


def load_prompts(*, prompt: str | None, name: str, items: list[Any], **_: Any) -> PromptSet:
    """Stands in until velosweep.config.prompts lands."""
    from velosweep.model import Prompt

    if prompt is not None:
        return PromptSet(name="prompt", prompts=(Prompt(id="prompt", text=prompt),))
    return PromptSet(
        name=name,
        prompts=tuple(Prompt(id=item["id"], text=item["text"], category=item.get("category")) for item in items),
    )
