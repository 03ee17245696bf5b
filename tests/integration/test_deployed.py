"""The answer's router preset is served by a real llama-server, which speculates with it."""

from __future__ import annotations

import configparser
import json
from pathlib import Path

import pytest

from tests import real_models
from tests.integration.test_printed_commands import TINY, velosweep
from velosweep.models.synthetic.pair import ensure_files

pytestmark = pytest.mark.real


def test_a_router_serves_the_preset_and_speculates(tmp_path: Path) -> None:
    native = real_models.llama_server()
    main, draft = map(str, ensure_files(TINY, "draft", tmp_path, lambda _: None))
    flags = ["--main", main, "--draft", draft, "--n-draft", "4", "-n", "16", "-i", "2", "--llama-server", native]
    velosweep("run", *flags, "engine.context=1024", "sampling.temperature=0.7", "--out", "out", cwd=tmp_path)
    preset = velosweep("report", "out", "--format", "preset", cwd=tmp_path)
    if "spec-type" not in preset:  # two tiny models need not be faster together; what is tested is the preset
        answer = json.loads((tmp_path / "out" / "sweep.json").read_text())["jobs"][0]["server_arguments"]
        pairs = zip(answer[::2], answer[1::2], strict=True)
        preset = "version = 1\n[main]\n" + "".join(f"{flag.lstrip('-')} = {value}\n" for flag, value in pairs)
    assert "temp = 0.7\n" in preset
    (tmp_path / "models.ini").write_text(preset)
    read = configparser.ConfigParser()
    read.read_string(f"[top]\n{preset}")

    said = real_models.timings_of(
        f"{native} --models-preset {tmp_path}/models.ini", tmp_path / "log", model=read.sections()[-1]
    )

    assert said["draft_n"] > 0
