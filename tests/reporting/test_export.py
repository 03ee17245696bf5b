from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace

import pytest

from tests.reporting import sweeps
from velosweep.reporting.export import FORMATS, export


def exported(made: sweeps.MadeUp, form: str, *, show_paths: bool = False) -> str:
    return export(made.comparisons, made.record, form, show_paths=show_paths)


def test_markdown_has_the_answer_the_command_and_a_table() -> None:
    lines = exported(sweeps.default_sweep(), "md").splitlines()

    assert lines[0] == (
        "**Run the synthetic draft, n\\_draft 4: 2.07× faster (44.2 → 91.4 tok/s).** "
        "95 % sure of 2.03 to 2.09×, by 5 pairs of runs."
    )
    assert any(line.startswith("llama-server -m ~/.cache/") for line in lines)
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 1 + 3
    assert len({line.count("|") for line in table}) == 1
    assert lines[lines.index("```sh") - 1] == lines[lines.index("```") + 1] == ""
    assert lines[-3].startswith("- Draft: draft-1x1024")
    assert "llama.cpp b7130" in lines[-2]


def test_csv_has_every_row_with_full_precision() -> None:
    made = sweeps.large_sweep()

    rows = list(csv.DictReader(io.StringIO(exported(made, "csv"))))

    assert len(rows) == len(made.comparisons)
    assert float(rows[0]["speedup_geometric_mean"]) == made.comparisons[0].speedup_gm
    assert rows[0]["prompt_id"] == made.comparisons[0].prompt_id
    assert rows[-1]["prompt_id"] == ""
    assert rows[0]["verdict"] == "faster"


def test_csv_names_the_shown_speedup_first_and_calls_no_other_so() -> None:
    made = sweeps.default_sweep()
    made = replace(made, comparisons=[replace(made.comparisons[0], speedup_gm=1.25, speedup=1.2153)])

    (row,) = csv.DictReader(io.StringIO(exported(made, "csv")))

    speedups = [(name, row[name]) for name in row if name.startswith("speedup") and "stddev" not in name]
    assert speedups == [("speedup_geometric_mean", "1.25"), ("speedup_ratio_of_means", "1.2153")]


def test_json_has_answers_and_results_field_by_field() -> None:
    made = sweeps.default_sweep()

    value = json.loads(exported(made, "json"))

    assert value["answers"][0]["job_id"] == "job0"
    assert [row["n_draft"] for row in value["results"] if row["prompt_id"] is None] == [4, 8, 12]
    assert value["results"][0]["vanilla"]["tokens_per_second"]["mean"] > 0
    assert value["results"][0]["verdict"] == "faster"


@pytest.mark.parametrize("form", FORMATS)
def test_hostile_names_are_harmless_and_homes_are_shortened(form: str) -> None:
    text = exported(sweeps.hostile(), form)

    assert "\x1b" not in text
    for_programs = form in ("command", "preset", "llama-swap")  # which don't know what ~ is
    assert ("/home/somebody" in text) == for_programs
    if form != "row":  # which names files without their folders
        assert "/home/somebody" in exported(sweeps.hostile(), form, show_paths=True)


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_of_a_record_reaches_a_terminal_or_a_page_as_it_is(form: str) -> None:
    made = sweeps.default_sweep()
    attack = "\x1b]0;x\x07\x9b2J\u202e\n<b>[evil]"
    here = replace(made.record.environment, cpu=attack, system=attack, velosweep=attack, llama_cpp_build=attack)
    made = replace(
        made,
        record=replace(made.record, environment=here),
        comparisons=[
            replace(row, device=attack, llama_cpp_build=attack, prompt_set=attack) for row in made.comparisons
        ],
    )

    text = exported(made, form)

    assert re.findall("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text) == []
    assert not [line for line in text.splitlines() if line.startswith(("<b>", "[evil]"))]
    assert form not in ("md", "row") or "<b>" not in text.replace(r"\<b", "")


def test_the_key_of_a_server_is_not_passed_on() -> None:
    made = sweeps.default_sweep()
    key = "http://:s3cret@127.0.0.1:8080"
    made = replace(made, comparisons=[replace(row, main_model=key) for row in made.comparisons])

    assert "s3cret" not in exported(made, "csv")
    assert "http://:…@127.0.0.1:8080" in exported(made, "csv")


def test_a_sweep_without_results_says_so() -> None:
    assert export([], sweeps.default_sweep().record, "md").startswith("Nothing has been measured yet.\n")


def test_what_people_post_has_every_answer_that_the_screen_has() -> None:
    made, several = sweeps.default_sweep(), sweeps.large_sweep()
    loads = [replace(row, concurrency=2**place) for place, row in enumerate(made.jobs)]

    assert "**Pays at all measured, 1 stream to 4 streams.**" in export(loads, made.record, "md")
    assert "\nFastest of all: " in export(several.comparisons, several.record, "md", samples=several.samples)
    assert "Fastest of all" not in export(made.comparisons, made.record, "md")
