"""The kit's first run, whole, small and without a GPU, on a real llama-server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import real_models
from tests.gpu.kit import FIRST_RUN


@pytest.mark.long
def test_every_step_of_the_first_run_measures(tmp_path):
    program = Path(real_models.llama_server()).parent
    kit = [sys.executable, str(Path(__file__).with_name("kit.py")), "run", "--cpu", "--bin", str(program)]

    done = subprocess.run([*kit, "--work", str(tmp_path), "--seconds", "280"], capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    marks = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "marks").glob("*.json")}
    assert marks.keys() == {step.name for step in FIRST_RUN}
    assert marks["conditions"]["figures"]["runs"] > 40
    assert set(marks["streams"]["figures"]["speedups"]) == {"1", "2"}
    assert "draft-eagle3" in marks["heads"]["figures"]["speedups"]
    assert set(marks["depth"]["figures"]["speedups"]) == {"0", "512"}
