"""Keys, the YAML files of conf/ and the frozen values agree."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from velosweep.config.composing import compose, package_conf
from velosweep.config.keys import freeze, keys_of
from velosweep.config.load import JobLoader
from velosweep.config.schema import KEYS, SweepKeys, omegaconf_schema
from velosweep.config.settings import Protocol
from velosweep.config.speculation_kinds import KINDS

SECTIONS = {key.name: key for key in keys_of(SweepKeys) if key.section is not None}
GROUPS = ("model_pair", "prompts", "engine", "protocol", "speculation")
FILES = sorted(path for group in GROUPS for path in (package_conf() / group).glob("*.yaml"))


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", SECTIONS)
def test_the_defaults_that_omegaconf_has_are_those_of_the_frozen_values(name: str) -> None:
    plain: Any = OmegaConf.to_container(OmegaConf.structured(omegaconf_schema()))

    assert freeze(SECTIONS[name], name, plain[name]) == SECTIONS[name].section()


def test_a_field_without_a_key_is_filled_elsewhere() -> None:
    def without_key(owner: type) -> set[str]:
        keys = keys_of(owner)
        inner = (name for key in keys if is_dataclass(key.section) for name in without_key(key.section))
        return {item.name for item in fields(owner)} - {key.field for key in keys} | set(inner)

    assert without_key(SweepKeys) == {"program"}


def test_a_configuration_can_be_unpickled_in_another_process_as_launchers_do() -> None:
    read = "import pickle, sys; print(pickle.load(sys.stdin.buffer).n_draft)"

    done = subprocess.run([sys.executable, "-c", read], input=pickle.dumps(compose(["n_draft=4"])), capture_output=True)

    assert (done.stdout.strip(), done.stderr) == (b"4", b"")


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_group_file_says_what_it_is_and_repeats_no_default(path: Path) -> None:
    text = path.read_text("utf-8")
    section = SECTIONS[path.parent.name].section
    defaults = {key.name: key.default for key in keys_of(section)}

    assert text.startswith("# ")
    written = yaml.safe_load(text)
    assert written.keys() <= defaults.keys()
    identity = {"name", "kind", "kinds"}
    assert [key for key in written.keys() - identity if written[key] == defaults[key]] == []


@pytest.mark.parametrize(("name", "iterations"), [("quick", 3), ("standard", 5), ("rigorous", 10)])
def test_protocols_have_the_specification_s_iterations(name: str, iterations: int) -> None:
    assert JobLoader().load(compose([f"protocol={name}"])).protocol.iterations == iterations


def test_the_standard_protocol_is_the_default() -> None:
    assert JobLoader().load(compose([])).protocol == Protocol()


def test_every_speculation_kind_has_a_file_of_its_name() -> None:
    stems = {path.stem for path in (package_conf() / "speculation").glob("*.yaml")}

    assert stems == {*KINDS, "none"}


def test_every_key_is_explained() -> None:
    assert all(key.text for key in KEYS.values())
    assert "protocol.adaptive.target" in KEYS
