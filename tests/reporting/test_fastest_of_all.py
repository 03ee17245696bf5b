"""Over several main models one sentence names the fastest of all."""

from __future__ import annotations

from dataclasses import replace

from tests.reporting import sweeps
from velosweep.records import ModelFile
from velosweep.reporting.fastest_of_all import fastest_of_all
from velosweep.reporting.recommendation import recommend
from velosweep.reporting.wording import whole_jobs
from velosweep.statistics.comparison import Comparison, Statistics


def faster(job: Comparison, main_model: str, times: float) -> Comparison:
    """The same job of another main model, all of whose runs are so many times as fast."""

    def scaled(figures: Statistics) -> Statistics:
        samples = tuple(value * times for value in figures.samples)
        return replace(figures, mean=figures.mean * times, samples=samples)

    vanilla, speculative = (
        mode and replace(mode, tokens_per_second=scaled(mode.tokens_per_second))
        for mode in (job.vanilla, job.speculative)
    )
    name = f"{job.job_id} of {main_model}"
    return replace(job, job_id=name, main_model=main_model, vanilla=vanilla, speculative=speculative)


def said(times: float) -> list[str]:
    made = sweeps.default_sweep()
    first = [replace(job, main_model="/m/big-f16.gguf") for job in whole_jobs(made.comparisons)]
    jobs = [*first, *(faster(job, "/m/big-q8_0.gguf", times) for job in first)]
    files = [("/m/big-f16.gguf", 2_000_000_000), ("/m/big-q8_0.gguf", 1_100_000_000)]
    models = tuple(ModelFile(path=path, size_bytes=size, fingerprint=path) for path, size in files)
    models += tuple(
        ModelFile(path=path, size_bytes=10**8, fingerprint=path) for path in {job.draft_model or "" for job in jobs}
    )
    record = replace(made.record, environment=replace(made.record.environment, models=models))
    return list(fastest_of_all(recommend(jobs, record), jobs, record))


def test_the_fastest_of_all_is_named_with_what_it_is_faster_than() -> None:
    (sentence,) = said(1.5)

    assert sentence.startswith("Fastest of all: q8_0 with ")
    assert "1.50× [" in sentence
    assert "the best of f16; its files take 1.2 GB, the other's 2.1 GB." in sentence


def test_near_equals_are_called_so() -> None:
    (sentence,) = said(1.0001)

    assert ", which may be as fast;" in sentence


def test_one_main_model_needs_no_such_sentence() -> None:
    made = sweeps.default_sweep()
    jobs = whole_jobs(made.comparisons)

    assert list(fastest_of_all(recommend(jobs, made.record), jobs, made.record)) == []
