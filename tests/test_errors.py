"""What our errors say to do."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from velosweep import errors


def test_an_extra_is_added_to_this_python_from_the_checkout() -> None:
    words = shlex.split(errors.install_extra("hf"))

    assert words == [sys.executable, "-m", "pip", "install", "-e", f"{Path(errors.__file__).parents[1]}[hf]"]


def test_problems_are_told_once_each_and_not_without_end() -> None:
    problems = [errors.ConfigError(f"key {number % 8} is odd") for number in range(20)]

    told = errors.combine_errors(problems)

    assert isinstance(told, errors.ConfigError)
    assert told.message.splitlines()[0] == "8 things are wrong:"
    assert told.message.splitlines()[-1] == "  - and 3 more"
    assert errors.combine_errors(problems[:1]) is problems[0]


def test_an_extra_of_a_wheel_is_not_looked_for_on_an_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "site-packages/velosweep/errors.py"))

    assert ".whl[hf]" in errors.install_extra("hf")
