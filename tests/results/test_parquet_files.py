"""samples.parquet has the data contract's columns, and says so when it is not to be trusted."""

from __future__ import annotations

import errno
import random
import re
from dataclasses import fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.results.made import journal_of, rounds, sample
from tests.strategies import samples_to_table
from velosweep.errors import SchemaError, StorageError
from velosweep.results.journal_table import in_canonical_order
from velosweep.results.loading import load_sweep_samples
from velosweep.results.parquet_files import (
    COLUMNS,
    damaged_parquet,
    read_parquet,
    samples_schema,
    with_all_columns,
    write_samples,
)
from velosweep.values import Sample

# The data contract, word for word.
CONTRACT = """
`sweep_id, job_id string; job_num int32`; `model_pair, main_model, draft_model string; speculation string;
n_draft, n_predict int32; prompt_set, prompt_id, prompt, prompt_category string`; `mode string`; `iteration int32,
order int32, launch int32, warmup bool`; `status string, error string`; `tokens_per_second, time_to_first_token_ms,
total_time_ms double`; `prompt_tokens, predicted_tokens int32, prompt_ms, predicted_ms double`; `draft_tokens,
accepted_tokens int32, accepted_per_position list<int32>`; `output_sha256 string, first_divergence int32`;
`started_at timestamp[us, UTC]`; `lane int32, device, host, engine, llama_cpp_build string`; `gpu_temperature_c,
gpu_clock_mhz, gpu_power_w, energy_j, load_average double`
"""


def contract_columns() -> dict[str, str]:
    """Names wait for the type that follows them."""
    found: dict[str, str] = {}
    waiting: list[str] = []
    types = r"string|int32|bool|double|list<int32>|timestamp\[us, UTC\]"
    for word in re.findall(rf"(?:{types})(?![\w>])|\w+", CONTRACT):
        if re.fullmatch(types, word):
            found.update(dict.fromkeys(waiting, word))
            waiting = []
        else:
            waiting.append(word)
    return found


def test_columns_are_the_contracts_in_its_order() -> None:
    contract = contract_columns()

    assert len(contract) == 43
    assert list(contract.items()) == list(COLUMNS.items())[: len(contract)]


def test_a_sample_has_the_same_fields_in_the_same_order() -> None:
    assert [field.name for field in fields(Sample)] == list(COLUMNS)


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    table = samples_to_table(rounds())
    write_samples(tmp_path / "samples.parquet", table)

    back = with_all_columns(read_parquet(tmp_path / "samples.parquet"))

    assert samples_schema().equals(back.schema, check_metadata=True)
    assert table.equals(back)


def test_a_table_from_the_journal_is_the_table_from_the_samples(tmp_path: Path) -> None:
    taken = [*rounds(), sample(50, error='quoted "text"\nand a line', prompt="Grüße 🙂", tokens_per_second=0.1 + 0.2)]
    journal_of(tmp_path, taken)

    assert in_canonical_order(samples_to_table(taken)).equals(load_sweep_samples(tmp_path)[0])


def test_bytes_depend_on_the_rows_alone(tmp_path: Path) -> None:
    taken = rounds(jobs=4, iterations=6)
    shuffled = random.Random(7).sample(taken, len(taken))
    pieces = pa.concat_tables([samples_to_table(shuffled[:5]), samples_to_table(shuffled[5:])])

    write_samples(tmp_path / "a.parquet", in_canonical_order(samples_to_table(taken)))
    write_samples(tmp_path / "b.parquet", in_canonical_order(pieces))

    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_columns_that_an_older_program_did_not_write_are_null(tmp_path: Path) -> None:
    table = samples_to_table(rounds()).drop_columns(["energy_j", "block", "rounds"])
    pq.write_table(table, tmp_path / "old.parquet")

    back = with_all_columns(read_parquet(tmp_path / "old.parquet"))

    assert samples_schema().names == back.column_names
    assert back.num_rows == back["energy_j"].null_count
    assert {0} == set(back["block"].to_pylist())


def test_a_newer_file_is_refused_with_a_word(tmp_path: Path) -> None:
    table = samples_to_table(rounds()).replace_schema_metadata({"schema_version": "99"})
    pq.write_table(table, tmp_path / "new.parquet")

    with pytest.raises(SchemaError, match=r"schema 99.*upgrade velosweep"):
        with_all_columns(read_parquet(tmp_path / "new.parquet"))


def test_a_file_of_another_program_is_not_taken_for_ours(tmp_path: Path) -> None:
    pq.write_table(pa.table({"job_id": ["a"]}), tmp_path / "other.parquet")

    with pytest.raises(StorageError, match="not a file of velosweep"):
        with_all_columns(read_parquet(tmp_path / "other.parquet"))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_named_with_its_cure(tmp_path: Path, share: float) -> None:
    path = tmp_path / "samples.parquet"
    write_samples(path, samples_to_table(rounds()))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])

    with pytest.raises(StorageError, match=r"samples\.parquet is damaged.*velosweep collate"):
        with_all_columns(read_parquet(path))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("Couldn't decode\nat byte 7"), "a/b.parquet is damaged or no Parquet file (Couldn't decode)"),
        (ValueError("x" * 201), f"a/b.parquet is damaged or no Parquet file ({'x' * 200})"),
        (KeyError(), "a/b.parquet is damaged or no Parquet file (KeyError)"),
        (OSError("page 3"), "a/b.parquet is damaged or no Parquet file (page 3)"),
        (PermissionError(errno.EACCES, "Permission denied"), "Can't read a/b.parquet: Permission denied"),
    ],
)
def test_of_an_error_the_first_line_is_said(error: Exception, said: str) -> None:
    assert str(damaged_parquet(Path("a/b.parquet"), error)).partition("; ")[0] == said


def test_damage_inside_a_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "samples.parquet"
    write_samples(path, samples_to_table(rounds(iterations=50)))
    content = bytearray(path.read_bytes())
    for place in range(200, len(content) // 2, 97):
        content[place] ^= 0x10
    path.write_bytes(content)

    with pytest.raises(StorageError, match="damaged"):
        with_all_columns(read_parquet(path))


def test_one_wrong_bit_of_a_figure_is_noticed(tmp_path: Path) -> None:
    path, any_speed = tmp_path / "samples.parquet", random.Random(5)
    speeds = [sample(number, tokens_per_second=any_speed.random()) for number in range(99)]
    write_samples(path, samples_to_table(speeds))
    column = list(COLUMNS).index("tokens_per_second")
    place = pq.read_metadata(path).row_group(0).column(column)
    content = bytearray(path.read_bytes())
    content[place.data_page_offset + place.total_compressed_size // 2] ^= 1
    path.write_bytes(content)

    with pytest.raises(StorageError, match="damaged"):
        read_parquet(path)


def test_columns_that_an_earlier_version_lacks_have_what_it_always_did() -> None:
    """Its runs were first attempts of one request at a time, in the first group of servers, at no depth."""
    old = pa.table({"job_id": ["base", "job"]})

    read = with_all_columns(old)

    known = [read[name].to_pylist() for name in ("block", "attempt", "concurrency", "depth")]
    assert known == [[0, 0], [0, 0], [1, 1], [0, 0]]
    assert read["energy_j"].null_count == 2
