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


def test_an_extra_of_a_wheel_is_not_looked_for_on_an_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "site-packages/velosweep/errors.py"))

    assert ".whl[hf]" in errors.install_extra("hf")
