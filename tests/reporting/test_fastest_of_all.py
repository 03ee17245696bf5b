"""Over several main models one sentence names the fastest of all."""

from __future__ import annotations

import re
from dataclasses import replace

import pyarrow as pa
import pytest

from tests.reporting import sweeps
from tests.strategies import record, sample, samples_to_table, speculative
from velosweep.records import ModelFile
from velosweep.reporting.baseline_answers import fastest_of_all
from velosweep.reporting.wording import whole_jobs
from velosweep.statistics.comparison import Comparison, Statistics
from velosweep.statistics.summarise import compare_jobs


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


def said(times: float, samples: pa.Table | None = None) -> list[str]:
    made = sweeps.default_sweep()
    first = [replace(job, main_model="/m/big-f16.gguf") for job in whole_jobs(made.comparisons)]
    jobs = [*first, *(faster(job, "/m/big-q8_0.gguf", times) for job in first)]
    files = [("/m/big-f16.gguf", 2_000_000_000), ("/m/big-q8_0.gguf", 1_100_000_000)]
    models = tuple(ModelFile(path=path, size_bytes=size, fingerprint=path) for path, size in files)
    models += tuple(
        ModelFile(path=path, size_bytes=10**8, fingerprint=path) for path in {job.draft_model or "" for job in jobs}
    )
    record = replace(made.record, environment=replace(made.record.environment, models=models))
    record = replace(record, jobs=(*record.jobs, *(
        replace(entry, id=f"{entry.id} of /m/big-q8_0.gguf", baseline_id="other") for entry in record.jobs
    )))  # fmt: skip
    return [sentence for _, sentence in fastest_of_all(jobs, record, samples)]


def test_the_fastest_of_all_is_named_with_what_it_is_faster_than() -> None:
    (sentence,) = said(1.5)

    assert sentence.startswith("Fastest of all: q8_0 main model, n_draft 4: ")
    assert "1.50× [" in sentence
    assert "in 1.2 GB of files" in sentence
    assert "of f16 main model, n_draft 4: 91.4 tok/s in 2.1 GB of files" in sentence
    assert sentence.endswith("Other weights may give other answers: that was not compared.")


def test_near_equals_are_called_so() -> None:
    (sentence,) = said(1.0001)

    assert ", which may be as fast." in sentence


def test_one_main_model_needs_no_such_sentence() -> None:
    made = sweeps.default_sweep()
    jobs = whole_jobs(made.comparisons)

    assert list(fastest_of_all(jobs, made.record)) == []


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ("text", "Both write the same text on 1 prompt."),
        ("another", "Other weights give other answers, on 1 of 1 prompt"),
    ],
)
def test_whether_the_answers_differ_is_seen_in_what_vanilla_wrote(other: str, told: str) -> None:
    first = sweeps.default_sweep().record.jobs[0].baseline_id
    rows = [sample(job_id=job_id, output_sha256=text) for job_id, text in ((first, "text"), ("other", other))]

    (sentence,) = said(1.5, samples_to_table(rows))

    assert told in sentence


@pytest.mark.parametrize("turns", [True, False])
def test_settings_that_took_turns_are_compared_by_rounds(turns: bool) -> None:
    """Runs of a machine whose speed doubles and halves: within rounds B is a tenth faster than A and C."""
    arms = [(name, n_draft) for name in "abc" for n_draft in (0, 8)]
    runs = [(i, arm) for i in range(5) for arm in arms]
    if not turns:
        runs.sort(key=lambda run: run[1][0])
    samples = []
    for order, (i, (name, n_draft)) in enumerate(runs):
        speed = 30 * (1 + n_draft / 8) * (1.1 if name == "b" else 1) * (1, 2, 0.5, 1.7, 0.8)[i] * (1 + order % 7 / 999)
        own = {"order": order, "iteration": i, "tps": speed, "job_id": f"{name}-{n_draft}"}
        samples.append(speculative(n_draft, **own) if n_draft else sample(**own))
    records = {
        f"{name}-8": record(
            8, id=f"{name}-8", num=num, baseline_id=f"{name}-0", settings={"engine.flash_attention": name}
        )
        for num, name in enumerate("abc")
    }
    table = samples_to_table(samples)
    jobs = whole_jobs(compare_jobs(table, jobs=records))

    ((_, sentence),) = fastest_of_all(jobs, replace(sweeps.default_sweep().record, jobs=tuple(records.values())), table)

    found = re.search(r"Fastest of all: flash_attention b: .*? 1\.10× \[([0-9.]+), [0-9.]+\] of", sentence)
    assert found, sentence
    assert (float(found[1]) > 1) is turns
    assert ("may be as fast, as 1 more may" in sentence) is not turns
    assert ("Not compared round by round." in sentence) is not turns
