"""What the end needs is imported meanwhile, and a run that counts can wait for the end of that."""

from __future__ import annotations

import sys

from velosweep.running.preload import MODULES, preload


def test_modules_are_there_when_the_wait_is_over() -> None:
    preload()()

    assert all(name in sys.modules for name in MODULES)


def test_a_module_that_is_missing_is_left_to_whoever_needs_it() -> None:
    preload(["velosweep.no_such_module"])()

    assert "velosweep.no_such_module" not in sys.modules
