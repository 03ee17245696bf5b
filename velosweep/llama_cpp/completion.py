"""The measured request: POST /completion as a stream, and what its events say."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import orjson

from velosweep.errors import RunFailed
from velosweep.llama_cpp.client import HttpClient, check_status, shown
from velosweep.llama_cpp.engine import Request

NOT_SENT = -1
_MOST_HELD_BACK = 1024  # a hostile count of tokens must not become a list of that length,
_MOST_TOKENS, _MOST_MS = 1 << 24, 1e12  # nor one that a step of several streams claims
_TIMED_EVENTS_BYTES = 1 << 14


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """One finished /completion: the final event, all tokens, and times from the request on."""

    final: Mapping[str, object]
    tokens: tuple[int, ...]  # NOT_SENT where one was held back, as all but the last of a character's bytes are
    text: str
    time_to_first_token_ms: float
    total_time_ms: float
    sent_at: float = 0.0  # by time.perf_counter
    steps: tuple[tuple[int, float], ...] = ()  # (tokens so far, llama.cpp's ms since the first), with timings_per_token

    @property
    def timings(self) -> Mapping[str, object]:
        """llama.cpp's own times and counts."""
        timings = self.final.get("timings")
        return timings if isinstance(timings, Mapping) else {}

    def number(self, name: str) -> float:
        """A finite number of `timings`. Raises RunFailed naming the field."""
        value = self.timings.get(name)
        try:
            if not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value):
                return float(value)
        except OverflowError:  # an integer beyond every float
            value = "a number beyond all bounds"
        raise RunFailed(f"The server's timings have no usable {name}: {value!r:.200}")

    def count(self, name: str) -> int | None:
        """A non-negative count of `timings`, None where the build has none."""
        return int(self.number(name)) if self.timings.get(name) is not None else None


def completion_payload(request: Request, *, prompt: str | Sequence[int], cache_prompt: bool) -> dict[str, object]:
    """The body of POST /completion for one measured run; `prompt` may be tokens."""
    sampling = request.sampling
    penalties = ["penalties"] if sampling.repeat_penalty != 1 else []
    others = [name for name, used in (("top_p", sampling.top_p < 1), ("min_p", sampling.min_p > 0)) if used]
    return {
        "prompt": prompt,
        "n_predict": request.n_predict,
        "temperature": sampling.temperature,
        "seed": sampling.seed,
        "cache_prompt": cache_prompt,
        "ignore_eos": request.stop != "natural",
        "return_tokens": True,
        "timings_per_token": False,
        "stop": [],
        # With a temperature of 0 the best token is taken anyway; finding 40 of them first costs time at every step.
        "top_k": 1 if sampling.temperature <= 0 else sampling.top_k,
        # Nothing that a default of some build could add.
        "dynatemp_range": 0.0,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "typical_p": 1.0,
        "xtc_probability": 0.0,
        "repeat_penalty": sampling.repeat_penalty,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "dry_multiplier": 0.0,
        "mirostat": 0,
        "n_probs": 0,
        "samplers": [*penalties, "top_k", *others, "temperature"],
    }


def stop_reason(final: Mapping[str, object]) -> str | None:
    """Why a run ended, by its final event: `limit`, `eos` or `word`; None where a build does not say."""
    reason = final.get("stop_type")
    if isinstance(reason, str) and reason != "none":
        return reason
    older = (("stopped_eos", "eos"), ("stopped_word", "word"), ("stopped_limit", "limit"))
    return next((word for name, word in older if final.get(name) is True), None)


def complete(client: HttpClient, payload: Mapping[str, object], *, timeout_s: float) -> Completion:
    """POST /completion as a stream and measure it.

    Raises RunTimeout, or RunFailed for an error status, a broken stream or one without a final event.
    """
    what = "POST /completion"
    # Of timed tokens no arrival is wanted, and the server closes at the end, which wakes us in any case.
    wake = {"events_bytes": _TIMED_EVENTS_BYTES} if payload.get("timings_per_token") else {}
    response = client.request("POST", "/completion", {**payload, "stream": True}, timeout_s=timeout_s, **wake)
    check_status(response, what)
    events = parse_events(response.body)
    for event in events:
        if "error" in event:
            error = event["error"]
            message = error.get("message", error) if isinstance(error, dict) else error
            shared = "Context size" in str(message)  # one that all slots of somebody else's server share
            remedy = "start it with a larger --ctx-size, or lower concurrency or n_predict" if shared else None
            raise RunFailed(f"The server gave up: {message}", remedy=remedy)
    final = next((event for event in reversed(events) if event.get("stop") is True), None)
    if final is None:
        raise RunFailed(f"The stream ended after {len(events)} events without a final one; the server may have died")
    if response.first_event_at is None or response.last_event_at is None:
        raise RunFailed(f"The answer to {what} is no event stream: {shown(response.body)}")
    first_ms, total_ms = ((at - response.sent_at) * 1000 for at in (response.first_event_at, response.last_event_at))
    tokens = _tokens(events)
    return Completion(
        final=final,
        tokens=tokens,
        text="".join(content for event in events if isinstance(content := event.get("content"), str)),
        time_to_first_token_ms=_first_token_ms(first_ms, total_ms, events[0], final),
        total_time_ms=total_ms,
        sent_at=response.sent_at,
        steps=tuple(_steps(events)) if payload.get("timings_per_token") else (),
    )


