"""How a sweep ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a sweep ended. `summaries[i]` is job i's summary.json as a mapping, None where it failed; `errors[i]` why."""

    exit_status: int
    summaries: tuple[Mapping[str, object] | None, ...]
    errors: tuple[str | None, ...]
