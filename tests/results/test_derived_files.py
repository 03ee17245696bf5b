"""Derived files are the same whether a sweep is worked on as a whole, in slices, or by several processes."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import velosweep
from tests.results.made import comparison, job_record, journal_of, record, rounds
from velosweep.errors import StorageError
from velosweep.records import SweepRecord
from velosweep.results import derived_files, job_files, journal_table, parquet_files
from velosweep.results.derived_files import SweepResults, analyse, write_derived_files
from velosweep.results.journal import Journal
from velosweep.results.parquet_files import COLUMNS
from velosweep.results.paths import SweepPaths
from velosweep.results.sweep_record import write_record
from velosweep.values import Sample, Scalar


def two_baselines() -> tuple[list[Sample], SweepRecord]:
    """Three jobs on one main model and three on another, taken by two lanes at a time."""
    first = rounds(iterations=6)
    other = [
        replace(
            one,
            job_id=f"other-{one.job_id}",
            job_num=None if one.job_num is None else one.job_num + 3,
            main_model="/models/other.gguf",
            lane=1,
        )
        for one in first
    ]
    kv: dict[str, Scalar] = {"engine.cache_type_k": "q8_0"}
    jobs = [job_record(number, settings={"speculation.p_min": number / 10}) for number in range(3)]
    jobs += [
        job_record(number, id=f"other-job{number - 3}", baseline_id="other-base", n_draft=4 * (number - 2), settings=kv)
        for number in range(3, 6)
    ]
    mixed = [one for pair in zip(first, other, strict=True) for one in pair]
    return mixed, record(jobs=tuple(jobs))


def sweep(root: Path) -> SweepPaths:
    taken, asked = two_baselines()
    paths = journal_of(root, taken)
    write_record(paths.record, asked)
    return paths


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is large: the journal, and a sweep of more than one baseline."""
    monkeypatch.setattr(derived_files, "LARGE_JOURNAL_BYTES", 0)
    monkeypatch.setattr(derived_files, "MOST_IN_MEMORY", 30)
    monkeypatch.setattr(job_files, "SLICE_ROWS", 30)
    monkeypatch.setattr(job_files, "_TAKEN_ROWS", 10)


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row group holds five rows (so that an owner's last one begins another), a batch of the journal seven."""
    for module in (parquet_files, journal_table):
        monkeypatch.setattr(module, "ROW_GROUP", 5)
    monkeypatch.setattr(journal_table, "BATCH_LINES", 7)


@pytest.fixture
def two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two, however few the slices and the processors."""
    monkeypatch.setattr(job_files, "FEWEST_SLICES", 2)
    monkeypatch.setattr(job_files, "most_workers", lambda: 2)


def test_every_job_has_its_summary_in_the_record_order(tmp_path: Path) -> None:
    result = write_derived_files(sweep(tmp_path).root)

    assert [value["config"]["n_draft"] for value in result.summaries() if value] == [4, 8, 12, 4, 8, 12]
    assert (result.sample_count, len(result.comparisons)) == (48, 12)


def settings_by_owner(table: pa.Table) -> set[tuple[str, str | None, float | None]]:
    names = ("job_id", "engine_cache_type_k", "speculation_p_min")
    return {tuple(row.values()) for row in table.select(list(names)).to_pylist()}  # type: ignore[misc]


def test_whatever_a_sweep_varies_is_a_column_of_its_samples_null_for_runs_that_several_values_share(
    tmp_path: Path,
) -> None:
    paths = sweep(tmp_path)
    before = velosweep.load(tmp_path)  # interrupted: no files yet
    write_derived_files(tmp_path)

    assert pq.read_schema(paths.samples).names[len(COLUMNS) :] == ["speculation_p_min", "engine_cache_type_k"]
    assert settings_by_owner(velosweep.load(tmp_path)) == settings_by_owner(before)
    assert settings_by_owner(before) == {
        ("base", "f16", None),
        *((f"job{number}", "f16", number / 10) for number in range(3)),
        ("other-base", "q8_0", None),
        *((f"other-job{number}", "q8_0", 0.0) for number in range(3)),
    }
    assert settings_by_owner(velosweep.load(tmp_path / "4")) == {
        ("other-base", "q8_0", None),
        ("other-job1", "q8_0", 0.0),
    }


@pytest.mark.parametrize("gone", [["sweep.json"], ["sweep.json", "journal.jsonl"]])
def test_without_sweep_json_vanilla_runs_are_found_by_what_the_samples_say_was_varied(
    tmp_path: Path, gone: list[str]
) -> None:
    taken, asked = two_baselines()
    same_model = [replace(one, main_model="/models/main.gguf") for one in taken]
    paths = journal_of(tmp_path, same_model)
    write_record(paths.record, asked)
    told = write_derived_files(tmp_path)
    for name in gone:
        (tmp_path / name).unlink()
    again = write_derived_files(tmp_path)

    assert [row.speedup for row in again.comparisons] == [row.speedup for row in told.comparisons]
    assert not any(finding.code == "ambiguous_baseline" for row in again.comparisons for finding in row.findings)
    assert again.comparisons[-1].settings == {"engine.cache_type_k": "q8_0", "speculation.p_min": 0.0}
    assert pq.read_schema(paths.samples).names[len(COLUMNS) :] == ["speculation_p_min", "engine_cache_type_k"]


@pytest.mark.usefixtures("small_groups")
def test_in_slices_the_same_bytes_are_written(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    whole = write_derived_files(sweep(tmp_path / "whole").root)
    request.getfixturevalue("in_slices")
    sliced = write_derived_files(sweep(tmp_path / "slices").root)

    assert files(tmp_path / "whole") == files(tmp_path / "slices")
    assert list(whole.summaries()) == list(sliced.summaries())
    assert pq.ParquetFile(tmp_path / "slices" / "samples.parquet").num_row_groups == 10


def test_in_slices_a_job_without_speculation_is_compared_too(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    def without(root: Path) -> SweepPaths:
        taken, asked = two_baselines()
        paths = journal_of(root, [one for one in taken if one.job_id != "job2"])
        alone = replace(asked.jobs[2], n_draft=0, speculation="none")
        write_record(paths.record, replace(asked, jobs=(*asked.jobs[:2], alone, *asked.jobs[3:])))
        return paths

    whole = write_derived_files(without(tmp_path / "whole").root)
    request.getfixturevalue("in_slices")
    write_derived_files(without(tmp_path / "slices").root)

    assert [row.job_id for row in whole.comparisons if row.speculative is None] == ["job2", "job2"]
    assert files(tmp_path / "whole") == files(tmp_path / "slices")


def test_in_slices_jobs_keep_their_order_where_baselines_take_turns(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    def taking_turns(root: Path) -> SweepPaths:
        taken, asked = two_baselines()
        turns = [asked.jobs[number] for number in (0, 3, 1, 4, 2, 5)]
        numbers = {job.id: number for number, job in enumerate(turns)}
        paths = journal_of(root, [replace(one, job_num=numbers.get(one.job_id)) for one in taken])
        jobs = tuple(replace(job, num=number, directory=str(number)) for number, job in enumerate(turns))
        write_record(paths.record, replace(asked, jobs=jobs))
        return paths

    whole = write_derived_files(taking_turns(tmp_path / "whole").root)
    request.getfixturevalue("in_slices")
    sliced = write_derived_files(taking_turns(tmp_path / "slices").root)

    assert files(tmp_path / "whole") == files(tmp_path / "slices")
    assert [row.job_num for row in whole.comparisons] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert [row.job_num for row in sliced.comparisons] == [row.job_num for row in whole.comparisons]
    assert pq.read_table(tmp_path / "whole" / "results.parquet")["job_num"].to_pylist() == [
        row.job_num for row in whole.comparisons
    ]


def test_in_slices_a_draft_that_another_baseline_measured_as_a_main_model_tells_its_cost(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    def with_the_draft_alone(root: Path) -> SweepPaths:
        taken, asked = two_baselines()
        draft = "/models/other.gguf"
        paths = journal_of(root, [replace(s, draft_model=draft, draft_ms=None) if s.n_draft else s for s in taken])
        models = {False: asked.jobs[0].main_model, True: draft}
        jobs = [replace(job, draft_model=draft, main_model=models[job.id.startswith("other")]) for job in asked.jobs]
        write_record(paths.record, replace(asked, jobs=tuple(jobs)))
        return paths

    whole = write_derived_files(with_the_draft_alone(tmp_path / "whole").root)
    request.getfixturevalue("in_slices")
    sliced = write_derived_files(with_the_draft_alone(tmp_path / "slices").root)

    assert {row.cost_source for row in whole.comparisons} == {"measured alone"}
    assert files(tmp_path / "whole") == files(tmp_path / "slices")
    assert [row.job_id for row in sliced.comparisons] == [row.job_id for row in whole.comparisons]


@pytest.mark.usefixtures("small_groups")
@pytest.mark.parametrize("gone", [["sweep.json"], ["sweep.json", "journal.jsonl"]])
def test_without_sweep_json_a_large_sweep_is_collated_as_a_small_one(
    tmp_path: Path, request: pytest.FixtureRequest, gone: list[str]
) -> None:
    for folder in (tmp_path / "whole", tmp_path / "slices"):
        write_derived_files(sweep(folder).root)
        for name in gone:
            (folder / name).unlink()
    write_derived_files(tmp_path / "whole")
    request.getfixturevalue("in_slices")
    write_derived_files(tmp_path / "slices")

    assert files(tmp_path / "whole") == files(tmp_path / "slices")


@pytest.mark.usefixtures("in_slices", "small_groups")
def test_a_large_file_with_what_no_run_can_have_is_refused(tmp_path: Path) -> None:
    paths = sweep(tmp_path)
    write_derived_files(tmp_path)
    paths.journal.unlink()
    table = pq.read_table(paths.samples)
    speeds = pa.array([*table["tokens_per_second"].to_pylist()[:-1], -5.0])
    place = table.column_names.index("tokens_per_second")
    pq.write_table(table.set_column(place, "tokens_per_second", speeds), paths.samples)

    with pytest.raises(StorageError, match=r"'-5.0' in the column tokens_per_second, which no run can have"):
        write_derived_files(tmp_path)


@pytest.mark.usefixtures("in_slices")
def test_a_large_file_whose_rows_are_in_another_order_is_refused(tmp_path: Path) -> None:
    paths = sweep(tmp_path)
    write_derived_files(tmp_path)
    paths.journal.unlink()
    table = pq.read_table(paths.samples)
    pq.write_table(table.sort_by([("order", "ascending")]), paths.samples)

    with pytest.raises(StorageError, match=r"rows of job_id .* do not stand together"):
        write_derived_files(tmp_path)


@pytest.mark.usefixtures("in_slices")
def test_a_large_sweeps_samples_are_left_on_disk(tmp_path: Path) -> None:
    result = write_derived_files(sweep(tmp_path).root)

    assert result.samples is None
    assert {()} == {row.vanilla.tokens_per_second.samples for row in result.comparisons if row.vanilla}
    assert all(len(value["vanilla"]["tokens_per_second"]["samples"]) == 6 for value in result.summaries() if value)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("gone", [[], ["journal.jsonl"], ["samples.parquet"], ["sweep.json"]])
def test_analysing_a_sweep_gives_what_collating_gave_and_writes_nothing(
    tmp_path: Path, request: pytest.FixtureRequest, large: bool, gone: list[str]
) -> None:
    for fixture in ("in_slices", "small_groups") if large else ():
        request.getfixturevalue(fixture)
    collated = write_derived_files(sweep(tmp_path).root)
    for name in gone:
        (tmp_path / name).unlink()
    if "sweep.json" in gone:
        collated = write_derived_files(tmp_path)
    before = files(tmp_path)

    assert analyse(tmp_path) == collated
    assert files(tmp_path) == before


def test_builds_are_compared_where_samples_are_in_memory(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    taken, asked = two_baselines()
    builds = {False: "/old/llama-server", True: "/new/llama-server"}
    jobs = [
        replace(job, settings={"llama_cpp.path": builds[job.id.startswith("other")]}, n_draft=4 * (number % 3 + 1))
        for number, job in enumerate(asked.jobs)
    ]
    paths = journal_of(tmp_path, [replace(one, main_model="/models/main.gguf", lane=0) for one in taken])
    write_record(paths.record, replace(asked, jobs=tuple(jobs)))
    write_derived_files(tmp_path)
    compared = pq.read_table(paths.results)["build_ratio"].null_count
    request.getfixturevalue("in_slices")
    write_derived_files(tmp_path)

    assert compared == 12 - 3  # each job of the second build has its ratio to the first, prompts have none
    assert pq.read_table(paths.results)["build_ratio"].null_count == 12


def test_few_samples_of_a_large_journal_are_in_memory_as_those_of_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = write_derived_files(sweep(tmp_path).root)
    before = files(tmp_path)
    monkeypatch.setattr(derived_files, "LARGE_JOURNAL_BYTES", 0)

    assert write_derived_files(tmp_path) == small == analyse(tmp_path)
    assert files(tmp_path) == before


@pytest.mark.parametrize("gone", [[], ["sweep.json"]])
def test_many_samples_of_a_small_journal_are_left_on_disk_if_sweep_json_tells_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: list[str]
) -> None:
    for folder in (tmp_path / "few", tmp_path / "many"):
        write_derived_files(sweep(folder).root)
        for name in gone:
            (folder / name).unlink()
    write_derived_files(tmp_path / "few")
    monkeypatch.setattr(derived_files, "MOST_IN_MEMORY", 47)
    many = write_derived_files(tmp_path / "many")

    assert (many.sample_count, many.samples is None) == (48, not gone)
    assert files(tmp_path / "few") == files(tmp_path / "many")


@pytest.mark.usefixtures("in_slices", "small_groups")
def test_two_large_sweeps_are_compared_by_each_runs_speed(tmp_path: Path) -> None:
    write_derived_files(sweep(tmp_path).root)
    (job, *_) = [row for row in analyse(tmp_path, speeds=True).comparisons if row.prompt_id is None]

    assert job.speculative is not None
    assert len(job.speculative.tokens_per_second.samples) == 6
    assert job.speculative.total_time_ms.samples == ()


@pytest.mark.usefixtures("in_slices", "small_groups")
def test_without_a_journal_a_large_samples_file_is_the_record_and_left_as_it_is(tmp_path: Path) -> None:
    paths = sweep(tmp_path)
    write_derived_files(tmp_path)
    before = files(tmp_path)
    paths.journal.unlink()
    stamp = paths.samples.stat().st_mtime_ns

    write_derived_files(tmp_path)

    assert before == {**files(tmp_path), "journal.jsonl": before["journal.jsonl"]}
    assert stamp == paths.samples.stat().st_mtime_ns


@pytest.mark.usefixtures("in_slices", "small_groups")
def test_in_slices_damaged_lines_are_reported_too(tmp_path: Path) -> None:
    paths = sweep(tmp_path)
    lines = paths.journal.read_bytes().splitlines(keepends=True)
    lines[5] = lines[5].replace(b"synthetic", b"synthesis")
    paths.journal.write_bytes(b"".join(lines)[:-9])

    result = write_derived_files(tmp_path)

    assert result.sample_count == 46
    assert [int(text.split("line ")[1].split(":")[0]) for text in result.damaged] == [6, 49]


@pytest.mark.usefixtures("in_slices", "small_groups")
@pytest.mark.parametrize("damaged", [[5], [0, 17, 33, 48], list(range(1, 49))])
def test_what_an_earlier_collation_kept_makes_up_for_a_large_damaged_journal(
    tmp_path: Path, damaged: list[int]
) -> None:
    paths = sweep(tmp_path)
    write_derived_files(tmp_path)
    before = files(tmp_path)
    lines = paths.journal.read_bytes().splitlines(keepends=True)
    for number in damaged:
        lines[number] = lines[number].replace(b"crc", b"crx")
    paths.journal.write_bytes(b"".join(lines))

    result = write_derived_files(tmp_path)

    assert {**files(tmp_path), "journal.jsonl": before["journal.jsonl"]} == before
    recovered = len([number for number in damaged if number])
    assert result.damaged[-1] == f"{recovered} of them recovered from samples.parquet"
    assert len(result.damaged) == len(damaged) + 1


def test_there_are_no_more_processes_than_memory_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_files, "_WORKER_BYTES", 1 << 60)

    assert job_files.most_workers() == 0


@pytest.mark.usefixtures("in_slices", "small_groups")
def test_several_processes_write_the_same_bytes_as_one(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    one = write_derived_files(sweep(tmp_path / "one").root)
    request.getfixturevalue("two_processes")
    several = write_derived_files(sweep(tmp_path / "several").root)

    assert files(tmp_path / "one") == files(tmp_path / "several")
    assert one.comparisons == several.comparisons == analyse(tmp_path / "several").comparisons


@pytest.mark.usefixtures("in_slices", "two_processes")
def test_what_goes_wrong_in_a_process_is_said(tmp_path: Path) -> None:
    paths = sweep(tmp_path)
    (tmp_path / "3").write_text("a file where a job's folder should be")

    with pytest.raises(StorageError) as caught:
        write_derived_files(paths.root)

    assert "move it away" in (caught.value.remedy or "")


@pytest.mark.usefixtures("in_slices", "two_processes")
def test_a_process_that_is_killed_leaves_a_sweep_that_can_be_collated_again(tmp_path: Path) -> None:
    paths, ended = sweep(tmp_path), threading.Event()
    killer = threading.Thread(target=kill_workers, args=(ended,))
    killer.start()
    try:
        with pytest.raises(StorageError) as caught:
            write_derived_files(paths.root)
    finally:
        ended.set()
        killer.join()

    assert "velosweep collate" in (caught.value.remedy or "")
    assert not paths.results.exists()


def kill_workers(ended: threading.Event) -> None:
    """As the system does when memory is short."""
    while not ended.wait(0.01):
        for child in psutil.Process().children():
            with suppress(psutil.NoSuchProcess):
                if any("popen_loky" in word for word in child.cmdline()):
                    child.kill()


@pytest.mark.usefixtures("in_slices")
def test_a_large_damaged_file_is_named(tmp_path: Path) -> None:
    paths = sweep(tmp_path)
    write_derived_files(tmp_path)
    paths.journal.unlink()
    content = bytearray(paths.samples.read_bytes())
    for place in range(100, 2000, 50):
        content[place] ^= 0xFF
    paths.samples.write_bytes(content)

    with pytest.raises(StorageError, match=r"samples\.parquet is damaged"):
        write_derived_files(tmp_path)


def test_nothing_measured_leaves_empty_files_of_the_right_form(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path)
    with Journal(paths.journal) as journal:
        journal.note("plan", blocks=[], accepted=[])
    write_record(paths.record, record())

    result = write_derived_files(tmp_path)

    assert list(result.summaries()) == [None, None, None]
    assert paths.summaries.read_text("utf-8") == "[]\n"
    assert (pq.read_table(paths.samples).num_rows, pq.read_table(paths.results).num_rows) == (0, 0)


def test_a_folder_without_samples_is_said_to_have_none(tmp_path: Path) -> None:
    write_record(SweepPaths(tmp_path).record, record())

    with pytest.raises(StorageError, match=r"No results at .*; name the folder of a sweep"):
        analyse(tmp_path)


def test_configuration_stands_in_the_files(tmp_path: Path) -> None:
    write_derived_files(sweep(tmp_path).root)

    metadata = pq.read_schema(tmp_path / "samples.parquet").metadata
    job = pq.read_schema(tmp_path / "4" / "samples.parquet").metadata

    assert b'"jobs":{"job0":["n_draft=4"]' in metadata[b"configuration"]
    assert b'"id":"other-job1"' in job[b"configuration"]
    assert isinstance(pq.read_table(tmp_path / "4" / "samples.parquet"), pa.Table)


def test_a_samples_file_that_was_cut_short_is_named(tmp_path: Path) -> None:
    paths = sweep(tmp_path)
    write_derived_files(tmp_path)
    paths.journal.unlink()
    paths.samples.write_bytes(paths.samples.read_bytes()[:-20])

    with pytest.raises(StorageError, match=r"samples\.parquet is damaged"):
        write_derived_files(tmp_path)


def outputs(root: Path, *names: str | None) -> dict[str, bytes]:
    """What is written to these `output`s of the first jobs, by name."""
    taken, asked = two_baselines()
    jobs = [replace(job, output=name and str(root / name)) for job, name in zip(asked.jobs, names, strict=False)]
    paths = journal_of(root / "sweep", [one for one in taken if one.job_id != "job2"])
    write_record(paths.record, replace(asked, jobs=(*jobs, *asked.jobs[len(jobs) :])))
    write_derived_files(paths.root)
    return {name: (root / name).read_bytes() for name in names if name and (root / name).is_file()}


def test_one_output_is_a_copy_of_that_jobs_summary(tmp_path: Path) -> None:
    written = outputs(tmp_path, None, "here/one.json")

    assert written == {"here/one.json": (tmp_path / "sweep" / "1" / "summary.json").read_bytes()}


def test_several_outputs_are_arrays_of_the_summaries_that_were_measured(tmp_path: Path) -> None:
    written = outputs(tmp_path, "two.json", "two.json", "absent.json", "other.json")

    n_drafts = {name: [one["config"]["n_draft"] for one in json.loads(text)] for name, text in written.items()}
    assert n_drafts == {"two.json": [4, 8], "other.json": [4]}


def test_a_job_that_was_compared_prompt_by_prompt_only_has_no_summary(tmp_path: Path) -> None:
    results = SweepResults(
        root=tmp_path,
        record=record(2),
        samples=None,
        sample_count=0,
        comparisons=[comparison(job_id="job0", prompt_id="quantum"), comparison(job_id="job1", prompt_id=None)],
        damaged=(),
    )

    assert list(results.summary_files()) == [None, tmp_path / "1" / "summary.json"]
