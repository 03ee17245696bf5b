"""sweep.json says what was asked and where it ran, and is read back as it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.reporting.test_search_words import answer
from tests.results.made import environment, job_record, record
from velosweep.config.settings import TunerSettings
from velosweep.errors import SchemaError, StorageError
from velosweep.machine.environment import collect_environment
from velosweep.records import ModelFile
from velosweep.reporting.search_words import search_record
from velosweep.results.sweep_record import SweepOutcome, read_record, write_record
from velosweep.values import Device


def test_a_record_is_read_back_as_it_was(tmp_path: Path) -> None:
    full = replace(
        environment(),
        devices=(Device(kind="cuda", name="GPU", index=0, memory_bytes=1 << 34),),
        models=(ModelFile(path="/m.gguf", size_bytes=5, fingerprint="f"),),
    )
    one = record(
        environment=full,
        tuner=TunerSettings(),
        advised=("job0",),
        searches=(search_record(answer()),),
        jobs=(job_record(0, adaptive_target=0.01, error="no room", state="failed"),),
    )
    write_record(tmp_path / "sweep.json", one)

    assert one == read_record(tmp_path / "sweep.json")


def test_its_schema_version_comes_first(tmp_path: Path) -> None:
    write_record(tmp_path / "sweep.json", record())

    assert next(iter(json.loads((tmp_path / "sweep.json").read_text("utf-8")).items())) == ("schema_version", 1)


def test_keys_of_a_newer_program_and_missing_optional_ones_are_no_error(tmp_path: Path) -> None:
    path = tmp_path / "sweep.json"
    write_record(path, record())
    content = json.loads(path.read_text("utf-8"))
    content["later"] = 1
    del content["jobs"][0]["target_speedup"]
    path.write_text(json.dumps(content), "utf-8")

    assert record() == read_record(path)


def test_a_record_from_before_that_was_kept_was_shared_out_where_its_groups_are(tmp_path: Path) -> None:
    path = tmp_path / "sweep.json"
    write_record(path, record())
    content = json.loads(path.read_text("utf-8"))
    del content["shared_out"]
    path.write_text(json.dumps(content), "utf-8")

    here = read_record(path)
    (tmp_path / ".groups").mkdir()

    assert (here.shared_out, read_record(path).shared_out) == (False, True)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sweep.json"
    write_record(path, record(schema_version=2))

    with pytest.raises(SchemaError, match="schema 2"):
        read_record(path)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "[" * 9999, "{}", '{"schema_version": 1}', '{"schema_version": "x"}', "null"]
)
def test_a_damaged_record_is_named_with_what_can_be_done(tmp_path: Path, content: str) -> None:
    path = tmp_path / "sweep.json"
    path.write_text(content, "utf-8")

    with pytest.raises(StorageError, match=r"sweep\.json is damaged"):
        read_record(path)


def test_a_figure_of_the_wrong_type_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "sweep.json"
    write_record(path, record())
    path.write_text(path.read_text("utf-8").replace('"n_draft": 4', '"n_draft": "4"'), "utf-8")

    with pytest.raises(StorageError, match="expected int, found '4'"):
        read_record(path)


@pytest.mark.parametrize(
    ("key", "value"), [("created_at", 5), ("jobs", ["x"]), ("jobs", "x"), ("jobs", [{"overrides": [None]}])]
)
def test_a_value_of_another_kind_is_damage(key: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "sweep.json"
    write_record(path, record())
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), key: value}), "utf-8")

    with pytest.raises(StorageError, match=r"sweep\.json is damaged"):
        read_record(path)


def test_a_folder_that_is_no_sweep_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"No sweep\.json"):
        read_record(tmp_path / "sweep.json")


def test_the_environment_of_this_machine_is_complete() -> None:
    here = collect_environment(engine="embedded", llama_cpp_build="b1")

    assert all((here.cpu, here.host, here.system, here.python))
    assert here.logical_cores >= here.physical_cores >= 1
    assert here.memory_bytes > 1 << 28


@pytest.mark.parametrize(
    ("summaries", "errors", "interrupted", "why"),
    [
        (({},), (None,), False, None),
        (({}, None), (None, "no room"), False, "1 of 2 settings failed or failed in part: no room"),
        ((None,), ("no room",), False, "Nothing could be measured: no room"),
        (({},), (None,), True, "Interrupted; everything measured is saved"),
        ((None,), (None,), True, "Interrupted before anything was measured"),
    ],
)
def test_a_status_that_is_not_0_has_a_sentence(summaries, errors, interrupted, why) -> None:
    assert SweepOutcome.of(summaries, errors, interrupted=interrupted).why == why
