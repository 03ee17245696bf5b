"""llama-server's counters of speculation, as its /metrics tells them."""

import re
from dataclasses import dataclass
from itertools import chain, repeat
from operator import sub

from velosweep.errors import RunFailed
from velosweep.llama_cpp.client import HttpClient

# Positions of four digits at most: no draft is longer, and a list as long as a label claims could be of any size.
_COUNTER = re.compile(
    r"""^llamacpp:spec_decode_num_(\w+)_total(?:\{position="(\d{1,4})"\})? (\S+)$""", re.MULTILINE | re.ASCII
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeculationCounters:
    """llama-server's cumulative counters; differences of two are one run's. None where a build has them not."""

    rounds: int | None = None
    draft_tokens: int | None = None
    accepted_tokens: int | None = None
    accepted_per_position: tuple[int, ...] | None = None

    def since(self, before: "SpeculationCounters") -> "SpeculationCounters":
        """What happened between two readings."""

        def difference(now: int | None, then: int | None) -> int | None:
            return None if now is None else now - (then or 0)

        positions, earlier = self.accepted_per_position, chain(before.accepted_per_position or (), repeat(0))
        return SpeculationCounters(
            rounds=difference(self.rounds, before.rounds),
            draft_tokens=difference(self.draft_tokens, before.draft_tokens),
            accepted_tokens=difference(self.accepted_tokens, before.accepted_tokens),
            accepted_per_position=None if positions is None else tuple(map(sub, positions, earlier)),
        )


def read_counters(http: HttpClient) -> SpeculationCounters | None:
    """Read /metrics; None where it is switched off, out of reach or says nothing of speculation."""
    try:
        response = http.request("GET", "/metrics", timeout_s=10.0)
    except RunFailed:
        return None
    return parse_counters(response.body.decode(errors="replace")) if response.status == 200 else None


def parse_counters(text: str) -> SpeculationCounters | None:
    """Prometheus text to counters; None if there is no speculative one."""
    totals: dict[str, int] = {}
    positions: dict[int, int] = {}
    for name, position, value in _COUNTER.findall(text):
        try:
            number = int(float(value))
        except (ValueError, OverflowError):
            continue
        if not position:
            totals[name] = number
        elif name == "accepted_tokens_per_pos":
            positions[int(position)] = number
    if not totals:
        return None
    per_position = tuple(positions.get(i, 0) for i in range(max(positions) + 1)) if positions else None
    return SpeculationCounters(
        rounds=totals.get("drafts"),
        draft_tokens=totals.get("draft_tokens"),
        accepted_tokens=totals.get("accepted_tokens"),
        accepted_per_position=per_position,
    )
