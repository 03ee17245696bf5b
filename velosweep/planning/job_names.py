"""What the jobs of a sweep differ in, and what each is called for short: one rule for screens, files and matching.

A job's settings are scalars by their dotted keys: those of `CORE`, which every job has, and all others that differ from
their defaults. Whatever key is swept is found here by its values, so that no place has a list of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import lru_cache
from itertools import takewhile
from pathlib import PurePath, PureWindowsPath
from typing import TYPE_CHECKING, Any, Protocol

from velosweep.config.schema import KEY_TYPES
from velosweep.config.settings import EngineSettings, Job, PromptSet, Sampling, Speculation, SyntheticShape
from velosweep.config.settings import Protocol as RunProtocol
from velosweep.config.speculation_kinds import KINDS
from velosweep.values import Scalar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Settings = Mapping[str, Scalar]

PAIR, MAIN, DRAFT = "model_pair.name", "model_pair.main_model", "model_pair.draft_model"
KIND, N_DRAFT, N_PREDICT, PROMPTS = "speculation.kinds", "n_draft", "n_predict", "prompts.name"
CORE = (PAIR, MAIN, DRAFT, KIND, N_DRAFT, N_PREDICT, PROMPTS)

_SECTIONS: Mapping[str, type] = {
    "speculation": Speculation,
    "engine": EngineSettings,
    "sampling": Sampling,
    "prompts": PromptSet,
    "protocol": RunProtocol,
    "model_pair.synthetic": SyntheticShape,
}
# Fields of a job that are no settings of what is measured, or that stand in `CORE`.
_NO_SETTINGS = frozenset({
    "id", "num", "baseline_id", "directory", "overrides", "output", "target_speedup", "model_pair", "n_draft",
    "n_predict", "prompts.name", "prompts.prompts", "speculation.kinds",
})  # fmt: skip
_KEY_OF = {"engine.program": "llama_cpp.path", "protocol.iterations": "iterations"}
# A choice such as speculation=ngram-mod sets many keys: those it determines say nothing more than its name.
_CHOICES = {"speculation": KIND, "protocol": "protocol.name", "prompts": PROMPTS, "engine": "engine.kind"}
_ALSO_CHOSEN = {"prompt": PROMPTS, "iterations": "protocol.name", "engine": "engine.kind"}
_TITLES = {
    PAIR: "pair",
    MAIN: "main model",
    DRAFT: "draft",
    KIND: "kind",
    PROMPTS: "prompts",
    "protocol.name": "protocol",
}
_PATHS = frozenset({MAIN, DRAFT, "llama_cpp.path"})


class Row(Protocol):
    """A job as it was recorded, or as its samples say it: `JobRecord` and `Comparison` are such."""

    @property
    def model_pair(self) -> str: ...
    @property
    def main_model(self) -> str: ...
    @property
    def draft_model(self) -> str | None: ...
    @property
    def speculation(self) -> str: ...
    @property
    def n_draft(self) -> int: ...
    @property
    def n_predict(self) -> int: ...
    @property
    def prompt_set(self) -> str: ...
    @property
    def settings(self) -> Settings: ...


def settings_of(row: Row) -> dict[str, Scalar]:
    """All settings of a job by their dotted keys."""
    core = (row.model_pair, row.main_model, row.draft_model, row.speculation, row.n_draft, row.n_predict)
    return _settings(*core, row.prompt_set, row.settings)


def _settings(
    pair: str, main: str, draft: str | None, kinds: str, n_draft: int, n_predict: int, prompts: str, others: Settings
) -> dict[str, Scalar]:
    names = kinds.partition(" (")[0].split("+")
    drafts = kinds != "none" and any(name not in KINDS or KINDS[name].needs_draft_model for name in names)
    core = (pair, main, draft if drafts else None, kinds, n_draft, n_predict, prompts)
    return {**dict(zip(CORE, core, strict=True)), **others}


def names_of_jobs(jobs: Iterable[Job]) -> JobNames:
    """What tells the jobs of a plan apart."""
    settings = {
        job.id: _settings(
            job.model_pair.name,
            job.model_pair.main_model,
            job.model_pair.draft_model,
            job.speculation.label,
            job.n_draft if job.speculation.kinds else 0,
            job.n_predict,
            job.prompts.name,
            other_settings(job),
        )
        for job in jobs
    }
    return job_names(settings, {job.id: job.num for job in jobs})


def other_settings(job: Job) -> dict[str, Scalar]:
    """A job's settings beside `CORE` that differ from their defaults, as sweep.json keeps them."""
    found = dict(_not_default(job, ""))
    if job.model_pair.synthetic is not None:
        found |= _not_default(job.model_pair.synthetic, "model_pair.synthetic.")
    if len(job.prompts.prompts) == 1:
        found["prompt"] = job.prompts.prompts[0].text
    return found


