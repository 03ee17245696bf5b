"""Programs and model files that jobs name, found and checked once each, however many jobs name them."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from velosweep.config.model_references import is_local
from velosweep.config.settings import EngineSettings, Job, ModelPair, PromptSet, Sampling, Speculation, SyntheticShape
from velosweep.errors import ConfigError, ProgramError, VelosweepError, combine_errors
from velosweep.llama_cpp.arguments import check_speculation
from velosweep.llama_cpp.engine import Engine
from velosweep.llama_cpp.selection import ChosenEngine, choose_engine
from velosweep.models.draft_heads import DraftHead
from velosweep.models.gguf_model import GgufInfo
from velosweep.models.hub_models import resolve_model
from velosweep.models.model_checks import check_heads, check_model, check_pair, fingerprint
from velosweep.models.synthetic.pair import ensure_models
from velosweep.planning.job_settings import other_settings
from velosweep.records import ModelFile

EngineKey = tuple[str, str | None, str | None, str | None]


def engine_key(engine: EngineSettings) -> EngineKey:
    """What distinguishes one llama.cpp from another: kind, program, and the addresses of attached servers."""
    return (engine.kind, engine.program, engine.vanilla_url, engine.speculative_url)


_MAIN, _DRAFT = "model_pair.main_model", "model_pair.draft_model"

# What a request can ask of a server, and a program for one request isn't told: of sampling all but these two.
_TOLD = ("temperature", "seed")
_SERVER_ONLY = (
    "concurrency",
    "depth",
    "stop",
    *(f"sampling.{field.name}" for field in fields(Sampling) if field.name not in _TOLD),
)


def _check_settings(job: Job) -> None:
    """Raise ProgramError for what its engine has no place for."""
    if job.engine.kind == "embedded" and job.engine.args:
        raise ProgramError(
            f"engine.args ({' '.join(job.engine.args)}) are llama-server's; the embedded llama.cpp takes none",
            remedy="use engine=server with llama_cpp.path, or the typed keys of engine",
        )
    settings = other_settings(job)
    for key in _SERVER_ONLY if job.engine.kind == "binaries" else ():
        if key in settings:
            raise ProgramError(
                f"{key} is {settings[key]}, and engine=binaries runs a program for each request, which can't do that",
                remedy=f"choose engine=server or engine=embedded, or leave {key} out",
            )


def _check_trained_context(job: Job, main: GgufInfo) -> None:
    """llama.cpp ends a run where the context ends that the model was trained for, whatever engine.context says."""
    needed, trained = job.depth + job.n_predict, main.trained_context
    if trained is None or needed < trained or any("override-kv" in word for word in job.engine.args):
        return
    asked = f"n_predict is {job.n_predict}" + (f" and depth {job.depth}" if job.depth else "")
    raise ConfigError(
        f"{asked}, and the model {main.path} was trained for a context of {trained}",
        remedy="the context takes prompt and answer: lower "
        + ("n_predict or depth" if job.depth else f"n_predict (to {max(trained // 2, 1)})")
        + ", or choose a model that was trained for more",
    )


def _why_no_template(engine: str, main: GgufInfo | None) -> str | None:
    """Why prompts.chat=auto means raw text here; None where the chat template is applied."""
    if engine == "binaries":
        return "engine=binaries applies no chat template"
    if engine == "attached":
        return "whether an attached server's model has a chat template is not known; prompts.chat=true applies it"
    return None if main is not None and main.chat_template else "the main model has no chat template"


@dataclass
class JobResolver:
    """`say` gets a line where a step may take long (writing the synthetic pair, fetching a model).

    What was found so far: `engines`, model files in `models` and their `headers`, both by path; once each
    `reasons`, why each llama.cpp was chosen, and `raw_text`, why prompts.chat=auto applies no chat template.
    """

    say: Callable[[str], None]
    engines: dict[EngineKey, Engine] = field(default_factory=dict)
    models: dict[str, ModelFile] = field(default_factory=dict)
    headers: dict[str, GgufInfo] = field(default_factory=dict)
    reasons: dict[str, None] = field(default_factory=dict)
    raw_text: dict[str, None] = field(default_factory=dict)
    _chosen: dict[EngineKey, ChosenEngine] = field(default_factory=dict)
    _paths: dict[tuple[str, str], str] = field(default_factory=dict)
    _checked_pairs: set[tuple[str, str]] = field(default_factory=set)
    _synthetic: dict[tuple[SyntheticShape, tuple[str, ...]], tuple[Path, Path | None]] = field(default_factory=dict)

    def check_local_files(self, jobs: Sequence[Job]) -> None:
        """Raise ModelFileError for all model files here that can't be read, before anything is fetched or made."""
        of_files = [job for job in jobs if job.engine.kind != "attached" and job.model_pair.synthetic is None]
        named = [(job.model_pair.main_model, _MAIN) for job in of_files]
        named += [(job.model_pair.draft_model or "", _DRAFT) for job in of_files if job.speculation.takes_draft_model]
        problems: list[VelosweepError] = []
        for reference, key in dict.fromkeys(named):
            try:
                if reference and is_local(reference):
                    self._find_model(reference, key)
            except VelosweepError as error:
                problems.append(error)
        if problems:
            raise combine_errors(problems)

    def resolve(self, job: Job) -> Job:
        """The job with its engine and its models found and checked.

        Raises ProgramError, ModelFileError, PairError, ConfigError.
        """
        asked = engine_key(job.engine)
        if asked not in self._chosen:
            self._chosen[asked] = choose_engine(job.engine, os.environ)
            self.reasons.setdefault(self._chosen[asked].reason)
        chosen = self._chosen[asked]
        engine = replace(job.engine, kind=chosen.engine.name, program=chosen.program)
        self.engines.setdefault(engine_key(engine), chosen.engine)
        pair = job.model_pair if engine.kind == "attached" else self._find_models(job)
        prompts = job.prompts
        if prompts.chat is None:
            why_raw = _why_no_template(engine.kind, self.headers.get(pair.main_model))
            prompts = replace(prompts, chat=True) if why_raw is None else self._as_raw_text(prompts, why_raw)
        return replace(job, engine=engine, model_pair=pair, prompts=prompts)

    def _as_raw_text(self, prompts: PromptSet, why: str) -> PromptSet:
        """Raises ConfigError for prompts that make no sense without a chat template."""
        if prompts.system or any(one.system or one.before for one in prompts.prompts):
            raise ConfigError(
                f"The prompts {prompts.name} have system messages or turns, and there is no chat template for them",
                remedy="choose a main model with a chat template, or prompts without these",
            )
        self.raw_text.setdefault(why)
        return replace(prompts, chat=False)

    def check_engines(self, jobs: Sequence[Job]) -> None:
        """Raise ProgramError for settings of resolved jobs that their engines have no place for."""
        for job in jobs:
            _check_settings(job)
        for key, speculation in dict.fromkeys((engine_key(job.engine), job.speculation) for job in jobs):
            known = self.engines[key].capabilities_for(speculation)
            if known is not None:
                check_speculation(speculation, known)

    def _find_models(self, job: Job) -> ModelPair:
        pair = job.model_pair
        named_main, named_draft = pair.main_model, pair.draft_model or ""
        if pair.synthetic is not None:
            asked = (pair.synthetic, job.speculation.kinds)
            if asked not in self._synthetic:
                self._synthetic[asked] = ensure_models(*asked, on_progress=self.say)
            named_main, named_draft = (str(path or "") for path in self._synthetic[asked])
        main = self._find_model(named_main, _MAIN)
        _check_trained_context(job, self.headers[main])
        draft = self._find_draft(job.speculation, named_draft)
        check_heads(
            [kind.llama_cpp for kind in job.speculation.all_kinds],
            self.headers[main],
            self.headers[draft] if draft is not None else None,
        )
        if draft is not None and (main, draft) not in self._checked_pairs and "draft" in job.speculation.kinds:
            check_pair(self.headers[main], self.headers[draft])
            self._checked_pairs.add((main, draft))
        return replace(pair, main_model=main, draft_model=draft)

    def _find_draft(self, speculation: Speculation, reference: str) -> str | None:
        """The draft model that the kinds use. A kind with an optional draft gets only one made for it."""
        if speculation.needs_draft_model and not reference:
            raise ConfigError(
                f"speculation {'+'.join(speculation.kinds)} needs a draft model",
                remedy="set model_pair.draft_model, or choose speculation=ngram-simple, which needs none",
            )
        if not reference or not speculation.takes_draft_model:
            return None
        draft = self._find_model(reference, _DRAFT)
        head = self.headers[draft].head
        takers = {kind.name for kind in speculation.all_kinds if kind.takes_draft_model}
        if takers == {"draft-mtp"} and (head is None or head.kind != "draft-mtp"):
            return None  # the pair's draft model, for other kinds; the main model may have heads of its own
        return draft

    def head_of(self, job: Job) -> DraftHead | None:
        """What a resolved job's models have to draft with; None also where they are not here to be read."""
        header = self.headers.get(job.model_pair.draft_model or job.model_pair.main_model)
        return header.head if header else None

    def _find_model(self, reference: str, key: str) -> str:
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
