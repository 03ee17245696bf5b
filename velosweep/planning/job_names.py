"""What each job is called for short: by whatever the jobs of a sweep differ in, alike on all screens."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from velosweep.config.settings import Job
from velosweep.planning.job_settings import (
    DRAFT,
    KIND,
    MAIN,
    N_DRAFT,
    PAIR,
    PATHS,
    PROMPTS,
    Settings,
    drafting,
    path_tail,
    settings_of_job,
    value_of,
    varying_keys,
)
from velosweep.values import Scalar

# A choice such as speculation=ngram-mod sets many keys: those it determines say nothing more than its name.
_CHOICES = {"speculation": KIND, "protocol": "protocol.name", "prompts": PROMPTS, "engine": "engine.kind"}
_ALSO_CHOSEN = {"prompt": PROMPTS, "iterations": "protocol.name", "engine": "engine.kind"}
_TITLES = {
    PAIR: "pair",
    MAIN: "main model",
    DRAFT: "draft",
    KIND: "kind",
    PROMPTS: "prompts",
    "engine.kind": "engine",
    "protocol.name": "protocol",
    "llama_cpp.path": "build",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class JobNames:
    """What tells jobs apart; the last three by job id."""

    keys: tuple[str, ...]  # what they differ in, without what another of these determines
    titles: Mapping[str, str]  # of these keys and of n_draft
    texts: Mapping[str, Mapping[str, str]]  # each job's value for people, by key and job id
    labels: Mapping[str, str]  # such as `Q4_1 draft, n_draft 8`
    series: Mapping[str, str]  # the same without n_draft; empty where nothing else varies
    vanilla: Mapping[str, str]  # what its runs without speculation are called


def job_names(jobs: Mapping[str, Settings], numbers: Mapping[str, int | None]) -> JobNames:
    """Names of jobs by their ids. `numbers`: what tells them apart where no setting does."""
    keys = _telling_keys(list(jobs.values()))
    last_parts = [_TITLES.get(key, key.rpartition(".")[2]) for key in keys]
    titles = {key: last if last_parts.count(last) == 1 else key for key, last in zip(keys, last_parts, strict=True)}
    titles[N_DRAFT] = N_DRAFT
    texts = {key: _texts(key, jobs) for key in titles}
    without = [key for key in keys if key != N_DRAFT]
    of_vanilla = [key for key in without if not drafting(key)]

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


def names_of_jobs(jobs: Iterable[Job]) -> JobNames:
    """What tells the jobs of a plan apart."""
    planned = list(jobs)
    return job_names({job.id: settings_of_job(job) for job in planned}, {job.id: job.num for job in planned})


def _words(texts: Mapping[str, str], titles: Mapping[str, str], kind: Scalar) -> Iterable[str]:
    """The parts of a label from the texts of its keys. Where `kind` is none, or None for vanilla, nothing drafts."""
    speculates = kind not in (None, "none")
    if not speculates:
        yield "vanilla" if kind is None else "no speculation"
    for key, text in texts.items():
        if not speculates and drafting(key):
            continue
        if key == KIND:
            if text != _DRAFT_MODEL or texts.get(DRAFT, "none") == "none":
                yield text
        elif key == DRAFT:
            if text != "none":
                yield model_words(text, "draft")
        elif key == MAIN:
            yield model_words(text, "main model")
        else:
            yield text if key in (PAIR, "prompt") else f"{titles[key]} {text}"


def model_words(name: str, role: str) -> str:
    """`Q4_1 draft`; the file alone where its name says the role itself, as in `draft.gguf`."""
    said = role.partition(" ")[0] in (word[0].lower() for word in _WORD.finditer(name))
    return f"{name}.gguf" if said else f"{name} {role}"


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
    if key in PATHS:
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


# A quantisation such as Q4_K_M is one word, and so is a version such as 3.2.
_WORD = re.compile(r"i?q\d(?:_[a-z0-9]+)*|[^-_\s/]+", re.IGNORECASE)


def shortened(paths: Collection[str]) -> dict[str, str]:
    """What tells files apart by their names: the words that all begin or end with are left out."""
    names = {path: path_tail(path, 1) for path in paths}
    for depth in range(2, 12):  # alike in folders of other names
        if len(set(names.values())) == len(names):
            break
        names = {path: path_tail(path, depth) for path in paths}
    words = [list(_WORD.finditer(name)) for name in names.values()]
    if len(words) < 2 or not all(words):
        return names
    texts = [[word[0] for word in found] for found in words]
    room = min(map(len, texts)) - 1
    first = _alike(texts, room)
    last = _alike([found[::-1] for found in texts], room - first)
    if first and any(all(word.isdigit() for word in found[first : len(found) - last]) for found in texts):
        first -= 1  # a bare number beside other numbers would say nothing: f16-4, not 4
    short = [
        name[found[first].start() : found[len(found) - 1 - last].end()]
        for name, found in zip(names.values(), words, strict=True)
    ]
    return names if len(set(short)) < len(short) else dict(zip(names, short, strict=True))


def _alike(texts: Sequence[Sequence[str]], most: int) -> int:
    """How many words, at most `most`, all begin with."""
    columns = list(zip(*texts, strict=False))[:most]
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