def overridden_settings(overrides: Iterable[str]) -> dict[str, Scalar]:
    """The settings that a job's overrides name, beside `CORE`: of sweeps that kept nothing else."""
    found: dict[str, Scalar] = {}
    for key, _, text in (override.lstrip("+").partition("=") for override in overrides):
        if KEY_TYPES.get(key) not in (None, "", "section") and key not in CORE:
            try:
                value = json.loads(text)
            except ValueError:
                value = text
            found[key] = text if isinstance(value, (dict, list)) else value
    return found


@lru_cache(maxsize=4096)
def _section(value: Any, prefix: str) -> tuple[tuple[str, Scalar], ...]:
    return tuple(_not_default(value, prefix))


def _not_default(value: DataclassInstance, prefix: str) -> Iterable[tuple[str, Scalar]]:
    for field in fields(value):
        name, own = f"{prefix}{field.name}", getattr(value, field.name)
        if name in _NO_SETTINGS or own == field.default:
            continue
        if is_dataclass(own):
            section: Any = own  # hashable, as all of a job is
            yield from _section(section, f"{name}.")
        elif isinstance(own, tuple) and own and isinstance(own[0], tuple):  # names and values
            yield from ((f"{name}.{inner}", scalar) for inner, scalar in own)
        else:
            yield _KEY_OF.get(name, name), _scalar(own)


def _scalar(value: Any) -> Scalar:
    return ",".join(map(str, value)) if isinstance(value, tuple) else value


@lru_cache
def default_of(key: str) -> Scalar:
    """What a setting is where it is not said; None for one without a default."""
    section, _, name = {ours: theirs for theirs, ours in _KEY_OF.items()}.get(key, key).rpartition(".")
    declared = {field.name: field.default for field in fields(_SECTIONS.get(section, Job))}
    value = declared.get(name, MISSING)
    return None if value is MISSING else _scalar(value)


def value_of(settings: Settings, key: str) -> Scalar:
    """A job's value of a key, the default where it doesn't say one."""
    return settings[key] if key in settings else default_of(key)


def column_name(key: str) -> str:
    """The column of a setting in our Parquet files."""
    return key.replace(".", "_")


def varying_keys(jobs: Collection[Settings]) -> list[str]:
    """The keys in which jobs differ, those of `CORE` first."""
    every = dict.fromkeys([*CORE, *(key for settings in jobs for key in settings)])
    return [key for key in every if len({value_of(settings, key) for settings in jobs}) > 1]


@dataclass(frozen=True, kw_only=True, slots=True)
class JobNames:
    """What tells jobs apart. `keys`: what they differ in, without what another of these determines.

    `titles` of these keys and of n_draft; `texts`: each job's value for people, by key and job id. By job id: `labels`,
    such as `Q4_1 draft, n_draft 8`; `series`, the same without n_draft (empty where nothing else varies);
    `vanilla`: what its runs without speculation are called.
    """

    keys: tuple[str, ...]
    titles: Mapping[str, str]
    texts: Mapping[str, Mapping[str, str]]
    labels: Mapping[str, str]
    series: Mapping[str, str]
    vanilla: Mapping[str, str]


def job_names(jobs: Mapping[str, Settings], numbers: Mapping[str, int | None]) -> JobNames:
    """Names of jobs by their ids. `numbers`: what tells them apart where no setting does."""
    keys = _telling_keys(list(jobs.values()))
    last_parts = [_TITLES.get(key, key.rpartition(".")[2]) for key in keys]
    titles = {key: last if last_parts.count(last) == 1 else key for key, last in zip(keys, last_parts, strict=True)}
    titles[N_DRAFT] = N_DRAFT
    texts = {key: _texts(key, jobs) for key in titles}
    without = [key for key in keys if key != N_DRAFT]
    of_vanilla = [key for key in without if key not in (DRAFT, KIND) and not _DRAFTING.match(key)]

    def label(job: str, named: Sequence[str], kind: Scalar) -> str:
        return ", ".join(_words({key: texts[key][job] for key in named}, titles, kind))

    series = {job: label(job, without, settings[KIND]) for job, settings in jobs.items()}
    full = {job: keys if N_DRAFT in keys or series[job] else [N_DRAFT] for job in jobs}
    labels = {job: label(job, full[job], settings[KIND]) for job, settings in jobs.items()}
    if len(set(labels.values())) < len(labels):  # they differ in what no key says, such as a file's content
        labels = {job: f"{label} (job {numbers[job]})" for job, label in labels.items()}
    return JobNames(
        keys=tuple(keys),
        titles=titles,
        texts=texts,
        labels=labels,
        series=series,
        vanilla={job: label(job, of_vanilla, None) for job in jobs},
    )


def _words(texts: Mapping[str, str], titles: Mapping[str, str], kind: Scalar) -> Iterable[str]:
    """The parts of a label from the texts of its keys. Where `kind` is none, or None for vanilla, nothing drafts."""
    speculates = kind not in (None, "none")
    if not speculates:
        yield "vanilla" if kind is None else "no speculation"
    for key, text in texts.items():
        if not speculates and (key in (N_DRAFT, KIND) or _DRAFTING.match(key)):
            continue
        if key == KIND:
            if text != _DRAFT_MODEL or texts.get(DRAFT, "none") == "none":
                yield text
        elif key == DRAFT:
            if text != "none":
                yield f"{text} draft"
        else:
            yield text if key in (PAIR, "prompt") else f"{text} main model" if key == MAIN else f"{titles[key]} {text}"


