"""A llama-server that serves one arm: the rules of asking it, whoever started it."""

from __future__ import annotations

from collections.abc import Mapping

from velosweep.engines import http
from velosweep.errors import RunFailed
from velosweep.model import Arm, Generation, Mode, Request

# Greedy, and nothing that a default of some build could add.
_PINNED_SAMPLING: Mapping[str, object] = {
    "dynatemp_range": 0.0,
    "top_k": 40,
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
    "samplers": ["top_k", "top_p", "min_p", "temperature"],
}


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
        **_PINNED_SAMPLING,
    }


class HttpDialogue:
    """Asks one server for one arm's runs."""

    def __init__(self, arm: Arm, address: http.Address, *, cache_prompt: bool = False) -> None:
        self.address = address
        self._arm = arm
        self._cache_prompt = cache_prompt
        self._counters: http.SpeculationCounters | None = None

    def check_mode(self) -> str | None:
        """None if the server drafts exactly when the arm says so, else what is wrong; asked of /slots.

        Raises RunFailed if it can't be asked. A build that doesn't tell is judged by its first runs.
        """
        self._counters = http.counters(self.address) if self._arm.mode is Mode.SPECULATIVE else None
        speculates = slot_speculates(http.get_json(self.address, "/slots"))
        if speculates is None or speculates is (self._arm.mode is Mode.SPECULATIVE):
            return None
        if speculates:
            return "the server speculates, although this is the vanilla arm"
        return "the server does not speculate: it could not use the draft model, most likely an unfit vocabulary"

    def generate(self, request: Request, *, timeout_s: float) -> Generation:
        """One run. Raises RunTimeout or RunFailed."""
        prompt = self._templated(request.prompt.text) if request.chat else request.prompt.text
        payload = completion_payload(request, prompt=prompt, cache_prompt=self._cache_prompt)
        done = http.complete(self.address, payload, timeout_s=timeout_s)
        return self._generation(done)

    def _templated(self, text: str) -> str:
        payload = {"messages": [{"role": "user", "content": text}]}
        reply = http.fetch(self.address, "POST", "/apply-template", payload, timeout_s=30.0)
        if reply.status in (404, 501):
            raise RunFailed(
                "This llama-server has no /apply-template", remedy="set prompts.chat=false or use a newer llama.cpp"
            )
        http.check_status(reply, "POST /apply-template")
        answer = reply.json()
        prompt = answer.get("prompt") if isinstance(answer, Mapping) else None
        if not isinstance(prompt, str):
            raise RunFailed(f"/apply-template answered without a prompt: {answer!r:.200}")
        return prompt

    def _generation(self, done: http.Completion) -> Generation:
        predicted = int(done.number("predicted_n"))
        drafted, accepted = done.count("draft_n"), done.count("draft_n_accepted")
        run = self._run_counters(drafted)
        if drafted is None and self._arm.mode is Mode.SPECULATIVE:
            drafted, accepted = run.draft_tokens, run.accepted_tokens
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
            rounds=run.rounds,
            truncated=done.final.get("truncated") is True,
        )

    def _run_counters(self, drafted: int | None) -> http.SpeculationCounters:
        """This run's share of the server's counters; empty where they disagree with the answer itself."""
        if self._arm.mode is Mode.VANILLA or self._counters is None:
            return http.SpeculationCounters()
        now = http.counters(self.address)
        if now is None:
            return http.SpeculationCounters()
        run, self._counters = now.since(self._counters), now
        # Another client of the same server, or a build that counts later than it answers.
        if drafted is not None and run.draft_tokens != drafted:
            return http.SpeculationCounters()
        return run


def slot_speculates(slots: object) -> bool | None:
    """What /slots says of speculation; None where the build does not."""
    if isinstance(slots, list) and slots and isinstance(slots[0], Mapping):
        value = slots[0].get("speculative")
        return value if isinstance(value, bool) else None
    return None
