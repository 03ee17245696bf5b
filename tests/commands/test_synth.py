"""`velosweep synth` writes the shape that was asked for and says how to use it."""

from __future__ import annotations

import pytest

from velosweep.commands.synth import main, shape_of
from velosweep.errors import ConfigError
from velosweep.models.model_checks import check_model
from velosweep.models.synthetic.pair import PRESETS

TINY = ["layers=2", "width=64", "feed_forward=64", "heads=2", "kv_heads=1", "type=q8_0"]


def test_a_pair_is_written_where_one_says_and_its_use_shown(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "models"), *TINY, "eps=0.5"]) == 0

    said = capsys.readouterr()
    (path,) = (tmp_path / "models").glob("*-main.gguf")
    assert f"model_pair.main_model={path}" in said.out
    assert check_model(path, key="k").layers == 2
    assert "writing" in said.err


@pytest.mark.parametrize(
    ("asked", "ends"), [("draft-eagle3", ["eagle3"]), ("all", ["mtp-main", "mtp", "eagle3", "dflash", "dspark"])]
)
def test_heads_are_written_and_their_use_shown(tmp_path, capsys, asked, ends):
    assert main(["--out", str(tmp_path), "--heads", asked, *TINY]) == 0

    said = capsys.readouterr().out
    written = {path.name.rpartition("-s0-")[2] for path in tmp_path.glob("*.gguf")}
    assert written == {f"{end}.gguf" for end in ["main", "draft", *ends]}
    uses = [line.split() for line in said.splitlines() if line.startswith("  velosweep speculation=")]
    named = {word.partition("=")[2] for use in uses for word in use if word.startswith("model_pair.")}
    assert {path for path in named if not path.endswith("s0-main.gguf")} == {
        str(path) for path in tmp_path.glob("*.gguf") if path.name.endswith(tuple(f"s0-{end}.gguf" for end in ends))
    }


def test_presets_are_the_start_for_fields():
    assert PRESETS["8b_1b"] == shape_of(["shape=8b_1b"])
    assert (shape_of(["layers=4", "shape=8b_1b", "kept_layers=2"]).vocabulary, 2) == (128256, 2)
    assert shape_of(["model_pair.synthetic.layers=3"]).layers == 3


@pytest.mark.parametrize(
    ("overrides", "words"),
    [(["shape=9b"], "no shape '9b'"), (["layers"], "can't read 'layers'"), (["depth=1"], "no 'depth'")],
)
def test_what_is_no_shape_is_refused(overrides, words):
    with pytest.raises(ConfigError, match=words):
        main(overrides)
