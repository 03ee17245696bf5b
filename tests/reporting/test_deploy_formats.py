"""A sweep's answer for servers, and the rows that people post."""

from __future__ import annotations

import configparser
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.reporting import sweeps
from tests.reporting.test_recommendation import searched
from velosweep.errors import ConfigError, NothingMeasured, StorageError
from velosweep.reporting.deploy_formats import command_text, llama_swap_text, preset_text
from velosweep.reporting.posted_rows import own_rows, read_rows, row_text
from velosweep.reporting.recommendation import recommend
from velosweep.values import Verdict

ARGUMENTS = ("-m", "/m/a model.gguf", "-md", "/m/d.gguf", "-c", "4096", "--jinja", "--spec-draft-p-min", "-0.5", "-fa")


def answered(*, faster: bool = True) -> sweeps.MadeUp:
    """A sweep whose answer runs with ARGUMENTS, or without speculation."""
    made = sweeps.default_sweep()
    commands = {
        "server_arguments": ARGUMENTS,
        "vanilla_arguments": ("-m", "/m/a model.gguf"),
        "server_program": "/b/llama-server",
    }
    jobs = tuple(replace(job, **commands) for job in made.record.jobs)
    rows = made.comparisons
    if not faster:
        slower = {"verdict": Verdict.SLOWER, "speedup_gm": 0.8, "ci_low": 0.7, "ci_high": 0.9, "chosen_low": None}
        rows = [replace(row, **slower) for row in rows]
    return replace(made, record=replace(made.record, jobs=jobs), comparisons=rows)


def test_a_preset_has_the_arguments_without_their_dashes() -> None:
    made = answered()
    read = configparser.ConfigParser()
    read.read_string(f"[top]\n{preset_text(made.comparisons, made.record)}")

    (name,) = read.sections()[1:]
    assert dict(read[name]) == {
        "m": "/m/a model.gguf",
        "md": "/m/d.gguf",
        "c": "4096",
        "jinja": "true",
        "spec-draft-p-min": "-0.5",
        "fa": "true",
    }


@pytest.mark.parametrize("path", ["/m/a\n[evil]\nx = y.gguf", "/m/a\x1b[201~; x\x1b[200~.gguf", "/m/a\u202e.gguf"])
@pytest.mark.parametrize("form", [command_text, preset_text, llama_swap_text])
def test_a_command_that_would_act_where_it_is_shown_is_refused(form, path: str) -> None:
    made = answered()
    jobs = tuple(replace(job, server_arguments=("-m", path)) for job in made.record.jobs)

    with pytest.raises(ConfigError, match="has a control character in /m/a"):
        form(made.comparisons, replace(made.record, jobs=jobs))


def test_llama_swap_gets_the_command_with_its_own_port() -> None:
    made = answered()

    (entry,) = yaml.safe_load(llama_swap_text(made.comparisons, made.record))["models"].values()

    assert shlex.split(entry["cmd"]) == ["/b/llama-server", "--port", "${PORT}", *ARGUMENTS]


def test_where_nothing_is_faster_the_server_gets_no_speculation() -> None:
    made = answered(faster=False)

    assert command_text(made.comparisons, made.record) == "/b/llama-server -m '/m/a model.gguf'\n"
    assert "no speculation (the best setting was 0.80× [0.70, 0.90])" in preset_text(made.comparisons, made.record)


def test_where_nothing_was_drafted_the_server_gets_no_speculation() -> None:
    made = answered()
    idle = [replace(row, drafted=False) for row in made.comparisons]

    assert command_text(idle, made.record) == "/b/llama-server -m '/m/a model.gguf'\n"
    assert "no speculation (nothing was drafted)" in preset_text(idle, made.record)
    one_failed = [replace(row, vanilla=None) if row.n_draft == 4 else row for row in idle]
    with pytest.raises(NothingMeasured):
        command_text(one_failed, made.record)


def test_without_an_answer_there_is_no_command() -> None:
    made = answered()

    with pytest.raises(NothingMeasured):
        command_text([], made.record)


def test_a_posted_row_is_read_back_as_it_was(tmp_path: Path) -> None:
    made = sweeps.default_sweep()
    other = "| a | b |\n|---|---|\n| 1 | 2 |\n"
    (tmp_path / "rows.md").write_text(f"Look:\n\n{row_text(made.comparisons, made.record)}\n{other}")

    (row,) = read_rows(tmp_path / "rows.md")

    best = own_rows(made.comparisons, made.record)[0]
    assert row == best
    assert (best["n_draft"], best["speedup"], best["KV"], best["context"]) == ("4", "2.07×", "f16/f16", "4096")


def test_of_a_search_only_the_answer_is_posted_with_its_confirmed_speedup() -> None:
    made = sweeps.default_sweep()
    slowest = min(made.jobs, key=lambda job: job.speedup_gm or 0)
    record = replace(made.record, searches=(searched(slowest.job_id),))

    (row,) = own_rows(made.comparisons, record)

    assert (row["n_draft"], row["speedup"], row["pairs"]) == (str(slowest.n_draft), "1.40×", "6")


def test_what_drafted_nothing_is_no_row_to_post() -> None:
    made = sweeps.default_sweep()
    idle = [replace(row, drafted=False) if row.n_draft == 4 else row for row in made.comparisons]

    assert {row["n_draft"] for row in own_rows(idle, made.record)} == {"8", "12"}


def test_rows_of_others_may_lack_columns_and_have_more(tmp_path: Path) -> None:
    (tmp_path / "rows.md").write_text(
        "| speedup | device | note | model |\n|:--|--:|:-:|---|\n| 1.9× | RTX \\| 3090 | mine | Qwen |\n"
    )

    assert read_rows(tmp_path / "rows.md") == [
        {"speedup": "1.9×", "device": "RTX | 3090", "note": "mine", "model": "Qwen"}
    ]


def test_an_empty_cell_keeps_its_place_in_whatever_way_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "rows.md").write_text("|note|device|model|speedup|draft|\n|-|-|-|-|-|\n||RTX 3090|Qwen|1.9×||\n")

    (row,) = read_rows(tmp_path / "rows.md")

    assert row == {"note": "", "device": "RTX 3090", "model": "Qwen", "speedup": "1.9×", "draft": ""}


def test_a_file_without_rows_is_refused_with_what_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "rows.md").write_text("| a | b |\n|---|---|\n| 1 | 2 |\n")

    with pytest.raises(StorageError) as caught:
        read_rows(tmp_path / "rows.md")
    assert "device, model, speedup" in str(caught.value)


def test_of_attached_servers_no_command_is_claimed() -> None:
    made = answered()
    attached = [replace(row, engine="attached") for row in made.comparisons]

    assert [answer.command for answer in recommend(attached, made.record)] == [None]
    with pytest.raises(ConfigError, match="with which arguments they had been started is not known"):
        command_text(attached, made.record)


def test_a_row_claims_no_settings_of_somebody_elses_server() -> None:
    made = answered()
    (row, *_) = own_rows([replace(row, engine="attached") for row in made.comparisons], made.record)

    assert (row["context"], row["KV"], row["llama.cpp"].split()[0]) == ("", "", "attached")