def time_batches(
    http: HttpClient, prompt: Sequence[str | int], tokens: Sequence[int], sizes: Sequence[int], *, timeout_s: float
) -> list[tuple[int, float]]:
    """(tokens, ms) of one batch of each size behind the run of `prompt` (texts and tokens) that gave `tokens`.

    The run is still in the server's cache, so that a prompt that goes on from it is read in one batch, as tokens are
    verified: at the same depth, and on a speculative server by the draft model, too. A batch that was not as large as
    asked is left out: the server's cache is not what it should be.
    """
    firsts = [token for token in dict.fromkeys(tokens) if token != tokens[-1]]
    if len(firsts) < 2:  # two batches that begin alike would be found in the cache
        return []
    found = []
    for number, size in enumerate(sizes):
        # Tokens of the text itself: which experts a batch needs depends on them. The last one was never decoded.
        batch = [firsts[number % len(firsts)], *islice(cycle(tokens), number, number + size - 1)]
        payload = {"prompt": [*prompt, *tokens[:-1], *batch], "cache_prompt": True}
        payload |= {"n_predict": 1, "temperature": 0.0, "seed": 1, "ignore_eos": True}
        try:
            done = complete(http, payload, timeout_s=timeout_s)
            if done.number("prompt_n") == size:
                found.append((size, done.number("prompt_ms")))
        except RunFailed:
            break  # whoever asks for the next run is told what is wrong
    return found


def _tokens(events: Sequence[Mapping[str, object]]) -> tuple[int, ...]:
    """All tokens in their places: an event says how many were generated up to its own."""
    tokens: list[int] = []
    for event in events:
        sent = event.get("tokens")
        if not isinstance(sent, list):
            continue
        sent = [token for token in sent if isinstance(token, int)]
        so_far = event.get("tokens_predicted")
        if isinstance(so_far, int) and 0 < so_far - len(sent) - len(tokens) <= _MOST_HELD_BACK:
            tokens += [NOT_SENT] * (so_far - len(sent) - len(tokens))
        tokens += sent
    return tuple(tokens)


def _first_token_ms(
    first_event_ms: float, total_ms: float, first: Mapping[str, object], final: Mapping[str, object]
) -> float:
    """When the first token was there: with the first event, unless that came later or holds none.

    An event may say that the prompt is being read, or that the answer begins; a server holds back a token that is part
    of a character, a proxy whatever it likes. The moment is then taken from llama.cpp's own clock, which counts
    predicted_ms from the first token to the last.
    """
    match final:
        case {"timings": {"predicted_ms": int(ms) | float(ms)}} if 0 <= ms <= total_ms:
            holds_token = first.get("content") or first.get("tokens") or first.get("stop") is True
            return min(first_event_ms, total_ms - ms) if holds_token else total_ms - ms
    return first_event_ms


def _steps(events: Sequence[Mapping[str, object]]) -> Iterator[tuple[int, float]]:
    for event in events:
        match event:
            case {"stop": True}:
                continue
            case {"timings": {"predicted_n": int(tokens), "predicted_ms": int(ms) | float(ms)}}:
                if 0 <= tokens <= _MOST_TOKENS and 0 <= ms <= _MOST_MS:
                    yield tokens, float(ms)


def parse_events(body: bytes) -> list[dict[str, object]]:
    """Server-sent events whose data are JSON objects. Raises RunFailed at the first that isn't."""
    events = []
    for line in body.splitlines():
        if line.startswith(b"error:"):
            line = b"data: {" + b'"error":' + line[6:] + b"}"
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data in (b"", b"[DONE]"):
            continue
        try:
            event = _loaded(data)
        except (ValueError, RecursionError):
            raise RunFailed(f"The stream has an event that isn't JSON: {shown(data)}") from None
        if not isinstance(event, dict):
            raise RunFailed(f"The stream has an event that isn't a JSON object: {shown(data)}")
        events.append(event)
    return events


def _loaded(data: bytes) -> object:
    """One event's JSON. There is one a token: orjson reads those of a run in a third of Python's time."""
    try:
        return orjson.loads(data)
    except ValueError:  # Python's own takes NaN, too; that figure is then reported as unusable
        return json.loads(data)
