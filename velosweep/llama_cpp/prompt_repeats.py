"""What a build does when the same prompt comes twice, told from its first response, and how to measure all the same.

Until spring 2026 the draft side keeps its last context: a repeated prompt finds the answer of the run before in it
and "drafts" that, so that acceptance jumps to a false 100 %. Another prompt in between empties it. Until winter 2025
a server asked with `cache_prompt: false` does not draft at all; there the cache stays on, and the prompt in between
empties it, too, so that every run reads its whole prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Shares nothing with any prompt beyond a begin-of-text token, and is long enough for one round of drafting.
SPACER_PROMPT = "0123456789 zyxwvutsrqponmlkjihgfedcba"
SPACER_TOKENS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class RepeatRule:
    """How runs are asked of a build. `spacer`: send another prompt before each run, outside the measured span.

    `takes_draft_length`: n_max, n_min and p_min can be given with a request (builds until spring 2026).
    `tells_nothing_drafted`: a response without draft_n means that nothing was drafted (older ones never tell).
    """

    cache_prompt: bool
    spacer: bool
    takes_draft_length: bool
    tells_nothing_drafted: bool


def rule_for(final: Mapping[str, object]) -> RepeatRule:
    """The rule of the build that gave this final event of a /completion."""
    settings = final.get("generation_settings")
    names = settings.keys() if isinstance(settings, Mapping) else ()
    timings = final.get("timings")
    # cache_n came in autumn 2025, some months after draft_n.
    tells = isinstance(timings, Mapping) and ("cache_n" in timings or "draft_n" in timings)
    if "speculative.types" in names:
        return RepeatRule(cache_prompt=False, spacer=False, takes_draft_length=False, tells_nothing_drafted=True)
    takes_length = "speculative.n_max" in names
    if "speculative.type" in names:
        return RepeatRule(cache_prompt=False, spacer=True, takes_draft_length=takes_length, tells_nothing_drafted=True)
    return RepeatRule(
        cache_prompt=takes_length, spacer=True, takes_draft_length=takes_length, tells_nothing_drafted=tells
    )
