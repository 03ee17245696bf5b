"""`velosweep doctor` by the flags of `velosweep run`."""

from pathlib import Path

import pytest

from velosweep.commands.doctor import main
from velosweep.errors import ConfigError, ExitStatus


def test_each_of_several_drafts_is_checked_once_and_remedies_are_flags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    status = main(["--main", "main.gguf", "--draft", "one.gguf", "two.gguf", "--n-draft", "4,8", "engine=embedded"])

    said = capsys.readouterr().out
    assert status == ExitStatus.REFUSED
    assert [said.count(f"No model at {tmp_path / name}.gguf") for name in ("main", "one", "two")] == [2, 1, 1]
    assert "set --draft to a GGUF file" in said
    assert "model_pair." not in said


def test_a_flag_that_there_is_not_is_refused_in_the_doctors_name() -> None:
    with pytest.raises(ConfigError, match=r"^velosweep doctor can't read '--jinja'; "):
        main(["--jinja"])
