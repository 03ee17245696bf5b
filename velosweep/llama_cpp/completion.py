"""The measured request: POST /completion as a stream, and what its events say."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from velosweep.errors import RunFailed
from velosweep.llama_cpp.client import HttpClient, check_status, shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """One finished /completion: the final event, all tokens, and the client's times."""

    final: Mapping[str, object]
    tokens: tuple[int, ...]
    text: str
    time_to_first_token_ms: float
    total_time_ms: float

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
        """A non-negative count of `timings`, None where the build has it not."""
        return int(self.number(name)) if self.timings.get(name) is not None else None


def complete(client: HttpClient, payload: Mapping[str, object], *, timeout_s: float) -> Completion:
    """POST /completion as a stream and measure it.

    Raises RunTimeout, or RunFailed for an error status, a broken stream or one without a final event.
    """
    what = "POST /completion"
    response = client.request("POST", "/completion", {**payload, "stream": True}, timeout_s=timeout_s)
    check_status(response, what)
    events = parse_events(response.body)
    for event in events:
        if "error" in event:
            error = event["error"]
            message = error.get("message", error) if isinstance(error, dict) else error
            raise RunFailed(f"The server gave up: {message}")
    final = next((event for event in reversed(events) if event.get("stop") is True), None)
    if final is None:
        raise RunFailed(f"The stream ended after {len(events)} events without a final one; the server may have died")
    if response.first_event_at is None or response.last_event_at is None:
        raise RunFailed(f"The answer to {what} is no event stream: {shown(response.body)}")
    lists = [tokens for event in events if isinstance(tokens := event.get("tokens"), list)]
    return Completion(
        final=final,
        tokens=tuple(token for tokens in lists for token in tokens if isinstance(token, int)),
        text="".join(content for event in events if isinstance(content := event.get("content"), str)),
        time_to_first_token_ms=(response.first_event_at - response.sent_at) * 1000,
        total_time_ms=(response.last_event_at - response.sent_at) * 1000,
    )


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
