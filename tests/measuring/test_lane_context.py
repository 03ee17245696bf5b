"""What the end needs is imported meanwhile, once, and a run that counts can wait for the end of that."""

from __future__ import annotations

import sys
import threading

from velosweep.measuring.lane_context import MODULES, Preload


def test_modules_are_there_when_the_wait_is_over() -> None:
    preload = Preload()
    preload.begin()

    preload.finish()

    assert all(name in sys.modules for name in MODULES)


def test_what_was_never_begun_is_begun_by_the_wait_and_never_twice() -> None:
    before = threading.active_count()
    preload = Preload(["json"])

    preload.finish()
    preload.begin()

    assert threading.active_count() == before


def test_a_module_that_is_missing_is_left_to_whoever_needs_it() -> None:
    Preload(["velosweep.no_such_module"]).finish()

    assert "velosweep.no_such_module" not in sys.modules
