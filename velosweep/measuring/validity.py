"""Which runs may be averaged: a run that is not what its server's configuration says is `invalid`, with the reason."""

from __future__ import annotations

import math

from velosweep.config.speculation_kinds import KINDS
from velosweep.llama_cpp.engine import Generation, Request, ServerConfig
from velosweep.values import Mode

# Nothing decodes a token of a language model in less than a microsecond; a clock that says so is wrong.
_LEAST_MS_PER_TOKEN = 0.001


def judge(generation: Generation, server: ServerConfig, request: Request) -> str | None:
    """None if the run is what was asked for, else why it can't count."""
    if generation.truncated:
        return "truncated: the context was full; raise engine.context or lower n_predict"
    if generation.predicted_tokens < request.n_predict:
        return f"only {generation.predicted_tokens} of {request.n_predict} tokens were generated"
    return _judge_times(generation) or _judge_drafts(generation, server)


def _judge_times(generation: Generation) -> str | None:
    for name in ("prompt_ms", "predicted_ms", "time_to_first_token_ms", "total_time_ms"):
        value = getattr(generation, name)
        if not math.isfinite(value) or value < 0:
            return f"{name} is {value}, which is no time"
    if generation.prompt_tokens < 1:
        return f"{generation.prompt_tokens} prompt tokens were read"
    steps = generation.predicted_tokens - 1
    if steps > 0 and generation.predicted_ms < steps * _LEAST_MS_PER_TOKEN:
        return f"{generation.predicted_tokens} tokens in {generation.predicted_ms:g} ms is not believable"
    if generation.total_time_ms < generation.time_to_first_token_ms:
        return "the last token came before the first"
    return None


def _judge_drafts(generation: Generation, server: ServerConfig) -> str | None:
    """`draft_tokens` None: the build doesn't say, and its /slots said whether it speculates."""
    drafted, accepted, speculation = generation.draft_tokens, generation.accepted_tokens, server.speculation
    if server.mode is Mode.VANILLA:
        return f"{drafted} tokens were drafted in a vanilla run" if drafted else None
    # An n-gram kind drafts nothing for a text that repeats nothing; a draft model always drafts.
    always = speculation is None or any(KINDS[kind].draft_settings for kind in speculation.kinds)
    if drafted == 0 and always and generation.predicted_tokens > 1:
        return "nothing was drafted in a speculative run; what was measured is vanilla decoding"
    if drafted is not None and accepted is not None and not 0 <= accepted <= drafted:
        return f"{accepted} of {drafted} drafted tokens accepted is not possible"
    # llama.cpp silently drafts less than asked with heads of a fixed length, and ngram-cache always 8 tokens. Its
    # counter has one entry for each position that it can draft. Parameters of a kind may say another length.
    positions = generation.accepted_per_position
    if positions is None or len(positions) == server.n_draft or (speculation and speculation.parameters):
        return None
    return (
        f"llama.cpp drafts {len(positions)} tokens a round here, whatever it is told, and not n_draft {server.n_draft}"
    )
