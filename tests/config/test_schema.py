"""The schema, the YAML beside it and the frozen values agree."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from velosweep.config import schema, sections
from velosweep.config.search_path import package_conf
from velosweep.config.settings import Adaptive, EngineSettings, Protocol, Sampling, Speculation, SyntheticShape
from velosweep.models.synthetic.shape import DEFAULT_SHAPE

GROUPS = {
    "model_pair": schema.ModelPairConf,
    "prompts": schema.PromptsConf,
    "engine": schema.EngineConf,
    "protocol": schema.ProtocolConf,
    "speculation": schema.SpeculationConf,
}
FILES = sorted(path for group in GROUPS for path in (package_conf() / group).glob("*.yaml"))


def names(value: type) -> set[str]:
    return {item.name for item in fields(value)}


@pytest.mark.parametrize(
    ("conf", "frozen", "filled_elsewhere"),
    [
        (schema.EngineConf, EngineSettings, {"program"}),
        (schema.ProtocolConf, Protocol, set()),
        (schema.AdaptiveConf, Adaptive, set()),
        (schema.SamplingConf, Sampling, set()),
        (schema.SpeculationConf, Speculation, set()),
        (schema.SyntheticShapeConf, SyntheticShape, set()),
    ],
)
def test_every_setting_of_a_frozen_value_has_a_key(conf: type, frozen: type, filled_elsewhere: set[str]) -> None:
    assert names(conf) == names(frozen) - filled_elsewhere


def test_defaults_of_the_schema_are_those_of_the_frozen_values() -> None:
    assert sections.protocol(section("protocol", schema.ProtocolConf)) == Protocol()
    assert sections.adaptive(section("protocol.adaptive", schema.AdaptiveConf)) == Adaptive()
    assert sections.sampling(section("sampling", schema.SamplingConf)) == Sampling()
    assert sections.speculation(section("speculation", schema.SpeculationConf)) == Speculation()
    assert sections.engine(section("engine", schema.EngineConf)) == EngineSettings(kind="auto")


def section(name: str, conf: type) -> sections.Section:
    from omegaconf import OmegaConf

    return sections.Section(name, OmegaConf.to_container(OmegaConf.structured(conf)))


def test_the_synthetic_pair_of_the_configuration_is_the_one_that_was_measured() -> None:
    written = yaml.safe_load((package_conf() / "model_pair" / "synthetic.yaml").read_text())["synthetic"]

    assert SyntheticShape(**written) == DEFAULT_SHAPE
    assert sections.synthetic_shape(section("synthetic", schema.SyntheticShapeConf)) == DEFAULT_SHAPE


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_group_file_has_known_keys_only_and_a_comment_that_says_what_it_is(path: Path) -> None:
    text = path.read_text()

    assert set(yaml.safe_load(text)) <= names(GROUPS[path.parent.name])
    assert text.startswith("# ")


@pytest.mark.parametrize(("name", "iterations"), [("quick", 3), ("standard", 5), ("rigorous", 10)])
def test_protocols_have_the_specification_s_iterations(name: str, iterations: int) -> None:
    assert yaml.safe_load((package_conf() / "protocol" / f"{name}.yaml").read_text())["iterations"] == iterations


def test_the_standard_protocol_s_file_says_what_the_defaults_are() -> None:
    written = yaml.safe_load((package_conf() / "protocol" / "standard.yaml").read_text())

    assert Protocol(**written) == Protocol()


def test_every_speculation_kind_has_a_file_of_its_name() -> None:
    stems = {path.stem for path in (package_conf() / "speculation").glob("*.yaml")}

    assert stems == {*sections.KINDS, "none"}


def test_every_key_is_explained() -> None:
    explained = schema.walk_keys()

    assert all(text for _, text in explained)
    assert len(explained) == len({key for key, _ in explained})
    assert "protocol.adaptive.target" in dict(explained)
