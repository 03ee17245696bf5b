"""From jobs as configured to jobs that can run: programs found, models checked, lanes and threads fixed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from velosweep.config.settings import EngineSettings, Job, ModelPair, RunSettings, SyntheticShape
from velosweep.errors import ConfigError, VelosweepError, together
from velosweep.llama_cpp.arguments import command_arguments
from velosweep.llama_cpp.engine import Engine, ServerConfig
from velosweep.llama_cpp.selection import Selection, open_engine, resolve_engine
from velosweep.machine.cores import check_threads, crowded, resolve_threads
from velosweep.machine.environment import collect_environment
from velosweep.machine.lanes import find_lanes
from velosweep.machine.nvml import NvmlLike, open_nvml
from velosweep.machine.program_hash import file_sha256
from velosweep.models.gguf_model import GgufInfo, check_model, check_pair, fingerprint
from velosweep.models.locate import resolve_model
from velosweep.models.synthetic.pair import ensure_pair
from velosweep.planning.identity import identify, speculative_server
from velosweep.records import Environment, ModelFile
from velosweep.values import Lane

EngineKey = tuple[str, str | None, str | None, str | None]


def engine_key(engine: EngineSettings) -> EngineKey:
    """What tells one llama.cpp from another: kind, program, and the addresses of attached servers."""
    return (engine.kind, engine.program, engine.vanilla_url, engine.speculative_url)


@dataclass(frozen=True, kw_only=True, slots=True)
class PreflightWarning:
    """What can run and hardly can be meant. `subject`: what it is about, in a word; `remedy`: what to do."""

    subject: str
    text: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Jobs with absolute paths, resolved engines and ids; and what they run on."""

    jobs: tuple[Job, ...]
    lanes: tuple[Lane, ...]
    environment: Environment
    engines: dict[EngineKey, Engine]
    reasons: tuple[str, ...]
    nvml: NvmlLike | None = None
    headers: Mapping[str, GgufInfo] = field(default_factory=dict)
    crowding: tuple[PreflightWarning, ...] = ()

    def engine_of(self, server: ServerConfig) -> Engine:
        """The engine that runs this arm."""
        key = engine_key(server.engine)
        if key not in self.engines:  # an attached vanilla arm knows its own address alone
            self.engines[key] = open_engine(server.engine)
        return self.engines[key]

    def server_arguments(self, job: Job) -> tuple[str, ...]:
        """llama-server's arguments that run this job's setting; empty where it is vanilla or can't be said."""
        server = speculative_server(job)
        if server is None or server.engine.kind == "attached":
            return ()
        capabilities = getattr(self.engine_of(server), "capabilities", None)
        known = capabilities if server.engine.kind == "server" else None
        return command_arguments(server, lane=self.lanes[0], capabilities=known)

    def doubts(self) -> tuple[PreflightWarning, ...]:
        """What to warn of: a draft no smaller than its main model or longer than a run, more threads than cores."""
        drafting = [job.model_pair for job in self.jobs if "draft" in job.speculation.kinds]
        pairs = dict.fromkeys((pair.main_model, pair.draft_model) for pair in drafting)
        exchanged = (
            PreflightWarning(
                subject="pair",
                text=f"The draft model {Path(draft).name} is no smaller than the main model {Path(main).name}: "
                "it can't speed it up. Were the two exchanged?",
                remedy="choose a draft model a fifth as large or less",
            )
            for main, draft in pairs
            if draft and self.model_bytes(draft) >= self.model_bytes(main) > 0
        )
        return (*exchanged, *self._long_drafts(), *self.crowding)

    def _long_drafts(self) -> tuple[PreflightWarning, ...]:
        """Drafts longer than a run: llama.cpp drafts at most what the run still may generate, less one."""
        lengths = dict.fromkeys((job.n_draft, job.n_predict) for job in self.jobs if job.n_draft >= job.n_predict)
        return tuple(
            PreflightWarning(
                subject="n_draft",
                text=f"n_draft {n_draft} is longer than a run of n_predict {n_predict}: a server drafts no more than "
                f"the run has left, so it measures what n_draft {max(n_predict - 2, 1)} would",
                remedy=f"raise n_predict above {n_draft}, or take shorter drafts",
            )
            for n_draft, n_predict in lengths
        )

    def model_bytes(self, path: str) -> int:
        """Size of a model file, 0 where it is not ours to see (an attached server's)."""
        return self._sizes.get(path, 0)

    def kv_elements(self, path: str) -> int | None:
        """Numbers that a model's KV cache keeps for a token, None where its header doesn't tell."""
        header = self.headers.get(path)
        return header.kv_elements_per_token if header else None

    @cached_property
    def _sizes(self) -> dict[str, int]:
        return {model.path: model.size_bytes for model in self.environment.models}