# Keys that a server without speculation does not see.
_DRAFTING = re.compile(r"speculation\.|engine\.(draft_|speculative_)")
_DRAFT_MODEL = "draft model"  # the kind `draft` for people


def _telling_keys(jobs: Sequence[Settings]) -> list[str]:
    """The keys to name jobs by, those that others determine left out."""
    keys = varying_keys(jobs)
    speculating = [settings for settings in jobs if settings[KIND] != "none"]
    if len({settings[N_DRAFT] for settings in speculating}) < 2:
        keys = [key for key in keys if key != N_DRAFT]
    if len({settings[DRAFT] for settings in jobs} - {None}) < 2:  # whether there is one, the kind says
        keys = [key for key in keys if key != DRAFT]

    def determined(key: str, by: str | None) -> bool:
        if by is None or by == key or by not in keys:
            return False
        pairs = {(value_of(settings, by), value_of(settings, key)) for settings in jobs}
        return len(pairs) == len({first for first, _ in pairs})

    shape = [key for key in keys if key.startswith("model_pair.synthetic.")]
    models = [key for key in (MAIN, DRAFT, *shape) if key in keys]
    made_up = any(" + " in str(settings[PAIR]) for settings in jobs)  # of the files' names
    dropped = set(models) if PAIR in keys and not made_up and all(determined(key, PAIR) for key in models) else {PAIR}
    if PAIR in dropped and shape:
        dropped |= {MAIN, DRAFT}
    elif dropped == {PAIR} and not models:
        dropped = set()
    choice = {key: _ALSO_CHOSEN.get(key) or _CHOICES.get(key.partition(".")[0]) for key in keys}
    return [key for key in keys if key not in dropped and not determined(key, choice[key])]


def _texts(key: str, jobs: Mapping[str, Settings]) -> dict[str, str]:
    values = {job: value_of(settings, key) for job, settings in jobs.items()}
    if key in _PATHS:
        short = shortened({str(value) for value in values.values() if value is not None})
        return {job: "none" if value is None else short[str(value)] for job, value in values.items()}
    if key == KIND:
        values = {job: _DRAFT_MODEL if value == "draft" else value for job, value in values.items()}
    if key == N_DRAFT:
        values = {job: value or "–" for job, value in values.items()}
    return {job: _text(value) for job, value in values.items()}


def _text(value: Scalar) -> str:
    if value is None or isinstance(value, bool):
        return "default" if value is None else str(value).lower()
    text = f"{value:g}" if isinstance(value, float) else str(value) or "none"
    return text if len(text) <= 32 else f"{text[:31]}…"


def model_name(path: str | None) -> str:
    """A model file's name without folder and `.gguf`."""
    return _tail(path, 1) if path else "none"


def _tail(path: str, depth: int) -> str:
    """The last parts of a path, `depth` of them, without `.gguf`."""
    parts = (PureWindowsPath(path) if "\\" in path else PurePath(path)).parts
    name = "/".join(parts[-depth:]) or path
    return name[:-5] if name.lower().endswith(".gguf") else name


# A quantisation such as Q4_K_M is one word, and so is a version such as 3.2.
_WORD = re.compile(r"i?q\d(?:_[a-z0-9]+)*|[^-_\s/]+", re.IGNORECASE)


def shortened(paths: Collection[str]) -> dict[str, str]:
    """What tells files apart by their names: the words that all begin or end with are left out."""
    names = {path: _tail(path, 1) for path in paths}
    for depth in range(2, 12):  # alike in folders of other names
        if len(set(names.values())) == len(names):
            break
        names = {path: _tail(path, depth) for path in paths}
    words = [list(_WORD.finditer(name)) for name in names.values()]
    if len(words) < 2 or not all(words):
        return names
    texts = [[word[0] for word in found] for found in words]
    room = min(map(len, texts)) - 1
    first = _alike(texts, room)
    last = _alike([found[::-1] for found in texts], room - first)
    short = [
        name[found[first].start() : found[len(found) - 1 - last].end()]
        for name, found in zip(names.values(), words, strict=True)
    ]
    return names if len(set(short)) < len(short) else dict(zip(names, short, strict=True))


def _alike(texts: Sequence[Sequence[str]], most: int) -> int:
    """How many words, at most `most`, all begin with."""
    columns = list(zip(*texts, strict=False))[:most]
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))


def signature(settings: Settings, keys: Iterable[str]) -> tuple[object, ...]:
    """What a job asked for, to find its like in another sweep: `CORE` but the pair's name, and `keys`.

    A model counts by its file's name, since the same file may lie elsewhere.
    """
    wanted = dict.fromkeys([*CORE[1:], *keys])
    values = ((key, value_of(settings, key)) for key in wanted if key != PAIR)
    return tuple(model_name(str(value)) if key in (MAIN, DRAFT) and value else value for key, value in values)
