"""A sweep's jobs, composed cheaply, are what Hydra itself composes for them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from velosweep.config import search_path
from velosweep.config.composing import set_version_base
from velosweep.hydra_app.job_configs import Composer


@pytest.fixture
def hydra() -> Iterator[Hydra]:
    set_version_base()
    yield Hydra.create_main_hydra2("velosweep", search_path.build(None))
    GlobalHydra.instance().clear()


def test_a_sweep_without_groups_is_not_composed_twice(hydra: Hydra, monkeypatch: pytest.MonkeyPatch) -> None:
    master = _master(hydra, ["n_draft=4,8"])
    monkeypatch.setattr(hydra.config_loader, "load_sweep_config", lambda *_: pytest.fail("composed again"))

    composer = Composer(master, hydra.config_loader)

    assert [composer.compose([f"n_draft={n}"]).cfg.n_draft for n in (4, 8)] == [4, 8]


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
    ],
)
def test_every_job_is_what_hydra_would_have_composed(hydra: Hydra, words: list[str]) -> None:
    master = _master(hydra, words)
    composer = Composer(master, hydra.config_loader)

    for overrides in _jobs(words):
        point = composer.compose(overrides)
        expected = hydra.config_loader.load_sweep_config(master, list(overrides))
        assert _own(point.cfg) == _own(expected)
    point.cfg.hydra.job.num = 3  # a job's configuration is the launcher's to number


def _master(hydra: Hydra, words: list[str]) -> object:
    """A sweep's configuration as Hydra's launchers get it: read-only."""
    master = hydra.compose_config(
        config_name=search_path.PRIMARY, overrides=[*words, "hydra.mode=MULTIRUN"], run_mode=RunMode.MULTIRUN
    )
    OmegaConf.set_readonly(master, True)
    return master


def _jobs(words: list[str]) -> list[list[str]]:
    """Hydra's basic sweeper hands every job all of the task's overrides, and none of its own."""
    lists = []
    for word in words:
        key, _, value = word.partition("=")
        if not key.startswith("hydra."):
            lists.append([word] if value.startswith("[") else [f"{key}={one}" for one in value.split(",")])
    return [list(combination) for combination in product(*lists)]


def _own(cfg: object) -> dict[object, object]:
    """All but what only a numbered job has, which the launcher writes."""
    plain = OmegaConf.to_container(cfg, resolve=False)  # type: ignore[arg-type]
    del plain["hydra"]["overrides"]["task"], plain["hydra"]["job"]["override_dirname"]  # type: ignore[index, arg-type, call-overload]
    return plain  # type: ignore[return-value]