def prepare(jobs: Sequence[Job], settings: RunSettings, *, say: Callable[[str], None] = lambda text: None) -> Prepared:
    """Refuse what can't run, before anything runs.

    Raises ProgramError, ModelFileError, PairError, ConfigError. `say` gets a line where a step may take long
    (writing the synthetic pair, fetching a model).
    """
    if not jobs:
        raise ConfigError("the grid is empty: no job to run", remedy="give every swept key at least one value")
    if not settings.elsewhere:
        _check_threads(jobs)
    _check_files(jobs)
    resolver = _Resolver(say=say)
    resolved = [resolver.job(job) for job in jobs]
    _check_embedded(resolved)
    engines = {key: open_engine(settings_) for key, settings_ in resolver.engines.items()}
    nvml = open_nvml()
    lanes = _lanes(engines, settings, nvml, resolver.reasons.append)
    threaded = [replace(job, engine=_with_threads(job.engine, len(lanes))) for job in resolved]
    programs = {program: file_sha256(Path(program)) for _, program, *_ in engines if program}
    content = {path: model.fingerprint for path, model in resolver.models.items()}
    content |= {program: digest for program, digest in programs.items() if digest}
    identified = identify(threaded, content)
    environment = collect_environment(
        engine=" + ".join(dict.fromkeys(engine.name for engine in engines.values())),
        program=Path(next(iter(programs))) if len(programs) == 1 else None,
        llama_cpp_build=" + ".join(dict.fromkeys(engine.build for engine in engines.values())),
        engine_reason="; ".join(resolver.reasons) or None,
        devices=tuple(dict.fromkeys(device for lane in lanes for device in lane.devices)),
        models=tuple(resolver.models.values()),
    )
    return Prepared(
        jobs=identified,
        lanes=lanes,
        environment=environment,
        engines=engines,
        reasons=tuple(resolver.reasons),
        nvml=nvml,
        headers=resolver.headers,
        crowding=() if settings.elsewhere else _crowding(identified, lanes),
    )


def _check_files(jobs: Sequence[Job]) -> None:
    """Raise ModelFileError for every model file that isn't there, at once and before anything is fetched or made."""
    pairs = dict.fromkeys(
        (job.model_pair, job.speculation.needs_draft_model and bool(job.speculation.kinds))
        for job in jobs
        if job.engine.kind != "attached" and job.model_pair.synthetic is None
    )
    named = dict.fromkeys(
        (reference, key)
        for pair, drafting in pairs
        for reference, key in (
            (pair.main_model, "model_pair.main_model"),
            (pair.draft_model if drafting else None, "model_pair.draft_model"),
        )
        if reference and "://" not in reference
    )
    problems: list[VelosweepError] = []
    for reference, key in named:
        try:
            path = Path(resolve_model(reference, key=key))
            if not os.path.exists(path):  # noqa: PTH110 (no error for a name that is too long)
                check_model(path, key=key)
        except VelosweepError as error:
            problems.append(error)
    if problems:
        raise together(problems)


def _check_embedded(jobs: Sequence[Job]) -> None:
    """Raise ProgramError for settings that the embedded llama.cpp has no place for."""
    told = dict.fromkeys(job.engine for job in jobs if job.engine.kind == "embedded")
    if told:
        from velosweep.llama_cpp.embedded import check_engine

        for engine in told:
            check_engine(engine)


def _check_threads(jobs: Sequence[Job]) -> None:
    """Raise ConfigError for threads beyond any sense; an attached server's are its own."""
    for engine in dict.fromkeys(job.engine for job in jobs if job.engine.kind != "attached"):
        check_threads(engine.threads)
        check_threads(engine.threads_batch, key="engine.threads_batch")


def _crowding(jobs: Sequence[Job], lanes: Sequence[Lane]) -> tuple[PreflightWarning, ...]:
    """Threads that outnumber the cores; lanes on GPUs hardly use theirs at the same time."""
    sharing = len(lanes) if all(device.kind == "cpu" for lane in lanes for device in lane.devices) else 1
    counts = dict.fromkeys(job.engine.threads for job in jobs if job.engine.kind != "attached")
    texts = [crowded(threads, lanes=sharing) for threads in counts if threads]
    remedy = "leave engine.threads out: then the physical cores but one are used"
    return tuple(PreflightWarning(subject="threads", text=text, remedy=remedy) for text in texts if text)


