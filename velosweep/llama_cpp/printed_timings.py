"""What llama.cpp's programs print of their times, in every format since 2024. Text in, figures out."""

from __future__ import annotations

import re
from dataclasses import dataclass

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


@dataclass(frozen=True, kw_only=True, slots=True)
class VanillaTimings:
    """`eval_runs` decoding steps took `eval_ms`; the token before them came out of the prompt's evaluation."""

    prompt_tokens: int
    prompt_ms: float
    eval_runs: int
    eval_ms: float

    @property
    def predicted_tokens(self) -> int:
        """Tokens generated: one a step, and the prompt's."""
        return self.eval_runs + 1


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeculativeTimings:
    """llama-speculative's own account: `decoded_tokens` in `decode_ms`, not counting the prompt's `encode_ms`."""

    prompt_tokens: int
    encode_ms: float
    decoded_tokens: int
    decode_ms: float
    drafted: int | None
    accepted: int | None


def parse_vanilla(text: str) -> VanillaTimings | None:
    """The last account in `text`; None if there is none, or if it has no decoding steps."""
    found = {name: (float(ms), int(count)) for name, ms, count in _LINE.findall(text)}
    if "eval" not in found or "prompt eval" not in found:
        return None
    (prompt_ms, prompt_tokens), (eval_ms, eval_runs) = found["prompt eval"], found["eval"]
    return VanillaTimings(prompt_tokens=prompt_tokens, prompt_ms=prompt_ms, eval_runs=eval_runs, eval_ms=eval_ms)


def parse_speculative(text: str) -> SpeculativeTimings | None:
    """The `encoded`/`decoded` account; None if there is none.

    Never "eval time": verification batches are counted as prompt evaluation there. Times come from the speed, which
    has six digits where the seconds have three decimals.
    """
    phases = {
        name: (int(tokens), float(seconds), float(speed)) for name, tokens, seconds, speed in _PHASE.findall(text)
    }
    if "encoded" not in phases or "decoded" not in phases:
        return None
    counts = {name: int(count) for name, count in _COUNT.findall(text)}
    return SpeculativeTimings(
        prompt_tokens=phases["encoded"][0],
        encode_ms=_milliseconds(*phases["encoded"]),
        decoded_tokens=phases["decoded"][0],
        decode_ms=_milliseconds(*phases["decoded"]),
        drafted=counts.get("n_drafted"),
        accepted=counts.get("n_accept"),
    )


def _milliseconds(tokens: int, seconds: float, speed: float) -> float:
    return tokens / speed * 1000 if 0 < speed < float("inf") else seconds * 1000
