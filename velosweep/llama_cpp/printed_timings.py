"""What llama.cpp's programs print of their times, in every format since 2024. Text in, a Generation out."""

from __future__ import annotations

import re

from velosweep.llama_cpp.engine import Generation

_FLAGS = re.MULTILINE | re.ASCII
# `0.00.771.389 I ` in builds of 2026; before it nothing.
_STAMP = r"^(?:\d+\.\d+\.\d+\.\d+ [A-Z] )?"
_PREFIX = r"(?:llama_print_timings|llama_perf_context_print|common_perf_print): *"
_NUMBER = r"(inf|nan|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
_INTEGER = r"(\d{1,15})"
_LINE = re.compile(
    _STAMP + _PREFIX + r"(prompt eval|eval) time = *" + _NUMBER + r" ms / *" + _INTEGER + r" (?:tokens|runs)\b", _FLAGS
)
_PHASE = re.compile(
    _STAMP + r"(encoded|decoded) +" + _INTEGER + r" tokens in +" + _NUMBER + r" seconds, speed: +" + _NUMBER + r" t/s",
    _FLAGS,
)
_COUNT = re.compile(_STAMP + r"(n_draft|n_predict|n_drafted|n_accept) *= *" + _INTEGER + r"\s*$", _FLAGS)


def parse_vanilla(log: str, text: str = "") -> Generation | None:
    """The last account in `log`, of a run that generated `text`; None if there is none, or without decoding steps.

    Each step gave a token; the one before them came out of the prompt's evaluation.
    """
    found = {name: (float(ms), int(count)) for name, ms, count in _LINE.findall(log)}
    if "eval" not in found or "prompt eval" not in found:
        return None
    (prompt_ms, prompt_tokens), (eval_ms, steps) = found["prompt eval"], found["eval"]
    return Generation(
        tokens=(),
        text=text,
        prompt_tokens=prompt_tokens,
        predicted_tokens=steps + 1,
        prompt_ms=prompt_ms,
        predicted_ms=eval_ms,
        time_to_first_token_ms=prompt_ms,
        total_time_ms=prompt_ms + eval_ms,
    )


def parse_speculative(log: str) -> Generation | None:
    """The `encoded`/`decoded` account; None if there is none.

    Never "eval time": verification batches are counted as prompt evaluation there. Times come from the speed, which
    has six digits where the seconds have three decimals. No text to compare with vanilla's: these programs repeat the
    prompt and go on beyond what was asked.
    """
    phases = {name: (int(tokens), float(seconds), float(speed)) for name, tokens, seconds, speed in _PHASE.findall(log)}
    if "encoded" not in phases or "decoded" not in phases:
        return None
    counts = {name: int(count) for name, count in _COUNT.findall(log)}
    tokens = phases["decoded"][0]
    prompt_ms, decode_ms = _milliseconds(*phases["encoded"]), _milliseconds(*phases["decoded"])
    return Generation(
        tokens=(),
        text="",
        prompt_tokens=phases["encoded"][0],
        predicted_tokens=tokens,
        prompt_ms=prompt_ms,
        # All the program's tokens are decoded after the prompt; ours counts the first as the prompt's. Leaving out one
        # token's time makes (n - 1) / predicted_ms the program's own speed.
        predicted_ms=decode_ms * (tokens - 1) / tokens if tokens else 0.0,
        time_to_first_token_ms=prompt_ms,
        total_time_ms=prompt_ms + decode_ms,
        draft_tokens=counts.get("n_drafted"),
        accepted_tokens=counts.get("n_accept"),
    )


def _milliseconds(tokens: int, seconds: float, speed: float) -> float:
    return tokens / speed * 1000 if 0 < speed < float("inf") else seconds * 1000
