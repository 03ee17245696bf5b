"""How many tokens a job really drafts: some kinds draft a fixed number, and heads no more than they were trained for.

llama.cpp takes any n_draft and says nothing, so that several n_draft are then one run under several names.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from velosweep.config.settings import Job
from velosweep.llama_cpp.arguments import kind_parameters
from velosweep.models.draft_heads import DraftHead


def effective_n_draft(job: Job, head: DraftHead | None) -> int:
    """The n_draft that the job really has. `head`: what its models have to draft with."""
    kinds = job.speculation.all_kinds
    fixed = [kind.fixed_length for kind in kinds if kind.fixed_length is not None]
    if kinds and len(fixed) == len(kinds):
        return max(fixed)
    free = {kind.llama_cpp for kind in kinds if kind.fixed_length is None}
    if head is None or head.longest is None or free != {head.kind}:
        return job.n_draft
    return min(job.n_draft, head.longest)


def merge_duplicate_jobs(jobs: Sequence[Job], real: Iterable[int]) -> list[Job]:
    """The jobs with their real n_draft; of several that come to one run the first, with the others' numbers.

    Without speculation nothing is drafted, and such jobs differ in n_draft by name alone.
    """
    merged: dict[tuple[Job, int], tuple[Job, list[int]]] = {}
    asked: dict[Job, list[int]] = {}
    for job, n_draft in zip(jobs, real, strict=True):
        run = replace(job, n_draft=n_draft)
        drafts = n_draft if job.speculation.kinds else 0
        alike = replace(run, num=0, n_draft=drafts, overrides=(), directory="", output=None)
        lengths = asked.setdefault(alike, [])
        key = alike, lengths.count(job.n_draft)  # a repeated value is a mistake, and stays two jobs, which are refused
        lengths.append(job.n_draft)
        merged.setdefault(key, (run, []))[1].append(job.num)
    return [replace(run, twins=tuple(numbers[1:])) for run, numbers in merged.values()]


def changed_lengths(jobs: Sequence[Job], real: Iterable[int]) -> Iterator[str]:
    """A sentence for each speculation whose n_draft llama.cpp would not keep to."""
    asked: dict[tuple[str, int], set[int]] = {}
    for job, n_draft in zip(jobs, real, strict=True):
        asked.setdefault((job.speculation.label, n_draft), set()).add(job.n_draft)
    for (label, n_draft), lengths in asked.items():
        if lengths != {n_draft}:
            several = "are measured once," if len(lengths) > 1 else "is measured"
            given = ", ".join(map(str, sorted(lengths)))
            most = f"{'' if min(lengths) < n_draft else 'at most '}{n_draft} tokens at a time"
            yield (
                f"{label} drafts {most}, whatever it is told: n_draft {given} {several} as n_draft {n_draft}; give it "
                "that n_draft alone"
            )


def too_short_to_copy(jobs: Iterable[Job]) -> Iterator[str]:
    """A sentence for each ngram-simple that can draft nothing, with the remedy.

    llama.cpp (`common_ngram_simple_draft`) drops a draft that is shorter than the tokens that were looked for.
    """
    simple = (job for job in jobs if "ngram-simple" in job.speculation.kinds)
    values = (kind_parameters(job.speculation, job.n_draft) for job in simple)
    for looked_for, longest in dict.fromkeys(
        (value["ngram_simple.size_n"], value["ngram_simple.size_m"]) for value in values
    ):
        if isinstance(looked_for, int) and isinstance(longest, int) and longest < looked_for:
            yield (
                f"ngram-simple never drafts with n_draft {longest}: it copies no fewer tokens than it looks for, "
                f"which are {looked_for}; take n_draft {looked_for} or more, or "
                f"+speculation.parameters.ngram_simple.size_n={longest} or less"
            )
