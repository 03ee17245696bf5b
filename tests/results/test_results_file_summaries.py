"""summary.json is the specification's object, no more and no less."""

from __future__ import annotations

import json
import math
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.results.made import comparison, mode_statistics, statistics
from velosweep.results.paths import JobPaths
from velosweep.results.results_file import summary, to_json, write_job_summaries, write_summary_array

GOLDEN = Path(__file__).parents[1] / "golden" / "summary.json"


def test_the_specifications_example_is_written_as_it_prints_it(tmp_path: Path) -> None:
    write_job_summaries(JobPaths(tmp_path), [comparison()], iterations=5)

    assert GOLDEN.read_bytes() == (tmp_path / "summary.json").read_bytes()


def test_what_was_not_measured_is_null() -> None:
    alone = comparison(vanilla=None, speedup=None, speedup_stddev=None, finished_at=None)

    value = summary(alone, iterations=5)

    assert [value[key] for key in ("vanilla", "speedup", "speedup_stddev", "timestamp")] == [None] * 4
    assert list(json.loads(GOLDEN.read_text("utf-8"))) == list(value)


def test_the_time_is_of_utc() -> None:
    finished = datetime(2026, 1, 27, 1, 30, tzinfo=timezone(timedelta(hours=2)))

    assert summary(comparison(finished_at=finished), iterations=5)["timestamp"] == "2026-01-26T23:30:00Z"


def test_one_sample_has_no_standard_deviation() -> None:
    once = comparison(vanilla=mode_statistics(statistics(28.4, mean=28.4, stddev=None)))

    assert '"stddev": null,\n      "min": 28.4' in to_json(summary(once, iterations=1))


def test_a_set_of_several_prompts_is_named_by_its_name() -> None:
    value = summary(comparison(prompt=None, prompt_set="mixed"), iterations=5)

    assert value["config"]["prompt"] == "mixed"  # type: ignore[index]


def test_objects_are_indented_by_two_spaces_and_every_value_is_json() -> None:
    value = {"a": {"b": True, "c": None}, "d": "Grüße", "e": 3, "f": [1.5, 2]}

    assert (
        to_json(value)
        == """{
  "a": {
    "b": true,
    "c": null
  },
  "d": "Grüße",
  "e": 3,
  "f": [1.5, 2]
}"""
    )


def test_figures_keep_every_digit() -> None:
    assert to_json([0.1, 0.1 + 0.2, 1e-7, 3521.0]) == "[0.1, 0.30000000000000004, 1e-7, 3521.0]"


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_figures_are_on_one_line_and_read_back_as_they_were(figures: list[float]) -> None:
    text = to_json(figures)

    assert json.loads(text) == figures
    assert text.count(", ") == text.count(",") == max(0, len(figures) - 1)


def test_many_figures_with_one_that_is_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json([*[0.5] * 32, math.inf])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.dictionaries(st.from_regex(r"[a-z_]+", fullmatch=True), inner),
        max_leaves=30,
    )
)
def test_the_layout_changes_no_value(value: object) -> None:
    assert value == json.loads(to_json(value))


@pytest.mark.parametrize("figure", [math.nan, math.inf, -math.inf])
def test_a_figure_that_is_not_finite_is_never_written(figure: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"mean": figure})


def test_several_prompts_have_a_file_each_whatever_they_are_called(tmp_path: Path) -> None:
    names = ["quantum", "../../etc/passwd", ".hidden", "a/b", "Grüße"]
    by_prompt = [comparison(prompt_id=name, prompt=name) for name in names]

    write_job_summaries(JobPaths(tmp_path / "job"), [*by_prompt, comparison()], iterations=5)

    written = {path.name for path in (tmp_path / "job" / "prompts").iterdir()}
    changed = {re.sub(r"-[0-9a-f]{12}(?=\.json$)", "", name) for name in written - {"Grüße.json", "quantum.json"}}
    assert (len(written), changed) == (5, {"_.._etc_passwd.json", "a_b.json", "hidden.json"})
    assert [path.name for path in tmp_path.iterdir()] == ["job"]


def test_two_prompts_have_a_file_each(tmp_path: Path) -> None:
    rows = [comparison(prompt_id="quantum"), comparison(prompt_id="sort"), comparison()]

    write_job_summaries(JobPaths(tmp_path), rows, iterations=5)

    assert sorted(path.name for path in (tmp_path / "prompts").iterdir()) == ["quantum.json", "sort.json"]


def test_one_prompt_has_no_file_of_its_own(tmp_path: Path) -> None:
    write_job_summaries(JobPaths(tmp_path), [comparison(prompt_id="quantum"), comparison()], iterations=5)

    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_a_job_that_was_not_compared_as_a_whole_has_no_files(tmp_path: Path) -> None:
    write_job_summaries(JobPaths(tmp_path), [comparison(prompt_id="quantum")], iterations=5)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [0, 1, 3])
def test_summaries_are_one_array_laid_out_as_json_lays_it_out(tmp_path: Path, count: int) -> None:
    write_job_summaries(JobPaths(tmp_path), [comparison(prompt="two\nlines")], iterations=5)

    write_summary_array(tmp_path / "summaries.json", [tmp_path / "summary.json"] * count)

    text = (tmp_path / "summaries.json").read_text("utf-8")
    assert [json.loads((tmp_path / "summary.json").read_text("utf-8"))] * count == json.loads(text)
    on_one_line = re.sub(
        r"(?<=\[)\s+([^][{}]*?)\s+(?=\])", lambda found: re.sub(r"\s+", " ", found[1]), _indented(text)
    )
    assert text == on_one_line


def _indented(text: str) -> str:
    return json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"
