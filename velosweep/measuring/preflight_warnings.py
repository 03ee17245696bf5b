"""Valid settings that are probably mistakes: they run all the same, and people are told, with what to do."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from velosweep.config.settings import Job, Sampling
from velosweep.machine.cores import oversubscription
from velosweep.models.gguf_model import GgufInfo
from velosweep.results.parquet_files import COLUMNS
from velosweep.values import Lane


def preflight_warnings(jobs: Sequence[Job], headers: Mapping[str, GgufInfo], lanes: Sequence[Lane]) -> Iterator[str]:
    """Everything to warn of before measuring. `headers`: of the model files, by path. No `lanes`: not measured here."""
    yield from _of_draft_models([job for job in jobs if "draft" in job.speculation.kinds], headers)
    # llama.cpp drafts at most what the run still may generate after its first token, less one
    for n_draft, n_predict in dict.fromkeys(
        (job.n_draft, job.n_predict) for job in jobs if job.speculation.kinds and job.n_draft > job.n_predict - 2
    ):
        most = f"measures what n_draft {n_predict - 2} would" if n_predict > 2 else "drafts nothing"
        yield (
            f"n_draft {n_draft} is longer than a run of n_predict {n_predict} has room for: a server drafts no more "
            f"than the run has left, so it {most}; raise n_predict above {n_draft + 1}, or take shorter drafts"
        )
    greedy = {job.sampling for job in jobs if job.sampling.temperature <= 0}
    choices = ("top_k", "top_p", "min_p")
    if ignored := [n for n in choices if any(getattr(one, n) != getattr(Sampling(), n) for one in greedy)]:
        yield (
            f"sampling.{' and sampling.'.join(ignored)} changes nothing: temperature 0 takes the likeliest token; set "
            "sampling.temperature=0.8, or leave it out"
        )
    yield from _of_template_variables(jobs, headers)
    # lanes on GPUs hardly use their threads at the same time
    sharing = len(lanes) if all(lane.on_cpu for lane in lanes) else 1
    for threads in dict.fromkeys(job.engine.threads for job in jobs if job.engine.kind != "attached"):
        if lanes and threads and (crowded := oversubscription(threads, lanes=sharing)):
            yield f"{crowded}; leave engine.threads out: then all physical cores but one are used"


def _of_template_variables(jobs: Sequence[Job], headers: Mapping[str, GgufInfo]) -> Iterator[str]:
    own = [job for job in jobs if job.prompts.chat and not any("chat-template" in word for word in job.engine.args)]
    asked = ((job.model_pair.main_model, name) for job in own for name, _ in job.prompts.template_kwargs)
    for main, name in dict.fromkeys(asked):
        template = headers[main].chat_template if main in headers else None
        if template is not None and name not in template:
            yield (
                f"The chat template of {Path(main).name} does not name {name}: prompts.template_kwargs.{name} probably "
                "changes nothing; check its spelling, or leave it out"
            )


def _of_draft_models(drafting: Sequence[Job], headers: Mapping[str, GgufInfo]) -> Iterator[str]:
    for main, draft in dict.fromkeys((job.model_pair.main_model, job.model_pair.draft_model or "") for job in drafting):
        if main in headers and draft in headers and headers[draft].size_bytes >= headers[main].size_bytes:
            yield (
                f"The draft model {Path(draft).name} is no smaller than the main model {Path(main).name}: it can't "
                "speed it up. Are the two swapped? Choose a draft model a fifth as large or less"
            )
    for draft, tokens in dict.fromkeys(
        (job.model_pair.draft_model or "", job.depth + job.n_predict) for job in drafting
    ):
        trained = headers[draft].trained_context if draft in headers else None
        if trained is not None and tokens >= trained:
            yield (
                f"The draft model {Path(draft).name} was trained for a context of {trained}, and runs go to {tokens} "
                f"tokens plus prompt: beyond that, drafts are guesses; stay below {trained}, or take another draft "
                "model"
            )


def hive_folder_warnings(root: Path, jobs: Sequence[Job]) -> Iterator[str]:
    """Folders named like `n_draft=4`, of which readers of Parquet files make a column instead of the file's own."""
    parts = dict.fromkeys(part for job in jobs for part in (root / job.directory).parts)
    shadowed = [part for part in parts if (name := part.partition("=")[0]) != part and name in COLUMNS]
    if shadowed:
        yield (
            f"The folder {shadowed[0]} is named like a column of our files: DuckDB, Polars and Spark then read its "
            "value in place of the file's; name it otherwise, or read with hive_partitioning=false (velosweep.load "
            "reads the files' own columns)"
        )
