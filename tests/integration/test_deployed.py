"""The answer's router preset is served by a real llama-server, which speculates with it."""

from __future__ import annotations

import configparser
import json
import urllib.request
from pathlib import Path

import pytest

from tests import real_models
from tests.integration.test_printed_commands import models, started, velosweep  # noqa: F401

pytestmark = pytest.mark.real


def test_a_router_serves_the_preset_and_speculates(models: list[str], tmp_path: Path) -> None:  # noqa: F811
    native = real_models.llama_server()
    main, draft = (model.partition("=")[2] for model in models)
    flags = ["--main", main, "--draft", draft, "--n-draft", "4", "-n", "16", "-i", "2", "--llama-server", native]
    velosweep("run", *flags, "engine.context=1024", "--out", "out", cwd=tmp_path)
    preset = velosweep("report", "out", "--format", "preset", cwd=tmp_path)
    if "spec-type" not in preset:  # two tiny models need not be faster together; what is tested is the preset
        answer = json.loads((tmp_path / "out" / "sweep.json").read_text())["jobs"][0]["server_arguments"]
        pairs = zip(answer[::2], answer[1::2], strict=True)
        preset = "version = 1\n[main]\n" + "".join(f"{flag.lstrip('-')} = {value}\n" for flag, value in pairs)
    (tmp_path / "models.ini").write_text(preset)
    read = configparser.ConfigParser()
    read.read_string(f"[top]\n{preset}")
    body = {"model": read.sections()[-1], "prompt": "a", "n_predict": 16, "temperature": 0, "ignore_eos": True}

    with started(f"{native} --models-preset {tmp_path}/models.ini", tmp_path / "log") as address:
        asked = urllib.request.Request(
            f"{address}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=120) as answer_:
            said = json.load(answer_)

    assert said["timings"]["draft_n"] > 0
