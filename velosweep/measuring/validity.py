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
    return (
        _judge_length(generation, request)
        or _judge_times(generation)
        or (_judge_vanilla(generation) if server.mode is Mode.VANILLA else _judge_speculative(generation, server))
    )


def _judge_length(generation: Generation, request: Request) -> str | None:
    if generation.truncated:
        return "truncated: the context was full; raise engine.context or lower n_predict"
    if generation.predicted_tokens < request.n_predict:
        return f"only {generation.predicted_tokens} of {request.n_predict} tokens were generated"
    return None


def _judge_times(generation: Generation) -> str | None:
    times = {
        "prompt_ms": generation.prompt_ms,
        "predicted_ms": generation.predicted_ms,
        "time_to_first_token_ms": generation.time_to_first_token_ms,
        "total_time_ms": generation.total_time_ms,
    }
    for name, value in times.items():
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


def _judge_vanilla(generation: Generation) -> str | None:
    if generation.draft_tokens:
        return f"{generation.draft_tokens} tokens were drafted in a vanilla run"
    return None


def _judge_speculative(generation: Generation, server: ServerConfig) -> str | None:
    """An n-gram kind drafts nothing for a text that repeats nothing; a draft model always drafts.

    `draft_tokens` None: the build doesn't say, and its /slots said that it speculates.
    """
    drafted, accepted = generation.draft_tokens, generation.accepted_tokens
    if drafted == 0 and _has_draft_model(server) and generation.predicted_tokens > 1:
        return "nothing was drafted in a speculative run; what was measured is vanilla decoding"
    if drafted is not None and accepted is not None and not 0 <= accepted <= drafted:
        return f"{accepted} of {drafted} drafted tokens accepted is not possible"
    return _judge_draft_length(generation, server)


def _judge_draft_length(generation: Generation, server: ServerConfig) -> str | None:
    """llama.cpp silently drafts less than asked with heads of a fixed length, and ngram-cache always 8 tokens.

    Its counter has one entry for each position that it can draft. Parameters of a kind may say another length.
    """
    positions = generation.accepted_per_position
    if positions is None or len(positions) == server.n_draft or (server.speculation and server.speculation.parameters):
        return None
    return (
        f"llama.cpp drafts {len(positions)} tokens a round here, whatever it is told, and not n_draft {server.n_draft}"
    )


def _has_draft_model(server: ServerConfig) -> bool:
    return server.speculation is None or any(KINDS[kind].draft_settings for kind in server.speculation.kinds)