def open_lanes(engine: EngineSettings, settings: RunSettings) -> tuple[tuple[Lane, ...], tuple[str, ...]]:
    """The lanes that one engine would run on, and what is to be said about them; looks at no model.

    Raises ProgramError and ConfigError.
    """
    selection = resolve_engine(engine.kind, engine.program, os.environ)
    resolved = replace(engine, kind=selection.kind, program=selection.program)
    notes: list[str] = []
    lanes = _lanes({engine_key(resolved): open_engine(resolved)}, settings, open_nvml(), notes.append)
    return lanes, tuple(notes)


def _lanes(
    engines: dict[EngineKey, Engine],
    settings: RunSettings,
    nvml: NvmlLike | None,
    note: Callable[[str], None],
) -> tuple[Lane, ...]:
    found = {device: None for engine in engines.values() for device in getattr(engine, "devices", tuple)()}
    return find_lanes(
        gpus=settings.gpus,
        gpus_per_lane=settings.gpus_per_lane,
        cpu_lanes=settings.cpu_lanes,
        program_devices=tuple(found),
        nvml=nvml,
        note=note,
    )


def _with_threads(engine: EngineSettings, lanes: int) -> EngineSettings:
    threads = resolve_threads(lanes, engine.threads)
    return replace(engine, threads=threads, threads_batch=engine.threads_batch or threads)


@dataclass
class _Resolver:
    """Looks every program and model up once, however many jobs name it."""

    say: Callable[[str], None]
    engines: dict[EngineKey, EngineSettings] = field(default_factory=dict)
    models: dict[str, ModelFile] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    _selections: dict[tuple[str, str | None], Selection] = field(default_factory=dict)
    headers: dict[str, GgufInfo] = field(default_factory=dict)
    _paths: dict[tuple[str, str], str] = field(default_factory=dict)
    _pairs: set[tuple[str, str]] = field(default_factory=set)
    _synthetic: dict[SyntheticShape, tuple[str, str]] = field(default_factory=dict)

    def job(self, job: Job) -> Job:
        """The job with its engine and its models found and checked."""
        engine = self._engine(job.engine)
        if engine.kind == "attached":
            return replace(job, engine=engine)
        return replace(job, engine=engine, model_pair=self._pair(job))

    def _engine(self, engine: EngineSettings) -> EngineSettings:
        asked = (engine.kind, engine.program)
        if asked not in self._selections:
            self._selections[asked] = resolve_engine(engine.kind, engine.program, os.environ)
            self.reasons.append(self._selections[asked].reason)
        selection = self._selections[asked]
        resolved = replace(engine, kind=selection.kind, program=selection.program)
        self.engines.setdefault(engine_key(resolved), resolved)
        return resolved

    def _pair(self, job: Job) -> ModelPair:
        pair = job.model_pair
        if pair.synthetic is not None:
            written, draft = self._synthetic_pair(pair.synthetic)
        else:
            written, draft = pair.main_model, pair.draft_model
        main = self._model(written, "model_pair.main_model")
        if not job.speculation.kinds or not job.speculation.needs_draft_model:
            return replace(pair, main_model=main, draft_model=None)
        if not draft:
            raise ConfigError(
                f"speculation {'+'.join(job.speculation.kinds)} needs a draft model",
                remedy="set model_pair.draft_model, or choose speculation=ngram-simple, which needs none",
            )
        draft = self._model(draft, "model_pair.draft_model")
        if (main, draft) not in self._pairs and "draft" in job.speculation.kinds:
            check_pair(self.headers[main], self.headers[draft])
            self._pairs.add((main, draft))
        return replace(pair, main_model=main, draft_model=draft)

    def _synthetic_pair(self, shape: SyntheticShape) -> tuple[str, str | None]:
        if shape not in self._synthetic:
            main, draft = ensure_pair(shape, on_progress=self.say)
            self._synthetic[shape] = (str(main), str(draft))
        return self._synthetic[shape]

    def _model(self, reference: str, key: str) -> str:
        if (reference, key) not in self._paths:
            path = resolve_model(reference, key=key)
            if path not in self.headers:
                header = self.headers[path] = check_model(Path(path), key=key)
                self.models[path] = ModelFile(
                    path=path,
                    size_bytes=header.size_bytes,
                    fingerprint=fingerprint(Path(path)),
                    description=header.description,
                )
            self._paths[reference, key] = path
        return self._paths[reference, key]
