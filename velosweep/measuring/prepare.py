"""From jobs as configured to jobs that can run: programs found, models checked, lanes and threads fixed."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from velosweep.config.settings import EngineSettings, Job, ModelPair, RunSettings
from velosweep.errors import ConfigError
from velosweep.llama_cpp.attached import AttachedEngine
from velosweep.llama_cpp.engine import Engine, ServerConfig
from velosweep.llama_cpp.selection import choose_engine
from velosweep.llama_cpp.server_command import command_arguments
from velosweep.machine.cores import check_threads, resolve_threads
from velosweep.machine.devices import find_lanes
from velosweep.machine.environment import collect_environment, program_sha256
from velosweep.machine.nvml import NvmlDriver, open_nvml
from velosweep.measuring.draft_lengths import (
    changed_lengths,
    effective_n_draft,
    merge_duplicate_jobs,
    too_short_to_copy,
)
from velosweep.measuring.job_resolver import EngineKey, JobResolver, engine_key
from velosweep.measuring.memory_estimates import MemoryEstimates
from velosweep.measuring.preflight_warnings import preflight_warnings
from velosweep.models.gguf_model import GgufInfo
from velosweep.planning.identity import identify
from velosweep.records import Environment
from velosweep.values import Device, Lane


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Jobs with absolute paths, resolved engines and ids; and what they run on.

    `reasons`: why each llama.cpp was chosen, and what is to be said about the lanes. `raw_text`: why prompts.chat=auto
    applies no chat template. `headers`: of the model files.
    """

    jobs: tuple[Job, ...]
    lanes: tuple[Lane, ...]
    environment: Environment
    engines: dict[EngineKey, Engine]
    reasons: tuple[str, ...]
    raw_text: tuple[str, ...] = ()
    nvml: NvmlDriver | None = None
    headers: Mapping[str, GgufInfo] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()  # of what is probably a mistake, with what to do

    def engine_of(self, server: ServerConfig) -> Engine:
        key = engine_key(server.engine)
        if key not in self.engines:  # an attached vanilla server knows its own address alone
            self.engines[key] = choose_engine(server.engine, os.environ).engine
        return self.engines[key]

    def server_arguments(self, server: ServerConfig | None) -> tuple[str, ...]:
        """llama-server's arguments that run this setting; empty where there are none."""
        if server is None or server.engine.kind == "attached":
            return ()
        engine = self.engine_of(server)
        known = engine.capabilities_for(server.speculation)
        if known is None:
            return ()
        return command_arguments(server, lane=self.lanes[0], capabilities=known, seen=engine.devices())

    def memory_estimates(self, lane: Lane) -> MemoryEstimates:
        """What servers will need on a lane, by the headers of the models."""
        return MemoryEstimates(lane=lane, headers=self.headers, nvml=self.nvml)

    def model_bytes(self, path: str) -> int:
        """Size of a model file, 0 where it is not ours to see (an attached server's)."""
        return self.headers[path].size_bytes if path in self.headers else 0


def prepare(jobs: Sequence[Job], settings: RunSettings, *, say: Callable[[str], None] = lambda text: None) -> Prepared:
    """Refuse what can't run, before anything runs.

    Raises ProgramError, ModelFileError, PairError, ConfigError. `say` gets a line where a step may take long
    (writing the synthetic pair, fetching a model).
    """
    if not jobs:
        raise ConfigError("the grid is empty: no job to run", remedy="give every swept key at least one value")
    own_engines = dict.fromkeys(job.engine for job in jobs if job.engine.kind != "attached")
    for engine in own_engines if not settings.measures_remotely else ():
        check_threads(engine.threads)
        check_threads(engine.threads_batch, key="engine.threads_batch")
    resolver = JobResolver(say=say)
    resolver.check_local_files(jobs)
    resolved = [resolver.resolve(job) for job in jobs]
    resolver.check_engines(resolved)
    engines, nvml = resolver.engines, open_nvml()
    if not settings.dry_run and not settings.measures_remotely:
        _check_attached(engines, resolved)
    resolved = [_named_by_server(job, engines[engine_key(job.engine)]) for job in resolved]
    lanes = _lanes(engines.values(), settings, nvml, resolver.reasons.setdefault)
    threaded = [replace(job, engine=_with_threads(job.engine, len(lanes))) for job in resolved]
    lengths = [effective_n_draft(job, resolver.head_of(job)) for job in threaded]
    distinct = merge_duplicate_jobs(threaded, lengths)
    programs = {program: program_sha256(Path(program)) for _, program, *_ in engines if program}
    content = {path: model.fingerprint for path, model in resolver.models.items()}
    identified = identify(distinct, content | {program: digest for program, digest in programs.items() if digest})
    environment = collect_environment(
        engine=" + ".join(dict.fromkeys(engine.name for engine in engines.values())),
        programs=tuple(programs.items()),
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
        raw_text=tuple(resolver.raw_text),
        nvml=nvml,
        headers=resolver.headers,
        warnings=(
            *changed_lengths(threaded, lengths),
            *too_short_to_copy(identified),
            *preflight_warnings(identified, resolver.headers, () if settings.measures_remotely else lanes),
        ),
    )


def _check_attached(engines: Mapping[EngineKey, Engine], jobs: Sequence[Job]) -> None:
    """Raise ProgramError for servers that don't answer or have too few slots for their jobs."""
    for key, engine in engines.items():
        if isinstance(engine, AttachedEngine):
            engine.check_reachable(streams=max(job.concurrency for job in jobs if engine_key(job.engine) == key))


def _named_by_server(job: Job, engine: Engine) -> Job:
    """The default pair says nothing of an attached server: its model is what the server says."""
    if not isinstance(engine, AttachedEngine) or job.model_pair.synthetic is None:
        return job
    model = engine.served_model() or "the server's model"
    return replace(job, model_pair=ModelPair(name=Path(model).stem, main_model=model))


def open_lanes(engine: EngineSettings, settings: RunSettings) -> tuple[tuple[Lane, ...], tuple[str, ...]]:
    """The lanes that one engine would run on, and what is to be said about them; looks at no model.

    Raises ProgramError and ConfigError.
    """
    notes: list[str] = []
    lanes = _lanes([choose_engine(engine, os.environ).engine], settings, open_nvml(), notes.append)
    return lanes, tuple(notes)


def _lanes(
    engines: Collection[Engine], settings: RunSettings, nvml: NvmlDriver | None, note: Callable[[str], None]
) -> tuple[Lane, ...]:
    devices = dict.fromkeys(device for engine in engines for device in engine.devices())
    attached = all(isinstance(engine, AttachedEngine) for engine in engines)
    lanes = find_lanes(
        gpus=settings.gpus,
        gpus_per_lane=settings.gpus_per_lane,
        cpu_lanes=settings.cpu_lanes,
        program_devices=tuple(devices),
        nvml=None if attached else nvml,
        note=note,
    )
    if attached:  # what it runs on, and where, is not ours to see
        lanes = tuple(replace(lane, devices=(Device(kind="cpu", name="attached server"),)) for lane in lanes)
    return lanes


def _with_threads(engine: EngineSettings, lanes: int) -> EngineSettings:
    threads = resolve_threads(lanes, engine.threads)
    return replace(engine, threads=threads, threads_batch=engine.threads_batch or threads)
