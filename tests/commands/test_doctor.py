"""`velosweep doctor` by the flags of `velosweep run`."""

from pathlib import Path

import pytest

from tests.faults.harness import Bench
from velosweep.commands.doctor import main
from velosweep.errors import ConfigError, ExitStatus
from velosweep.llama_cpp.embedded import EmbeddedEngine
from velosweep.values import Device


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


def test_the_flags_of_a_build_are_named_as_it_has_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(folder=tmp_path, main_model=tmp_path / "main.gguf", draft_model=tmp_path / "draft.gguf")
    monkeypatch.setenv("STANDIN", bench.environment["STANDIN"])

    main(["--llama-server", str(bench.program), "--main", "main.gguf", "--draft", "draft.gguf"])

    (flags,) = (line for line in capsys.readouterr().out.splitlines() if "flags: " in line)
    assert "draft_model --spec-draft-model, n_draft --spec-draft-n-max, " in flags


@pytest.mark.parametrize("gpus", [(), (Device(kind="metal", name="Apple M2", program_name="MTL0"),)])
def test_the_embedded_llama_cpp_is_said_to_run_on_the_cpu_only_where_it_does(
    gpus: tuple[Device, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EmbeddedEngine, "devices", lambda self: gpus)
    main(["engine=embedded"])
    said = capsys.readouterr().out

    assert ("runs on the CPU only" in said) is not bool(gpus)
    assert ("Apple M2 has free is not known: two servers" in said) is bool(gpus)
    assert ("of this pair at once" in said) is not bool(gpus)


def test_a_flag_that_there_is_not_is_refused_in_the_doctors_name() -> None:
    with pytest.raises(ConfigError, match=r"^velosweep doctor can't read '--jinja'; "):
        main(["--jinja"])
