"""results.parquet: one row a job and prompt, and one a job."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.results.made import comparison
from velosweep.errors import StorageError
from velosweep.results.loading import load_results
from velosweep.results.parquet_files import read_parquet
from velosweep.results.results_file import COLUMNS, results_schema, write_results
from velosweep.statistics.comparison import Acceptance
from velosweep.values import Verdict

CONTRACT = """
prompt_id n_pairs vanilla_tokens_per_second_mean speculative_total_time_ms_max speedup speedup_stddev speedup_gm
ci_low ci_high ci_method acceptance acceptance_low acceptance_high alpha tokens_per_round cost_ratio
expected_speedup verdict findings
"""


def test_the_contracts_columns_are_there_in_its_order() -> None:
    wanted = CONTRACT.split()

    assert wanted == [name for name in COLUMNS if name in wanted]


def test_each_mode_has_four_figures_of_three_metrics() -> None:
    of_modes = [name for name in COLUMNS if name.startswith(("vanilla_", "speculative_"))]

    assert len(of_modes) == 24


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    acceptance = Acceptance(
        rate=0.7, low=0.6, high=0.8, interval_unit="prompts", alpha=0.85, tokens_per_round=3.1, per_position=(0.9, 0.5)
    )
    rows = [comparison(acceptance=acceptance), comparison(prompt_id="quantum", verdict=Verdict.INVALID, vanilla=None)]
    write_results(tmp_path / "results.parquet", rows, sweep_id="sweep", states={"job1": "done"})

    table = read_parquet(tmp_path / "results.parquet")
    whole, prompt = table.to_pylist()

    assert results_schema().equals(table.schema, check_metadata=True)
    assert (whole["prompt_id"], whole["acceptance"], whole["alpha"], whole["acceptance_per_position"]) == (
        None,
        0.7,
        0.85,
        [0.9, 0.5],
    )
    assert (
        whole["vanilla_tokens_per_second_mean"],
        whole["vanilla_tokens_per_second_stddev"],
        whole["speculative_tokens_per_second_mean"],
    ) == (28.428, 0.073, 67.18)
    assert (whole["sweep_id"], whole["state"]) == ("sweep", "done")
    assert whole["findings"] == ["outlier(vanilla: z=12.5)"]
    assert (prompt["prompt_id"], prompt["verdict"], prompt["vanilla_tokens_per_second_mean"]) == (
        "quantum",
        "invalid",
        None,
    )


def test_the_same_comparisons_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_results(tmp_path / name, [comparison()], sweep_id="sweep")

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.parquet"
    write_results(path, [comparison()], sweep_id="sweep")
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(StorageError, match=r"results\.parquet is damaged"):
        read_parquet(path)


def test_whatever_else_was_swept_is_a_column_at_the_end_with_defaults_filled_in(tmp_path: Path) -> None:
    rows = [
        comparison(job_id="a"),
        comparison(job_id="b", settings={"engine.cache_type_k": "q8_0", "speculation.p_min": 0.5, "engine.threads": 1}),
    ]
    write_results(tmp_path / "results.parquet", rows, sweep_id="s")

    table = read_parquet(tmp_path / "results.parquet")

    assert table.column_names[len(COLUMNS) :] == ["engine_cache_type_k", "speculation_p_min", "engine_threads"]
    assert table["engine_cache_type_k"].to_pylist() == ["f16", "q8_0"]
    assert table["speculation_p_min"].to_pylist() == [0.0, 0.5]
    assert table["engine_threads"].to_pylist() == [None, 1]


def test_what_has_a_column_of_its_own_is_no_further_one(tmp_path: Path) -> None:
    rows = [
        comparison(job_id="a", prompt="why?", settings={"prompt": "why?"}),
        comparison(job_id="b", prompt="who?", settings={"prompt": "who?"}, main_model="/models/other.gguf"),
    ]
    write_results(tmp_path / "results.parquet", rows, sweep_id="s")

    assert read_parquet(tmp_path / "results.parquet").column_names == list(COLUMNS)


def test_whole_and_broken_numbers_of_one_setting_are_a_column_of_numbers(tmp_path: Path) -> None:
    rows = [comparison(job_id=str(value), settings={"sampling.temperature": value}) for value in (1, 0.5)]
    write_results(tmp_path / "results.parquet", rows, sweep_id="s")

    assert read_parquet(tmp_path / "results.parquet")["sampling_temperature"].to_pylist() == [1.0, 0.5]


def test_sweeps_that_vary_other_settings_are_loaded_together(tmp_path: Path) -> None:
    for name, values in {
        "one": ({}, {"engine.threads": 2}),
        "two": ({"engine.threads": 2}, {"engine.mmap": False}),
    }.items():
        (tmp_path / name).mkdir()
        rows = [comparison(job_id=str(number), settings=settings) for number, settings in enumerate(values)]
        write_results(tmp_path / name / "results.parquet", rows, sweep_id=name)

    table = load_results(tmp_path)

    assert table["engine_threads"].to_pylist() == [None, 2, 2, None]
    assert table["engine_mmap"].to_pylist() == [None, None, True, False]
    assert load_results(tmp_path, columns=["engine_mmap"]).column_names == ["engine_mmap"]
