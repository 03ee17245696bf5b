"""`velosweep collate` rebuilds every derived file from the samples alone, to the same bytes."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import velosweep
from tests.results.made import job_record, journal_of, record, rounds, sample
from tests.strategies import sample as plain_run
from tests.strategies import sweep as interleaved
from tests.strategies import wobble
from velosweep.cli import main
from velosweep.errors import ExitStatus
from velosweep.results.journal import Journal
from velosweep.results.sweep_record import write_record
from velosweep.values import NEEDED_COLUMNS, Sample, Status


def sweep(root: Path) -> Path:
    write_record(journal_of(root, rounds(iterations=5)).record, record())
    assert main(["collate", str(root)]) == ExitStatus.OK
    return root


def derived(root: Path) -> dict[str, bytes]:
    files = [path for path in root.rglob("*") if path.is_file() and path.name not in {"journal.jsonl", "sweep.json"}]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_all_files_of_the_contract_are_there(tmp_path: Path) -> None:
    files = set(derived(sweep(tmp_path)))

    jobs = {f"{job}/{name}" for job in range(3) for name in ("summary.json", "samples.parquet")}
    assert {"samples.parquet", "results.parquet", "summaries.json", "report.html"} | jobs == files


def test_removed_and_damaged_files_come_back_to_the_byte(tmp_path: Path) -> None:
    root = sweep(tmp_path)
    before = derived(root)
    for number, name in enumerate(sorted(before)):
        if number % 2:
            (root / name).unlink()
        else:
            (root / name).write_bytes(before[name][: len(before[name]) // 2])

    assert main(["collate", str(root)]) == ExitStatus.OK

    assert before == derived(root)


def test_another_folder_and_another_order_of_arrival_change_no_byte(tmp_path: Path) -> None:
    one = sweep(tmp_path / "one")
    taken = rounds(iterations=5)
    write_record(journal_of(tmp_path / "other", taken[::2] + taken[1::2]).record, record())
    assert main(["collate", str(tmp_path / "other")]) == ExitStatus.OK

    assert derived(one) == derived(tmp_path / "other")


def test_without_its_journal_a_sweep_is_rebuilt_from_samples_parquet(tmp_path: Path) -> None:
    root = sweep(tmp_path)
    before = derived(root)
    (root / "journal.jsonl").unlink()
    for job in range(3):
        shutil.rmtree(root / str(job))

    assert main(["collate", str(root)]) == ExitStatus.OK

    assert before == derived(root)


def test_what_damage_cost_is_said_and_the_rest_collated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = sweep(tmp_path)
    (root / "samples.parquet").unlink()
    journal = root / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-7])

    status = main(["collate", str(root)])

    assert status == ExitStatus.SOME_FAILED
    said = capsys.readouterr()
    assert "Lost: journal.jsonl, line 21: torn" in said.err
    assert "19 samples of 3 jobs" in said.out


def test_a_sweep_that_is_being_written_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = sweep(tmp_path)

    with Journal(root / "journal.jsonl") as journal:
        journal.append(sample(99))
        status = main(["collate", str(root)])

    assert status == ExitStatus.REFUSED
    told = capsys.readouterr().err
    assert f"is being written by process {os.getpid()}" in told
    assert "wait until it ends; for a new sweep choose another" in told


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_a_folder_without_a_sweep_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], make) -> None:
    make(tmp_path / "none")

    status = main(["collate", str(tmp_path / "none")])

    assert status == ExitStatus.REFUSED
    assert "name the folder of a sweep" in capsys.readouterr().err


def test_a_folder_of_sweeps_is_refused_with_the_latest_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for time in ("09-00-00", "10-00-00"):
        sweep(tmp_path / "2026-11-25" / time)
    before = derived(tmp_path)
    capsys.readouterr()

    assert main(["collate", str(tmp_path)]) == ExitStatus.REFUSED
    said = capsys.readouterr().err
    assert "no journal.jsonl or samples.parquet in it" in said
    assert f"name one sweep, such as {tmp_path / '2026-11-25' / '10-00-00'}\n" in said
    assert derived(tmp_path) == before


# ---------------------------------------------------------------- samples that another program wrote

NEEDED = ("job_id", "mode", "iteration", "tokens_per_second", "time_to_first_token_ms", "total_time_ms")
COUNTS = (
    "n_draft",
    "predicted_tokens",
    "draft_tokens",
    "accepted_tokens",
    "accepted_per_position",
    "rounds",
    "drafting_rounds",
)
# what only names a setting or a machine, and can't be told when it is left out
NAMES = ("sweep_id", "job_num", "model_pair", "main_model", "draft_model", "speculation", "n_predict", "prompt_set")
NAMES += ("prompt", "prompt_category", "host", "device", "engine", "llama_cpp_build", "finished_at", "prompt_id")
NAMES += ("state", "prefill_")
FROM_COUNTS = (
    "n_draft",
    "acceptance",
    "alpha",
    "tokens_per_round",
    "cost_ratio",
    "expected_speedup",
    "drafted",
    "answer_tokens",
)


def stripped(whole: Path, folder: Path, *columns: str) -> Path:
    """A folder with nothing but these columns of the sweep's samples, as another program would write them."""
    folder.mkdir()
    table = pq.read_table(whole / "samples.parquet", columns=list(columns)).replace_schema_metadata(None)
    wide = {pa.int32(): pa.int64(), pa.string(): pa.large_string(), pa.list_(pa.int32()): pa.list_(pa.int64())}
    fields = [pa.field(field.name, wide.get(field.type, field.type)) for field in table.schema]
    table = table.cast(pa.schema(fields))
    places = list(range(table.num_rows))
    random.Random(5).shuffle(places)
    pq.write_table(table.take(places), folder / "samples.parquet")
    return folder


