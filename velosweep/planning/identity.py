"""Identity is content: a job's id is a hash of what determines its result, never its position."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from velosweep.config.settings import Adaptive, EngineSettings, Job, Prompt, PromptSet, Sampling, Speculation
from velosweep.errors import ConfigError
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.values import Mode

# The protocol's name, and how long we wait and how often we try again: none of it changes what is measured.
_NOT_IDENTITY = ("name", "retries", "load_timeout_s", "run_timeout_s", "cooldown_max_s")


# Settings that came after the first release: at their defaults they are left out, so that earlier jobs keep their ids.
_LATER: Mapping[type, tuple[str, ...]] = {
    Prompt: ("system", "before", "later", "turn"),
    PromptSet: ("system", "template_kwargs"),
    Sampling: tuple(field.name for field in fields(Sampling) if field.name not in ("temperature", "seed")),
    Adaptive: ("until_sure", "budget_s"),
    EngineSettings: ("n_cpu_moe", "override_tensor", "draft_n_cpu_moe", "draft_override_tensor"),
}


def _content(value: Any) -> dict[str, object]:
    """A dataclass's fields by name; `asdict` would copy each value, which is most of what identities cost."""
    later = _LATER.get(type(value), ())
    own = ((field, getattr(value, field.name)) for field in fields(value))
    return {field.name: it for field, it in own if field.name not in later or it != field.default}


_DRAFT_DEFAULTS: dict[str, Any] = {
    field.name: field.default for field in fields(EngineSettings) if field.name.startswith("draft_")
}

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_content)


def content_hash(value: object) -> str:
    """Sixteen hex digits of SHA-256 over canonical JSON; equal values give equal hashes on every machine.

    Dataclasses count as objects of their fields. Raises TypeError for what JSON has no form for.
    """
    return hashlib.sha256(_CANONICAL.encode(value).encode()).hexdigest()[:16]


def identify(jobs: Sequence[Job], fingerprints: Mapping[str, str]) -> tuple[Job, ...]:
    """Give every job its id and baseline_id.

    `fingerprints` maps a path (model file or program) to the hash of its content; for any other
    path its name counts. A program that another path had before counts by its path too: whether two builds are equally
    fast can be asked of one and the same. Raises ConfigError where two jobs of the grid would measure the same thing.
    """
    first: dict[str, str] = {}
    programs = dict.fromkeys(job.engine.program for job in jobs if job.engine.program in fingerprints)
    again = {
        path: f"{fingerprints[path]} {path}"
        for path in programs
        if path is not None and first.setdefault(fingerprints[path], path) != path
    }
    identified = tuple(_identify(job, {**fingerprints, **again}) for job in jobs)
    seen: dict[str, Job] = {}
    for job in identified:
        twin = seen.setdefault(job.id, job)
        if twin is not job:
            raise ConfigError(
                f"jobs {twin.num} and {job.num} measure the same thing ({' '.join(job.overrides) or 'same settings'})",
                remedy="take the repeated value out of the grid; for more runs raise iterations",
            )
    return identified


def build_family(job: Job) -> str:
    """What jobs share whose vanilla series differ in the build of llama.cpp alone."""
    engine = replace(job.engine, kind="", program=None)
    return content_hash(_baseline(replace(job, engine=engine), {}))


def vanilla_family(job: Job) -> str:
    """What jobs share that have a vanilla series in common: their `baseline_id`, from files' names alone."""
    return content_hash(_baseline(job, {}))


def round_family(job: Job) -> str:
    """What jobs share that are asked the same, whatever answers: their rounds have the same prompts and order."""
    pair = replace(job.model_pair, main_model="")
    return content_hash(_baseline(replace(job, engine=EngineSettings(), model_pair=pair), {}))


def _baseline(job: Job, fingerprints: Mapping[str, str]) -> dict[str, object]:
    return {
        "main_model": fingerprints.get(job.model_pair.main_model, job.model_pair.main_model),
        "engine": _engine_content(job.engine, fingerprints, vanilla=True),
        "prompts": job.prompts,
        "n_predict": job.n_predict,
        "sampling": job.sampling,
        "protocol": {k: v for k, v in _content(job.protocol).items() if k not in _NOT_IDENTITY},
        "skip_vanilla": job.skip_vanilla,
        **_unusual(job, "concurrency", "depth", "stop"),
    }


def _identify(job: Job, fingerprints: Mapping[str, str]) -> Job:
    baseline = _baseline(job, fingerprints)
    draft = job.model_pair.draft_model
    own = {
        "baseline": baseline,
        "engine": _engine_content(job.engine, fingerprints, vanilla=False),
        "draft_model": fingerprints.get(draft, draft) if draft else None,
        "n_draft": job.n_draft,
        "speculation": job.speculation,
    }
    return replace(job, id=content_hash(own), baseline_id=content_hash(baseline))


def _unusual(job: Job, *names: str) -> dict[str, object]:
    """Those of a job's own settings, of after the first release, that are not at their defaults."""
    return {
        field.name: getattr(job, field.name)
        for field in fields(job)
        if field.name in names and getattr(job, field.name) != field.default
    }


def _engine_content(engine: EngineSettings, fingerprints: Mapping[str, str], *, vanilla: bool) -> dict[str, object]:
    content = _content(engine)
    content["program"] = fingerprints.get(engine.program, engine.program) if engine.program else None
    if vanilla:  # what only the draft model sees must not split the baseline
        for key in (*_DRAFT_DEFAULTS, "speculative_url"):
            content.pop(key, None)
    return content


def vanilla_server(job: Job) -> ServerConfig:
    """The server that runs the main model alone, the same for all jobs with this baseline."""
    return _server(job, None, replace(job.engine, **_DRAFT_DEFAULTS, speculative_url=None))


def speculative_server(job: Job) -> ServerConfig | None:
    """The job's own server; None where the job does not speculate (`speculation=none`)."""
    if not job.speculation.kinds:
        return None
    return _server(job, job.speculation, job.engine)


def _server(job: Job, speculation: Speculation | None, engine: EngineSettings) -> ServerConfig:
    """Its id covers what a server is started with and nothing else, so that jobs can share the server."""
    main_model, draft_model, n_draft, mode = job.model_pair.main_model, None, 0, Mode.VANILLA
    load = _unusual(job, "concurrency", "depth")
    if speculation is not None:
        draft_model = job.model_pair.draft_model if speculation.takes_draft_model else None
        n_draft, mode = job.n_draft, Mode.SPECULATIVE
    return ServerConfig(
        id=content_hash([mode.value, main_model, draft_model, n_draft, speculation, engine, *load.items()]),
        mode=mode,
        main_model=main_model,
        draft_model=draft_model,
        n_draft=n_draft,
        speculation=speculation,
        engine=engine,
        concurrency=job.concurrency,
        depth=job.depth,
    )
