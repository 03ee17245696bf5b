"""A llama-server that runs one server configuration: the rules of asking it, whoever started it.

What a build does when the same prompt comes twice follows from its first response. Until spring 2026 the draft side
keeps its last context: a repeated prompt finds the last run's answer in it and "drafts" that, so that acceptance jumps
to a false 100 %. Another prompt in between empties it. Until winter 2025 a server that is asked with `cache_prompt:
false` does not draft at all; there the cache stays on, and the prompt in between empties it, too, so that every run
reads its whole prompt.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from velosweep.config.speculation_kinds import kind_of
from velosweep.errors import RunFailed
from velosweep.llama_cpp.before_prompts import ChatPrompts, ContextBefore
from velosweep.llama_cpp.client import HttpClient
from velosweep.llama_cpp.completion import Completion, complete, completion_payload, stop_reason, time_batches
from velosweep.llama_cpp.engine import Generation, Request, ServerConfig
from velosweep.llama_cpp.server_facts import SpeculationCounters, check_prompt_fits, read_counters, server_slots
from velosweep.units import plural
from velosweep.values import Mode

# Each server is asked this once before it is measured; a long one would cost as much as some tokens.
_PROBE_PROMPT = "1"
# Shares nothing with any prompt beyond a begin-of-text token, and is long enough for one round of drafting.
_SPACER_PROMPT = "0123456789 zyxwvutsrqponmlkjihgfedcba"
_SPACER_TOKENS = 8
# Streams draw texts of their own above temperature 0; iterations, a seed each, must not repeat those of other streams.
_SEEDS_A_STREAM, _SEEDS_A_REQUEST = 1_000_000, 10_000


def _small_payload(*, n_predict: int, prompt: str = _SPACER_PROMPT) -> dict[str, object]:
    """A request that is not measured."""
    return {"prompt": prompt, "n_predict": n_predict, "temperature": 0.0, "seed": 1, "ignore_eos": True}


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildQuirks:
    """How runs are asked of a build."""

    cache_prompt: bool
    spacer: bool  # send another prompt before each run, outside the measured span
    takes_draft_length: bool  # n_max, n_min and p_min can be given with a request (builds until spring 2026)
    silent_if_nothing_drafted: bool  # without draft_n in a response nothing was drafted (older ones never say)
    kinds: tuple[str, ...]  # of speculation by which it says it answered; empty for none, or where it doesn't say
    keeps_depth: bool  # it drafts behind text that its prompt cache holds as behind text that it has just read


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
    kinds = str(settings.get("speculative.types", settings.get("speculative.type")) or "none").split(",")
    return BuildQuirks(
        cache_prompt=takes_length and not since_winter_2025,
        spacer=not since_spring_2026,
        takes_draft_length=takes_length,
        silent_if_nothing_drafted=since_winter_2025 or since_autumn_2025,
        # Words alone: they stand in commands that people paste.
        kinds=tuple(kind for kind in kinds if kind != "none" and re.fullmatch(r"[\w.-]+", kind, re.ASCII)),
        keeps_depth=since_spring_2026,
    )


def lack_of_slots(slots: Sequence[object], needed: int) -> str | None:
    """What is wrong where a server with these slots can't take so many requests at once; None where it doesn't say."""
    if needed == 1 or not slots or len(slots) >= needed:
        return None
    has = f"The server has {plural(len(slots), 'slot')}"
    return f"{has}, too few for concurrency={needed}; start it with --parallel {needed}"


class ServerClient:
    """Asks one server for the runs of one configuration."""

    def __init__(self, server: ServerConfig, http: HttpClient) -> None:
        self._server = server
        self._http = http
        self._rules: BuildQuirks | None = None
        self._counts = False  # whether the build has counters of speculation
        self._last_run: tuple[Sequence[str | int], tuple[int, ...]] | None = None  # prompt and tokens
        self._chat = ChatPrompts(http)
        self._context = ContextBefore(http, server.depth) if server.depth else None

    def check_mode(self, *, timeout_s: float) -> str | None:
        """None if the server drafts exactly when the configuration says so, else what is wrong.

        Asked of /slots and of a first response, which also shows how this build is to be asked for runs. A build
        that doesn't say whether it drafts is judged by its runs. Raises RunFailed if it can't be asked.
        """
        slots = server_slots(self._http)
        speculates = slots[0].get("speculative") if slots else None
        wanted = self._server.mode is Mode.SPECULATIVE
        if isinstance(speculates, bool) and speculates is not wanted:
            return "The server does not speculate" if wanted else "The server speculates, although it should be vanilla"
        answer = complete(self._http, _small_payload(prompt=_PROBE_PROMPT, n_predict=1), timeout_s=timeout_s)
        self._rules = rules_for(answer.final)
        if not wanted and self._rules.kinds:
            return f"The server speculates ({', '.join(self._rules.kinds)}), although it should be vanilla"
        self._counts = wanted and read_counters(self._http) is not None
        return lack_of_slots(slots, self._server.concurrency)

    def check_drafting(self, *, timeout_s: float) -> None:
        """Raise RunFailed where the server is seen to draft in another way, or another number of tokens, than asked."""
        speculation = self._server.speculation
        if speculation is None or self._rules is None:
            return
        kinds = [kind_of(kind).name for kind in self._rules.kinds]
        if kinds and set(kinds) != set(speculation.kinds):
            asked = "+".join(speculation.kinds)
            way = f"speculation={kinds[0]}" if len(kinds) == 1 else f"'speculation.kinds=[{','.join(kinds)}]'"
            raise RunFailed(f"the server speculates with {'+'.join(kinds)}, not with {asked}", remedy=f"set {way}")
        if self._rules.takes_draft_length:
            return
        n_draft = self._server.n_draft
        complete(self._http, _small_payload(n_predict=_SPACER_TOKENS + n_draft), timeout_s=timeout_s)
        counters = read_counters(self._http)
        positions = counters.accepted_per_position if counters is not None else ()
        if positions and len(positions) != n_draft:
            raise RunFailed(
                f"the server drafts {len(positions)} tokens at a time, not n_draft={n_draft}",
                remedy=f"set n_draft={len(positions)}, or start the server with n_draft={n_draft}",
            )

    def generate(self, request: Request, *, timeout_s: float) -> Generation:
        """One run, of as many streams as the server has for it. Raises RunTimeout or RunFailed."""
        from velosweep.llama_cpp.streams import closed_loop, of_streams  # needs NumPy, which no refusal waits for

        if self._rules is None:
            raise RunFailed("The server was asked for a run before it was asked what it does; call wait_ready first")
        rules, streams = self._rules, self._server.concurrency
        for stream in range(streams):
            for earlier in self._chat.unanswered(request, stream):
                payload = self._prepared(earlier, stream, rules, timeout_s)
                self._chat.remember(earlier.prompt, complete(self._http, payload, timeout_s=timeout_s).text, stream)
        payloads = [self._prepared(request, stream, rules, timeout_s) for stream in range(streams)]
        before = read_counters(self._http) if self._counts else None

        def ask(stream: int, number: int) -> Completion:
            seed = request.sampling.seed + stream * _SEEDS_A_STREAM + number * _SEEDS_A_REQUEST
            payload = {**payloads[stream], "seed": seed, "timings_per_token": True}
            return complete(self._http, payload, timeout_s=timeout_s)

        if streams == 1:
            answers = [[complete(self._http, payloads[0], timeout_s=timeout_s)]]
        else:
            answers = closed_loop(ask, streams)
        for stream, (first, *_) in enumerate(answers):
            self._chat.remember(request.prompt, first.text, stream)
        drafts = self._accepted([answer for stream in answers for answer in stream], before, rules)
        runs = [[self._generation(answer, drafts) for answer in stream] for stream in answers]
        if streams > 1:
            return of_streams(runs, answers)
        prompt = payloads[0]["prompt"]
        self._last_run = prompt if isinstance(prompt, list) else [str(prompt)], runs[0][0].tokens
        return runs[0][0]

    def _prepared(self, request: Request, stream: int, rules: BuildQuirks, timeout_s: float) -> dict[str, object]:
        """The request of one stream, whose slot is brought into the state in which it is to find it."""
        prompt: str | list[int] = self._chat.text(request, stream)
        if rules.spacer:
            spacer = self._on_slot(_small_payload(n_predict=_SPACER_TOKENS), stream)
            complete(self._http, spacer, timeout_s=timeout_s)
        later = bool(request.prompt.before)  # its slot holds the turns before it
        if self._context is not None:
            prompt = self._context.before(str(prompt))
            if rules.keeps_depth and not later:
                self._context.read(stream, timeout_s=request.depth_timeout_s)
        cached = rules.cache_prompt or (rules.keeps_depth and (later or self._context is not None))
        payload = completion_payload(request, prompt=prompt, cache_prompt=cached)
        speculation = self._server.speculation
        if rules.takes_draft_length:  # on a server of somebody else's it makes n_draft the job's
            payload["speculative.n_max"] = self._server.n_draft
            if speculation is not None:
                payload |= {"speculative.n_min": speculation.n_min, "speculative.p_min": speculation.p_min}
        return self._on_slot(payload, stream)

    def _on_slot(self, payload: dict[str, object], slot: int) -> dict[str, object]:
        """The request for one slot of several: each stream keeps its own."""
        one_slot = self._server.concurrency == 1 and self._context is None
        return payload if one_slot else {**payload, "id_slot": slot}

    def check_request(self, request: Request) -> None:
        """Raise RequestRefused for a prompt that the chat template refuses or the context is too small for."""
        prompt = self._chat.text(request)
        answers = request.n_predict * (1 + len(self._chat.unanswered(request)))
        check_prompt_fits(self._http, prompt, n_predict=answers, server=self._server)

    def time_batches(self, sizes: Sequence[int], *, timeout_s: float) -> list[tuple[int, float]]:
        """(tokens, ms) of batches behind the last run; none of several streams or where a build's cache is odd."""
        if self._last_run is None or self._rules is None or self._rules.spacer:
            return []
        return time_batches(self._http, *self._last_run, sizes, timeout_s=timeout_s)

    def _accepted(
        self, answers: Sequence[Completion], before: SpeculationCounters | None, rules: BuildQuirks
    ) -> dict[str, Any]:
        """What was drafted and accepted over these requests, the server's only ones since its counters were `before`:
        fields of a Generation."""
        known = [(done.count("draft_n"), done.count("draft_n_accepted")) for done in answers]
        drafted, accepted = (
            sum(count or 0 for count in counts) if any(count is not None for count in counts) else None
            for counts in zip(*known, strict=True)
        )
        after = None if before is None else read_counters(self._http)
        run = after.since(before) if after is not None and before is not None else None
        if run is not None and drafted not in (None, run.draft_tokens):
            run = None  # another client asks the same server, or a build counts after it answers
        if drafted is None and self._server.mode is Mode.SPECULATIVE:
            if run is not None:
                drafted, accepted = run.draft_tokens, run.accepted_tokens
            elif rules.silent_if_nothing_drafted:
                drafted = accepted = 0
        steps = None if accepted is None else sum(int(done.number("predicted_n")) - 1 for done in answers) - accepted
        return {
            "draft_tokens": drafted,
            "accepted_tokens": accepted,
            "accepted_per_position": run.accepted_per_position or None if run else None,
            # Its counter leaves out rounds without a draft; a stop within accepted tokens would make steps too few.
            "rounds": None if steps is None else max(steps, run.rounds if run else 0),
            "drafting_rounds": run.rounds if run else None,
        }

    def _generation(self, done: Completion, drafts: Mapping[str, Any]) -> Generation:
        return Generation(
            tokens=done.tokens,
            text=done.text,
            prompt_tokens=int(done.number("prompt_n")),
            predicted_tokens=int(done.number("predicted_n")),
            prompt_ms=done.number("prompt_ms"),
            predicted_ms=done.number("predicted_ms"),
            time_to_first_token_ms=done.time_to_first_token_ms,
            total_time_ms=done.total_time_ms,
            **drafts,
            depth_ms=self._context.ms(done) if self._context else None,
            truncated=done.final.get("truncated") is True,
            stop_reason=stop_reason(done.final),
        )
