"""The configuration that a sweep saved is read again, and an error names the file where it can't be."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from velosweep.config.composing import compose
from velosweep.config.load import JobLoader, copy_saved, load_saved, load_settings
from velosweep.errors import ConfigError, StorageError, VelosweepError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job's folder, as Hydra leaves it."""
    monkeypatch.chdir(tmp_path)
    saved = tmp_path / "job" / ".hydra"
    saved.mkdir(parents=True)
    OmegaConf.save(compose(["n_draft=4", "protocol=adaptive"]), saved / "config.yaml")
    OmegaConf.save(["n_draft=4"], saved / "overrides.yaml")
    return saved.parent


def test_a_saved_job_is_the_one_that_was_asked_for(folder: Path) -> None:
    (job,), settings = load_saved([(0, "0", folder)])

    cfg = compose(["n_draft=4", "protocol=adaptive"])
    assert job == JobLoader().load(cfg, overrides=["n_draft=4"], directory="0")
    assert settings == load_settings(cfg)


def test_overrides_are_laid_over_it_and_saved_with_a_copy(folder: Path, tmp_path: Path) -> None:
    copy_saved(folder, tmp_path / "copy", ["n_predict=30"])

    (job,), _ = load_saved([(0, "0", tmp_path / "copy")], overrides=["iterations=7"])
    assert (job.n_draft, job.n_predict, job.protocol.iterations) == (4, 30, 7)
    assert job.overrides == ("n_draft=4", "n_predict=30", "iterations=7")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("n_draft: [1\n", "config.yaml, line 1 is not YAML: expected ',' or ']'"),
        ("n_draft: x\n", "config.yaml is damaged: n_draft: 'x' is not a whole number; run the original command again"),
        ("n_drafts: 4\n", "config.yaml is damaged: There is no key 'n_drafts'; run the original command again"),
        (None, "config.yaml can't be read: No such file or directory; run the original command again"),
    ],
)
def test_a_damaged_configuration_is_named(content: str | None, said: str, folder: Path) -> None:
    file = folder / ".hydra" / "config.yaml"
    file.write_text(content) if content else file.unlink()

    with pytest.raises(StorageError) as caught:
        load_saved([(0, "0", folder)])

    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("override", "kind", "said"),
    [
        ("n_draft=4,8", ConfigError, "'n_draft=4,8' names several values; give n_draft one value"),
        ("n_drafts=4", ConfigError, "There is no key 'n_drafts'; did you mean n_draft?"),
        ("n_draft=0", ConfigError, "n_draft is 0; it must be at least 1"),
        (
            "protocol=quick",
            ConfigError,
            "'protocol=quick' names a file, and a saved sweep has keys; set the keys that it would set: "
            "protocol.KEY=VALUE",
        ),
    ],
)
def test_an_override_that_can_not_be_laid_over_it_is_refused(
    override: str, kind: type[VelosweepError], said: str, folder: Path
) -> None:
    with pytest.raises(kind) as caught:
        load_saved([(0, "0", folder)], overrides=[override])

    assert str(caught.value) == said
