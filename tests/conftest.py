"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# A property is about values; how long an example takes says how busy the machine is.
settings.register_profile("velosweep", deadline=None)
settings.load_profile("velosweep")
