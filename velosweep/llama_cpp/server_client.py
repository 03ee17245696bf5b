"""A llama-server that runs one server configuration: the rules of asking it, whoever started it.

What a build does when the same prompt comes twice follows from its first response. Until spring 2026 the draft side
keeps its last context: a repeated prompt finds the last run's answer in it and "drafts" that, so that acceptance jumps
to a false 100 %. Another prompt in between empties it. Until winter 2025 a server that is asked with `cache_prompt:
false` does not draft at all; there the cache stays on, and the prompt in between empties it, too, so that every run
reads its whole prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, repeat
from operator import sub

from velosweep.errors import RunFailed
from velosweep.llama_cpp.client import HttpClient, check_status
from velosweep.llama_cpp.completion import Completion, complete
from velosweep.llama_cpp.engine import Generation, Request, ServerConfig
from velosweep.llama_cpp.prompt_length import check_prompt_fits
from velosweep.values import Mode

# Each server is asked this once before it is measured; a long one would cost as much as some tokens.
_PROBE_PROMPT = "1"
# Shares nothing with any prompt beyond a begin-of-text token, and is long enough for one round of drafting.
_SPACER_PROMPT = "0123456789 zyxwvutsrqponmlkjihgfedcba"
_SPACER_TOKENS = 8


def completion_payload(request: Request, *, prompt: str, cache_prompt: bool) -> dict[str, object]:
    """The body of POST /completion for one measured run."""
    return {
        "prompt": prompt,
        "n_predict": request.n_predict,
        "temperature": request.sampling.temperature,
        "seed": request.sampling.seed,
        "cache_prompt": cache_prompt,
        "ignore_eos": True,
        "return_tokens": True,
        "timings_per_token": False,
        "stop": [],
        # With a temperature of 0 the best token is taken anyway; finding 40 of them first costs time at every step.
        "top_k": 1 if request.sampling.temperature <= 0 else 40,
        # Nothing that a default of some build could add.
        "dynatemp_range": 0.0,
        "top_p": 1.0,
        "min_p": 0.0,
        "typical_p": 1.0,
        "xtc_probability": 0.0,
        "repeat_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "dry_multiplier": 0.0,
        "mirostat": 0,
        "n_probs": 0,
        "samplers": ["top_k", "temperature"],
    }


def _small_payload(*, n_predict: int, prompt: str = _SPACER_PROMPT) -> dict[str, object]:
    """A request that is not measured."""
    return {"prompt": prompt, "n_predict": n_predict, "temperature": 0.0, "seed": 1, "ignore_eos": True}


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildQuirks:
    """How runs are asked of a build. `spacer`: send another prompt before each run, outside the measured span.

    `takes_draft_length`: n_max, n_min and p_min can be given with a request (builds until spring 2026).
    `silent_if_nothing_drafted`: a response without draft_n means that nothing was drafted (older ones never say).
    `kinds`: of speculation that the response says it was made with; empty for none, or where it doesn't say.
    """

    cache_prompt: bool
    spacer: bool
    takes_draft_length: bool
    silent_if_nothing_drafted: bool
    kinds: tuple[str, ...]


def rules_for(final: Mapping[str, object]) -> BuildQuirks:
    """The rules of the build that gave this final event of a /completion."""
    settings = final.get("generation_settings")
    settings = settings if isinstance(settings, Mapping) else {}
    timings = final.get("timings")
    since_spring_2026 = "speculative.types" in settings
    since_winter_2025 = since_spring_2026 or "speculative.type" in settings
    # cache_n came in autumn 2025, some months after draft_n.
    since_autumn_2025 = isinstance(timings, Mapping) and ("cache_n" in timings or "draft_n" in timings)
    takes_length = "speculative.n_max" in settings and not since_spring_2026
    kinds = settings.get("speculative.types", settings.get("speculative.type"))
    return BuildQuirks(
        cache_prompt=takes_length and not since_winter_2025,
        spacer=not since_spring_2026,
        takes_draft_length=takes_length,
        silent_if_nothing_drafted=since_winter_2025 or since_autumn_2025,
        kinds=tuple(kind for kind in str(kinds or "none").split(",") if kind != "none"),
    )


class ServerClient:
    """Asks one server for the runs of one configuration."""

    def __init__(self, server: ServerConfig, http: HttpClient, *, shared: bool = False) -> None:
        """`shared`: others may ask the same server, so that its counters have to be read before each run, too."""
        self._server = server
        self._http = http
        self._shared = shared
        self._rules: BuildQuirks | None = None
        self._counters: SpeculationCounters | None = None

    def check_mode(self, *, timeout_s: float) -> str | None:
        """None if the server drafts exactly when the configuration says so, else what is wrong.

        Asked of /slots and of a first response, which also shows how this build is to be asked for runs. A build
        that doesn't say whether it drafts is judged by its runs. Raises RunFailed if it can't be asked.
        """
        slots = self._http.get_json("/slots")
        first = slots[0] if isinstance(slots, list) and slots else None
        speculates = first.get("speculative") if isinstance(first, Mapping) else None
        wanted = self._server.mode is Mode.SPECULATIVE
        if isinstance(speculates, bool) and speculates is not wanted:
            return "The server does not speculate" if wanted else "The server speculates, although it should be vanilla"
        answer = complete(self._http, _small_payload(prompt=_PROBE_PROMPT, n_predict=1), timeout_s=timeout_s)
        self._rules = rules_for(answer.final)
        if not wanted and self._rules.kinds:
            return f"The server speculates ({', '.join(self._rules.kinds)}), although it should be vanilla"
        self._counters = read_counters(self._http) if wanted else None
        return None

    def check_draft_length(self, *, timeout_s: float) -> str | None:
        """None unless the server is seen to draft another number of tokens than n_draft. Raises RunFailed."""
        if self._server.mode is Mode.VANILLA or self._rules is None or self._rules.takes_draft_length:
            return None
        n_draft = self._server.n_draft
        complete(self._http, _small_payload(n_predict=_SPACER_TOKENS + n_draft), timeout_s=timeout_s)
        counters = read_counters(self._http)
        positions = counters.accepted_per_position if counters is not None else None
        if positions is not None and len(positions) != n_draft:
            return f"the server drafts {len(positions)} tokens a round, not n_draft={n_draft}"
        return None

    def generate(self, request: Request, *, timeout_s: float) -> Generation:
        """One run. Raises RunTimeout or RunFailed."""
        prompt = self._templated(request.prompt.text) if request.chat else request.prompt.text
        if self._rules is None:
            raise RunFailed("The server was asked for a run before it was asked what it does; call wait_ready first")
        if self._rules.spacer:
            complete(self._http, _small_payload(n_predict=_SPACER_TOKENS), timeout_s=timeout_s)
        if self._counters is not None and (self._rules.spacer or self._shared):
            self._counters = read_counters(self._http)
        payload = completion_payload(request, prompt=prompt, cache_prompt=self._rules.cache_prompt)
        speculation = self._server.speculation
        if self._rules.takes_draft_length:  # on a server of somebody else's it makes n_draft the job's
            payload["speculative.n_max"] = self._server.n_draft
            if speculation is not None:
                payload |= {"speculative.n_min": speculation.n_min, "speculative.p_min": speculation.p_min}
        return self._generation(complete(self._http, payload, timeout_s=timeout_s), self._rules)

    def check_request(self, request: Request) -> None:
        """Raise RequestRefused for a prompt that the chat template refuses or the context is too small for."""
        prompt = self._templated(request.prompt.text) if request.chat else request.prompt.text
        asked = self._server.engine.context
        check_prompt_fits(self._http, prompt, n_predict=request.n_predict, asked_context=asked)

    def _templated(self, text: str) -> str:
        payload = {"messages": [{"role": "user", "content": text}]}
        response = self._http.request("POST", "/apply-template", payload, timeout_s=30.0)
        if response.status in (404, 501):
            raise RunFailed(
                "This llama-server has no /apply-template", remedy="set prompts.chat=false or use a newer llama.cpp"
            )
        check_status(response, "POST /apply-template")
        answer = response.json()
        prompt = answer.get("prompt") if isinstance(answer, Mapping) else None
        if not isinstance(prompt, str):
            raise RunFailed(f"/apply-template answered without a prompt: {answer!r:.200}")
        return prompt

    def _generation(self, done: Completion, rules: BuildQuirks) -> Generation:
        drafted, accepted = done.count("draft_n"), done.count("draft_n_accepted")
        now = None if self._counters is None else read_counters(self._http)
        run = SpeculationCounters()  # empty where the server's counters disagree with the answer itself
        if now is not None and self._counters is not None:
            since, self._counters = now.since(self._counters), now
            # They differ where another client asks the same server, or a build counts later than it answers.
            run = since if drafted in (None, since.draft_tokens) else run
        if drafted is None and self._server.mode is Mode.SPECULATIVE:
            drafted, accepted = run.draft_tokens, run.accepted_tokens
            if drafted is None and rules.silent_if_nothing_drafted:
                drafted = accepted = 0
        predicted = int(done.number("predicted_n"))
        steps = None if accepted is None else predicted - 1 - accepted
        return Generation(
            tokens=done.tokens,
            text=done.text,
            prompt_tokens=int(done.number("prompt_n")),
            predicted_tokens=predicted,
            prompt_ms=done.number("prompt_ms"),
            predicted_ms=done.number("predicted_ms"),
            time_to_first_token_ms=done.time_to_first_token_ms,
            total_time_ms=done.total_time_ms,
            draft_tokens=drafted,
            accepted_tokens=accepted,
            accepted_per_position=run.accepted_per_position,
            # Its counter leaves out rounds without a draft; a stop within accepted tokens would make steps too few.
            rounds=None if steps is None else max(steps, run.rounds or 0),
            drafting_rounds=run.rounds,
            truncated=done.final.get("truncated") is True,
        )


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

    def since(self, before: SpeculationCounters) -> SpeculationCounters:
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
