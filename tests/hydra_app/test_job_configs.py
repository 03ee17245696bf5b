"""A sweep's jobs, composed cheaply, are what Hydra itself composes for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product

import pytest
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from velosweep.config import composing
from velosweep.config.composing import set_version_base
from velosweep.errors import ConfigError
from velosweep.hydra_app.job_configs import JobConfigs, to_yaml


@pytest.fixture
def hydra() -> Iterator[Hydra]:
    set_version_base()
    yield Hydra.create_main_hydra2("velosweep", composing.build_search_path(None))
    GlobalHydra.instance().clear()


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["n_draft=4,8"], id="a grid of values"),
        pytest.param(["n_draft=4,8", "n_predict=50"], id="with a fixed value"),
        pytest.param(["n_draft=4,8", "+engine.args=[--mlock]"], id="with a fixed list"),
        pytest.param(["n_draft=4,8", "model_pair=llama8b_1b"], id="with a fixed group"),
        pytest.param(["n_draft=4,8", "protocol=quick,adaptive"], id="with a grid of groups"),
        pytest.param(["n_draft=4,8", "hydra.sweep.dir=elsewhere"], id="with a key of Hydra's"),
        pytest.param(["n_draft=4", "++model_pair.name=mine"], id="with an addition"),
        pytest.param(["+speculation.parameters.x=1,2", "n_draft=4"], id="with a grid of additions"),
        pytest.param(["engine.tensor_split=[1],[2]", "n_draft=4"], id="with a grid of lists"),
    ],
)
def test_every_job_is_what_hydra_would_have_composed(hydra: Hydra, words: list[str]) -> None:
    master = _master(hydra, words)
    configs = JobConfigs(master, hydra.config_loader)

    for num, overrides in enumerate(_jobs(words)):
        config = configs.compose(overrides, num)
        expected = hydra.config_loader.load_sweep_config(master, list(overrides))
        assert _own(config.cfg) == _own(expected)
        assert config.unresolved["n_draft"] == expected.n_draft
        config.number()
        assert config.cfg.hydra.job.num == num


def test_a_job_without_a_key_of_the_one_before_does_not_keep_its_value(hydra: Hydra) -> None:
    configs = JobConfigs(_master(hydra, ["n_draft=4,8"]), hydra.config_loader)

    found = [configs.compose(overrides, 0).cfg.n_predict for overrides in (["n_predict=5", "n_draft=4"], ["n_draft=8"])]

    assert found == [5, 100]


def test_a_key_that_is_there_is_not_added(hydra: Hydra) -> None:
    configs = JobConfigs(_master(hydra, ["+n_draft=4,8"]), hydra.config_loader)

    with pytest.raises(ConfigError, match="There is a key 'n_draft' already"):
        configs.compose(["+n_draft=4"], 0)


@pytest.mark.parametrize(
    "text",
    ["1e3", "12", "0x1f", "1_000", "true", "off", "null", "~", "a: b", "# c", "ü ✓", "two\nlines", "", " x ", "nan"],
)
def test_texts_are_written_as_omegaconf_writes_them(text: str) -> None:
    content = {"prompt": text, "items": [text, {"n": 1.5, "none": None, "yes": True}], "empty": [], "map": {}}

    assert to_yaml(content) == OmegaConf.to_yaml(OmegaConf.create(content))


def _master(hydra: Hydra, words: list[str]) -> object:
    """A sweep's configuration as Hydra's launchers get it: read-only."""
    master = hydra.compose_config(
        config_name=composing.PRIMARY, overrides=[*words, "hydra.mode=MULTIRUN"], run_mode=RunMode.MULTIRUN
    )
    OmegaConf.set_readonly(master, True)
    return master


def _jobs(words: list[str]) -> list[list[str]]:
    """Hydra's basic sweeper hands every job all of the task's overrides, and none of its own."""
    lists = []
    for word in words:
        key, _, value = word.partition("=")
        if not key.startswith("hydra."):
            lists.append([f"{key}={one}" for one in re.findall(r"\[.*?\]|[^,]+", value)])
    return [list(combination) for combination in product(*lists)]


def _own(cfg: object) -> dict[object, object]:
    """All but what only a numbered job has, which the launcher writes."""
    plain = OmegaConf.to_container(cfg, resolve=False)  # type: ignore[arg-type]
    del plain["hydra"]["overrides"]["task"]  # type: ignore[index, arg-type, call-overload]
    for key in ("override_dirname", "num", "id"):
        del plain["hydra"]["job"][key]  # type: ignore[index, arg-type, call-overload]
    return plain  # type: ignore[return-value]