def figures(root: Path, *but: str) -> list[dict[str, object]]:
    """The rows of results.parquet without the columns that begin with one of `but`; by job, whole sets last."""
    rows = velosweep.load_results(root).to_pylist()
    rows.sort(key=lambda row: (row["job_id"], row["prompt_id"] is None, row["prompt_id"] or ""))
    return [{name: value for name, value in row.items() if not name.startswith(but)} for row in rows]


def measured(root: Path, samples: list[Sample]) -> Path:
    """A sweep's folder as its own program leaves it, with a record and a journal."""
    jobs = sorted({(one.job_num, one.job_id) for one in samples if one.job_num is not None})
    prompts = tuple(dict.fromkeys(one.prompt_id for one in samples))
    records = tuple(job_record(num, id=name, n_draft=num, prompt_ids=prompts) for num, name in jobs)
    write_record(journal_of(root, samples).record, record(jobs=records))
    assert main(["collate", str(root)]) == ExitStatus.OK
    return root


def taken(prompts: tuple[str, ...] = ("p0",)) -> list[Sample]:
    def speed(n_draft: int, prompt: str, iteration: int) -> float:
        return 30 * (1 + n_draft / 8) * wobble(iteration + n_draft + len(prompt))

    return interleaved([4, 8], prompts=prompts, speed=speed)


def test_the_needed_columns_alone_give_the_same_figures(tmp_path: Path) -> None:
    whole = measured(tmp_path / "whole", taken())
    bare = stripped(whole, tmp_path / "bare", *NEEDED)

    assert main(["collate", str(bare)]) == ExitStatus.OK

    assert figures(bare, *NAMES, *FROM_COUNTS) == figures(whole, *NAMES, *FROM_COUNTS)
    assert [row["n_predict"] for row in figures(bare)] == [0] * 4  # unknown, not the default of a weight
    for summary in ("4", "8"):
        ours, theirs = (json.loads((root / job / "summary.json").read_text()) for root, job in
                        ((whole, summary), (bare, {"4": "0", "8": "1"}[summary])))  # fmt: skip
        for key in ("vanilla", "speculative", "speedup", "speedup_stddev"):
            assert theirs[key] == ours[key]


def test_with_prompts_counts_and_warm_ups_every_figure_is_the_same(tmp_path: Path) -> None:
    warm = [plain_run(iteration=0, order=901, warmup=True, tps=5.0, prompt_id="p10")]
    bad = [plain_run(iteration=7, order=900, status=Status.FAILED, error="died", tps=None, prompt_id="p0")]
    whole = measured(tmp_path / "whole", [*taken(("p0", "p10")), *warm, *bad])
    columns = (*NEEDED, *COUNTS, "prompt_id", "order", "warmup", "status")
    bare = stripped(whole, tmp_path / "bare", *columns)

    assert main(["collate", str(bare)]) == ExitStatus.OK

    names = tuple(name for name in NAMES if name != "prompt_id")
    assert figures(bare, *names) == figures(whole, *names)
    assert len(figures(bare)) == 6
    assert all(row["acceptance"] is not None and row["tokens_per_round"] is not None for row in figures(bare))


def test_a_needed_column_that_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = measured(tmp_path / "whole", taken())
    bare = stripped(whole, tmp_path / "bare", *NEEDED[:-1])

    assert main(["collate", str(bare)]) == ExitStatus.REFUSED

    assert "total_time_ms" in capsys.readouterr().err


def test_storage_and_analysis_need_the_same_columns() -> None:
    assert NEEDED_COLUMNS == NEEDED
