"""velosweep.load over a sweep, a job, a folder of sweeps; and the same files read by others."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import velosweep
from tests.results.made import comparison, job_record, journal_of, record, rounds, sample
from velosweep.errors import StorageError
from velosweep.results import parquet_files as samples
from velosweep.results.job_files import write_job_samples
from velosweep.results.loading import load_sweep_samples
from velosweep.results.parquet_files import COLUMNS, read_parquet, with_all_columns, write_samples
from velosweep.results.paths import SweepPaths
from velosweep.results.results_file import write_results
from velosweep.results.sweep_record import write_record


def write_sweep(root: Path, *, iterations: int = 4) -> SweepPaths:
    """A whole sweep's Parquet files: its own, and its jobs' copies."""
    paths = journal_of(root, rounds(iterations=iterations))
    table = load_sweep_samples(root)[0]
    write_record(paths.record, record())
    write_samples(paths.samples, table)
    write_job_samples(paths, record().jobs, table)
    write_results(paths.results, [comparison(job_id=f"job{job}", job_num=job) for job in range(3)], sweep_id="sweep")
    return paths


def test_a_sweep_gives_each_run_once(tmp_path: Path) -> None:
    write_sweep(tmp_path)

    assert velosweep.load(tmp_path).num_rows == 16


def test_a_jobs_folder_gives_its_results(tmp_path: Path) -> None:
    write_sweep(tmp_path)

    assert velosweep.load_results(tmp_path / "1")["job_id"].to_pylist() == ["job1"]
    assert velosweep.load_results(tmp_path / "1", filters=[("job_num", "=", 0)]).num_rows == 0
    with pytest.raises(StorageError, match="name the folder of a sweep, of a job"):
        velosweep.load_results(tmp_path / "2" / "nowhere")


def test_a_job_gives_the_rows_its_summary_was_computed_from(tmp_path: Path) -> None:
    write_sweep(tmp_path)

    table = velosweep.load(tmp_path / "1")

    assert {row["values"]: row["counts"] for row in table["job_id"].combine_chunks().value_counts().to_pylist()} == {
        "base": 4,
        "job1": 4,
    }


def test_a_jobs_file_has_the_same_columns_types_and_version_as_the_sweeps(tmp_path: Path) -> None:
    paths = write_sweep(tmp_path)

    whole, part = (
        with_all_columns(read_parquet(paths.samples)),
        with_all_columns(read_parquet(tmp_path / "1" / "samples.parquet")),
    )

    assert whole.schema.equals(part.schema)
    assert whole.schema.metadata[b"schema_version"] == part.schema.metadata[b"schema_version"]


def test_a_folder_of_sweeps_gives_each_sweep_once(tmp_path: Path) -> None:
    for day in ("2026-01-01/10-00-00", "2026-01-01/11-00-00", "2026-01-02/09-00-00"):
        write_sweep(tmp_path / day)

    assert velosweep.load(tmp_path).num_rows == 48
    assert velosweep.load_results(tmp_path).num_rows == 9


def test_an_interrupted_sweep_is_read_from_its_journal(tmp_path: Path) -> None:
    write_sweep(tmp_path / "whole")
    paths = journal_of(tmp_path / "cut", rounds(iterations=2))
    write_record(paths.record, record())

    assert velosweep.load(tmp_path).num_rows == 24
    assert velosweep.load(tmp_path / "cut").num_rows == 8
    assert velosweep.load(tmp_path / "cut", columns=["iteration"]).column_names == ["iteration"]


@pytest.mark.parametrize(
    "filters", [[("n_draft", "=", 8), ("status", "=", "ok")], (pc.field("n_draft") == 8) & (pc.field("status") == "ok")]
)
def test_filters_may_be_a_list_or_an_expression(tmp_path: Path, filters) -> None:
    write_sweep(tmp_path / "parquet")
    write_record(journal_of(tmp_path / "journal", rounds()).record, record())

    table = velosweep.load(tmp_path, filters=filters, columns=["job_id", "n_draft"])

    assert table.to_pylist() == [{"job_id": "job1", "n_draft": 8}] * 8


def test_where_nothing_is_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no samples\.parquet in it; name the folder"):
        velosweep.load(tmp_path)
    with pytest.raises(StorageError, match="no such folder"):
        velosweep.load_results(tmp_path / "absent")


def test_another_file_than_asked_for_is_no_damage_and_not_empty(tmp_path: Path) -> None:
    paths = write_sweep(tmp_path)
    other = tmp_path / "README.md"
    other.write_text("# words\n")

    for read, file, name in [
        (velosweep.load, paths.results, "samples.parquet"),
        (velosweep.load, other, "samples.parquet"),
        (velosweep.load_results, paths.samples, "results.parquet"),
        (velosweep.load_results, paths.journal, "results.parquet"),
    ]:
        with pytest.raises(StorageError, match=f"{re.escape(str(file))} is no {name}; name the folder of a sweep"):
            read(file)


def test_lines_of_a_damaged_journal_are_not_lost_in_silence(tmp_path: Path) -> None:
    paths = write_sweep(tmp_path)
    lines = paths.journal.read_bytes().splitlines(keepends=True)
    paths.journal.write_bytes(b"".join([*lines[:-1], lines[-1].replace(b"1", b"2")]))

    with pytest.warns(UserWarning, match="is damaged: of 1 lines nothing is loaded"):
        rows = velosweep.load(paths.journal).num_rows

    assert rows == len(lines) - 2


def test_an_unknown_column_is_named_with_those_that_exist(tmp_path: Path) -> None:
    write_sweep(tmp_path)

    with pytest.raises(StorageError, match=r"No column 'speed'.*tokens_per_second"):
        velosweep.load(tmp_path, columns=["speed"])


def test_a_damaged_file_among_many_is_named(tmp_path: Path) -> None:
    write_sweep(tmp_path / "good")
    bad = write_sweep(tmp_path / "bad").samples
    bad.write_bytes(bad.read_bytes()[:500])

    with pytest.raises(StorageError, match=r"bad/samples\.parquet is damaged"):
        velosweep.load(tmp_path)


def test_damaged_journal_lines_are_reported_and_the_rest_collected(tmp_path: Path) -> None:
    paths = journal_of(tmp_path, [sample(0), sample(1)])
    paths.journal.write_bytes(paths.journal.read_bytes()[:-10])

    table, damaged = load_sweep_samples(tmp_path)

    assert table.num_rows == 1
    assert damaged == ("journal.jsonl, line 3: torn: the write was cut short",)


def test_what_an_earlier_collation_kept_makes_up_for_a_damaged_journal(tmp_path: Path) -> None:
    paths = write_sweep(tmp_path)
    whole = load_sweep_samples(tmp_path)[0]
    content = bytearray(paths.journal.read_bytes())
    content[len(content) // 2] ^= 1
    paths.journal.write_bytes(content)

    table, damaged = load_sweep_samples(tmp_path)

    assert whole.equals(table)
    assert damaged[-1] == "1 of them recovered from samples.parquet"


def test_a_damaged_journal_beside_a_damaged_samples_file_gives_what_the_journal_has(tmp_path: Path) -> None:
    paths = write_sweep(tmp_path)
    paths.journal.write_bytes(paths.journal.read_bytes()[:-10])
    paths.samples.write_bytes(b"PAR1")

    table, damaged = load_sweep_samples(tmp_path)

    assert table.num_rows == 15
    assert "none of them could be recovered from samples.parquet" in damaged[-1]


def test_pandas_polars_and_duckdb_read_the_folder_as_it_is(tmp_path: Path) -> None:
    import duckdb
    import pandas
    import polars

    write_sweep(tmp_path / "outputs" / "2026-01-01" / "10-00-00")
    file = tmp_path / "outputs" / "2026-01-01" / "10-00-00" / "samples.parquet"
    glob = f"{tmp_path}/outputs/**/samples.parquet"
    mean = pc.mean(velosweep.load(tmp_path)["tokens_per_second"]).as_py()

    assert mean == pytest.approx(pandas.read_parquet(file)["tokens_per_second"].mean())
    assert mean == pytest.approx(polars.read_parquet(file)["tokens_per_second"].mean())
    # A sweep's jobs keep copies of its rows: over everything, a run is counted once by `distinct`.
    everything = polars.scan_parquet(glob).unique().select("tokens_per_second").mean().collect().item()
    assert mean == pytest.approx(everything)
    query = f"select (select count(*) from '{glob}'), (select count(*) from (select distinct * from '{glob}'))"
    assert duckdb.connect().execute(query).fetchall() == [(16 + 3 * 8, 16)]


def test_a_job_that_shares_a_baseline_takes_the_vanilla_runs_of_its_blocks_only(tmp_path: Path) -> None:
    taken = [
        sample(0, block=0),
        sample(1, block=0, job_id="job0", job_num=0),
        sample(2, block=1),
        sample(3, block=1, job_id="job1", job_num=1),
    ]
    journal_of(tmp_path, taken)
    write_job_samples(SweepPaths(tmp_path), [job_record(0), job_record(1)], load_sweep_samples(tmp_path)[0])

    assert velosweep.load(tmp_path / "0")["order"].to_pylist() == [0, 1]
    assert velosweep.load(tmp_path / "1")["order"].to_pylist() == [2, 3]


def test_a_job_has_the_rows_that_there_are_of_itself_and_of_its_baseline(tmp_path: Path) -> None:
    taken = [sample(0, block=0), sample(1, block=1), sample(2, block=0, job_id="job0", job_num=0)]
    journal_of(tmp_path, taken)
    jobs = [job_record(0, baseline_id="nobody"), job_record(1), job_record(2, id="base")]
    write_job_samples(SweepPaths(tmp_path), jobs, load_sweep_samples(tmp_path)[0])

    orders = [velosweep.load(tmp_path / job.directory)["order"].to_pylist() for job in jobs]
    assert orders == [[2], [0, 1], [0, 1]]


@pytest.mark.parametrize(
    "filters",
    [
        [("job_id", "=", "job1")],
        [("job_id", "in", ["job1", "base"]), ("order", ">", 9)],
        [("prompt", "=", "nothing like it")],
        pc.match_substring(pc.field("main_model"), "model") & (pc.field("iteration") == 2),
        pc.field("prompt_category").is_null(),
    ],
)
def test_a_filter_gives_the_same_rows_of_a_file_of_many_row_groups(
    tmp_path: Path, filters, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write_sweep(tmp_path / "whole").root
    monkeypatch.setattr(samples, "ROW_GROUP", 3)
    divided = write_sweep(tmp_path / "divided").root

    assert pq.ParquetFile(divided / "samples.parquet").num_row_groups == 6
    expression = filters if isinstance(filters, pc.Expression) else pq.filters_to_expression(filters)
    expected = velosweep.load(whole).filter(expression)
    assert expected.equals(velosweep.load(divided, filters=filters))
    some = velosweep.load(divided, filters=filters, columns=["order", "prompt"])
    assert expected.select(["order", "prompt"]).equals(some)


def test_row_groups_without_a_matching_row_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "ROW_GROUP", 6)
    write_sweep(tmp_path)
    file = tmp_path / "samples.parquet"
    group = pq.ParquetFile(file).metadata.row_group(0)
    assert velosweep.load(tmp_path)["job_id"][:6].to_pylist() == ["base"] * 4 + ["job0"] * 2
    content = bytearray(file.read_bytes())
    damaged = group.column(list(COLUMNS).index("tokens_per_second"))
    for place in range(damaged.total_compressed_size):
        content[(damaged.dictionary_page_offset or damaged.data_page_offset) + place] ^= 0xFF
    file.write_bytes(content)

    # Between the group's least and greatest, as hashes are: only the ids themselves tell.
    assert velosweep.load(tmp_path, filters=[("job_id", "in", ["elsewhere", "job2"])]).num_rows == 4
    with pytest.raises(StorageError, match="damaged"):
        velosweep.load(tmp_path, filters=[("job_id", "=", "base")])


@pytest.mark.parametrize(
    ("column", "values"), [("n_draft", ["x"]), ("job_num", [2**62]), ("job_num", [float("nan")]), ("mode", [{"a": 1}])]
)
def test_columns_of_other_kinds_are_damage(column: str, values: list[object], tmp_path: Path) -> None:
    paths = write_sweep(tmp_path)
    table = read_parquet(paths.samples)
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array(values * table.num_rows)), paths.samples)
    paths.journal.unlink()

    with pytest.raises(StorageError, match=r"samples\.parquet is damaged"):
        load_sweep_samples(tmp_path)
