"""What holds for every test."""

from __future__ import annotations

import signal

import pytest
from hypothesis import settings

# A property is about values; how long an example takes says how busy the machine is.
settings.register_profile("velosweep", deadline=None)
settings.load_profile("velosweep")


def pytest_configure(config: pytest.Config) -> None:
    """Signals act as at a terminal, in each worker and what it starts.

    A shell starts its background jobs (and some CI their steps) with SIGINT ignored, nohup with SIGHUP ignored;
    velosweep rightly leaves ignored signals so.
    """
    del config
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
