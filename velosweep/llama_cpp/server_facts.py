"""What a llama-server says of itself, its model, the tokens of a text, and how drafts fared.

All but the counters raise RunFailed if it can't be asked.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest

from velosweep.errors import RequestRefused, RunFailed
from velosweep.llama_cpp.client import HttpClient, check_status
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.values import NEEDS_CONTEXT


def server_props(http: HttpClient, *, timeout_s: float = 10.0) -> Mapping[str, object]:
    """Its /props; empty where the build doesn't say."""
    props = http.get_json("/props", timeout_s=timeout_s)
    return props if isinstance(props, Mapping) else {}


def server_slots(http: HttpClient) -> list[Mapping[str, object]]:
    """Its /slots; none where the build doesn't say."""
    slots = http.get_json("/slots")
    return [slot for slot in slots if isinstance(slot, Mapping)] if isinstance(slots, list) else []


def model_meta(http: HttpClient) -> Mapping[str, object]:
    """What /v1/models says of the model; empty where the build doesn't say."""
    match http.get_json("/v1/models"):
        case {"data": [{"meta": dict(meta)}, *_]}:
            return meta
    return {}


def tokenize(http: HttpClient, text: str, *, begin: bool = True) -> list[int] | None:
    """The tokens that /completion makes of a text, `begin`: with what it puts before one; None where it doesn't say."""
    payload = {"content": text, "add_special": begin, "parse_special": True}
    response = http.request("POST", "/tokenize", payload, timeout_s=60.0)
    if response.status in (403, 404, 501):
        return None
    check_status(response, "POST /tokenize")
    match response.json():
        case {"tokens": [*tokens]} if all(isinstance(token, int) for token in tokens):
            return tokens
    return None


def check_prompt_fits(http: HttpClient, prompt: str, *, n_predict: int, server: ServerConfig) -> None:
    """Raise RequestRefused where the depth, `prompt` and `n_predict` tokens after it don't fit into a slot's context.

    A build that counts no tokens or doesn't tell its context lets everything pass.
    """
    depth, context, found = server.depth, _slot_context(http), tokenize(http, prompt)
    # llama.cpp ends a run as truncated as soon as its last token would fill the context.
    if context is None or found is None or (tokens := len(found)) + n_predict < context - depth:
        return
    before = f"{depth} tokens before the prompt, " if depth else ""
    whole = depth + tokens + n_predict + 1
    needed = f"{before}{tokens} tokens of the prompt and {n_predict} to generate {NEEDS_CONTEXT} {whole}"
    trained = _context(model_meta(http).get("n_ctx_train"))  # llama.cpp goes no further
    if trained is not None and trained < whole:
        what = f"{needed}, and the model was trained for {trained}"
        shorter = "shorten the prompt, lower depth or n_predict" if depth else "shorten the prompt, lower n_predict"
        raise RequestRefused(what, remedy=f"{shorter} or choose a model for longer texts")
    more = f"set engine.context={whole - depth} or more{', to which depth is added' if depth else ''}"
    if server.engine.kind == "attached":
        more = f"start it with --ctx-size {whole * server.concurrency} or more"
    raise RequestRefused(
        f"{needed}, and the server has {context}{' for each stream' if server.concurrency > 1 else ''}",
        remedy=f"{more}, shorten the prompt or lower n_predict",
    )


def _slot_context(http: HttpClient) -> int | None:
    """The context of one slot, None where the build doesn't say."""
    defaults = server_props(http).get("default_generation_settings")
    sources = [*server_slots(http)[:1], *([defaults] if isinstance(defaults, Mapping) else [])]
    return next((context for source in sources if (context := _context(source.get("n_ctx")))), None)


def _context(tokens: object) -> int | None:
    return tokens if isinstance(tokens, int) and tokens > 0 else None


# Positions of four digits at most: no draft is longer, and a list as long as a label claims could be of any size.
_COUNTER = re.compile(
    r"""^llamacpp:spec_decode_num_(\w+)_total(?:\{position="(\d{1,4})"\})? (\S+)$""", re.MULTILINE | re.ASCII
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeculationCounters:
    """llama-server's cumulative counters; differences of two are one run's. A build has all of them or none."""

    rounds: int
    draft_tokens: int
    accepted_tokens: int
    accepted_per_position: tuple[int, ...] = ()

    def since(self, before: "SpeculationCounters") -> "SpeculationCounters":
        """What happened between two readings."""
        positions = zip_longest(self.accepted_per_position, before.accepted_per_position, fillvalue=0)
        return SpeculationCounters(
            rounds=self.rounds - before.rounds,
            draft_tokens=self.draft_tokens - before.draft_tokens,
            accepted_tokens=self.accepted_tokens - before.accepted_tokens,
            accepted_per_position=tuple(now - then for now, then in positions),
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
    if not {"drafts", "draft_tokens", "accepted_tokens"} <= totals.keys():
        return None
    return SpeculationCounters(
        rounds=totals["drafts"],
        draft_tokens=totals["draft_tokens"],
        accepted_tokens=totals["accepted_tokens"],
        accepted_per_position=tuple(positions.get(i, 0) for i in range(max(positions, default=-1) + 1)),
    )
