"""The house keeps its own rules: lint, types, who may know whom, and nothing generated under version control."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["lint-imports"],
    ],
    ids=" ".join,
)
def test_the_house_rules_hold(command: list[str]) -> None:
    done = subprocess.run([str(BIN / command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_top_level_is_what_was_agreed() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {name.split("/")[0] for name in listed.splitlines()}

    visible = {name for name in top if not name.startswith(".")}

    assert visible == {"pyproject.toml", "README.md", "LICENSE", "conf", "velosweep", "outputs", "tests"}


def test_no_generated_file_is_under_version_control() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    generated = (".gguf", ".parquet", ".pyc", ".so", ".whl", ".log")

    assert [name for name in listed.splitlines() if name.endswith(generated)] == []
