"""What velosweep says on the screen, in one place: before, after, and when something is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velosweep.errors import VelosweepError
from velosweep.reporting.before import estimated_s, print_configuration, print_plan
from velosweep.reporting.outcome import print_outcome
from velosweep.reporting.screen import make_console, say

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["estimated_s", "make_console", "print_configuration", "print_error", "print_outcome", "print_plan", "say"]


def print_error(error: VelosweepError, *, console: Console) -> None:
    """What happened with which value, then what to do; meant for a console on stderr."""
    say(console, f"Error: {error.message}", style="bold red")
    if error.remedy:
        say(console, f"→ {error.remedy}", indent=2)
