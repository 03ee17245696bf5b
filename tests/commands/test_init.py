"""`velosweep init` gives a person files that work once they are filled in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.recorded import Recorded, recorded  # noqa: F401
from velosweep.cli import main
from velosweep.config.composing import package_conf


def test_the_files_are_found_and_make_a_sweep(
    recorded: Recorded,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert recorded.main(["init"]) == 0
    assert "velosweep +experiment=mine" in capsys.readouterr().out

    assert recorded.main(["+experiment=mine"]) == 0

    assert [job.n_draft for job in recorded.jobs] == [2, 4, 8, 12, 16]
    assert {(job.model_pair.name, job.prompts.name, job.n_predict) for job in recorded.jobs} == {("mine", "mine", 200)}


def test_nothing_of_one_s_own_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path)]) == 0
    own = tmp_path / "conf" / "model_pair" / "mine.yaml"
    own.write_text("name: changed\n")

    assert main(["init", str(tmp_path)]) == 2
    assert "prompts/mine.yaml already" in capsys.readouterr().err
    assert own.read_text() == "name: changed\n"
    assert main(["init", str(tmp_path), "--force"]) == 0
    assert own.read_text() != "name: changed\n"


def test_the_whole_configuration_can_be_copied_and_still_works(recorded: Recorded) -> None:  # noqa: F811
    assert recorded.main(["init", "--all"]) == 0
    with Path("conf/sweep.yaml").open("a") as file:
        file.write("\nn_draft: 5\n")

    assert recorded.main([]) == 0

    assert [job.n_draft for job in recorded.jobs] == [5]


def test_the_next_step_can_be_pasted_for_a_folder_with_spaces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path / "my sweeps")]) == 0

    told = capsys.readouterr().out
    assert f"cd '{tmp_path}/my sweeps' && velosweep +experiment=mine" in told
    assert f"into {tmp_path}/my sweeps/conf/model_pair/mine.yaml, then" in told


def test_velosweeps_own_configuration_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(package_conf().parent)

    assert main(["init"]) == 2

    assert "velosweep's own configuration" in capsys.readouterr().err
    assert not (package_conf() / "experiment" / "mine.yaml").exists()
