"""Garbage collection comes back after it was kept away."""

from __future__ import annotations

import gc

import pytest

from velosweep.garbage_collection import collection_paused, existing_objects_frozen


@pytest.mark.parametrize("enabled", [True, False])
def test_collection_is_as_it_was_after_a_pause(*, enabled: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with collection_paused():
            inside = gc.isenabled()

        assert (False, enabled) == (inside, gc.isenabled())
    finally:
        (gc.enable if before else gc.disable)()


def test_existing_objects_are_frozen_for_a_while() -> None:
    with existing_objects_frozen():
        assert gc.get_freeze_count() > 0

    assert gc.get_freeze_count() == 0


def test_what_the_caller_froze_stays_frozen() -> None:
    gc.freeze()
    try:
        count = gc.get_freeze_count()
        with existing_objects_frozen():
            pass
        assert gc.get_freeze_count() > 0.9 * count  # some of them may have been freed since
    finally:
        gc.unfreeze()
