"""What a model reads before a prompt: the messages of a chat, through the model's own template, and a context.

Conversations are replayed turn by turn. What a server answered to earlier turns stands before a later one, for each
stream its own answer; a server that was started anew is first asked the earlier turns again, unmeasured.

The context is natural English and code, the same for every server of a sweep: the documentation of the Python that
runs us and some of its sources, in turns. Both are on every machine, and nobody's licence comes with them but Python's
own. Each server's tokenizer cuts it to the token.
"""

import functools
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from velosweep.config.settings import Prompt
from velosweep.errors import RunFailed
from velosweep.llama_cpp.client import HttpClient, check_status
from velosweep.llama_cpp.completion import Completion, complete
from velosweep.llama_cpp.engine import Request
from velosweep.llama_cpp.server_facts import tokenize

_SOURCES = ("argparse", "statistics", "textwrap", "heapq", "json.decoder", "difflib", "fractions", "csv", "calendar")
_PIECE = 2_000  # characters of documentation, then as many of code
_CHARACTERS_A_TOKEN = 6  # more than most text has: one request is usually enough

_Turn = tuple[int, str | None, tuple[str, ...]]
"""Stream, system message, and what the user has said up to this turn."""


class ChatPrompts:
    """The prompts of one server, with its answers of earlier turns."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._answers: dict[_Turn, str] = {}

    def text(self, request: Request, stream: int = 0) -> str:
        """What the model reads; an earlier turn without an answer counts as answered with nothing.

        Raises RunFailed, RequestRefused.
        """
        prompt = request.prompt
        if not request.chat:
            return prompt.text
        messages = [{"role": "system", "content": prompt.system}] if prompt.system else []
        for number, said in enumerate(prompt.before, start=1):
            answer = self._answers.get((stream, prompt.system, prompt.before[:number]), "")
            messages += [{"role": "user", "content": said}, {"role": "assistant", "content": answer}]
        messages.append({"role": "user", "content": prompt.text})
        asked: dict[str, object] = {"messages": messages}
        if request.template_kwargs:
            asked["chat_template_kwargs"] = dict(request.template_kwargs)
        response = self._http.request("POST", "/apply-template", asked, timeout_s=30.0)
        if response.status in (404, 501):
            raise RunFailed(
                "This llama-server has no /apply-template", remedy="set prompts.chat=false or use a newer llama.cpp"
            )
        check_status(response, "POST /apply-template")
        answered = response.json()
        templated = answered.get("prompt") if isinstance(answered, Mapping) else None
        if not isinstance(templated, str):
            raise RunFailed(f"/apply-template answered without a prompt: {answered!r:.200}")
        return templated

    def unanswered(self, request: Request, stream: int = 0) -> list[Request]:
        """The earlier turns of a request that this server has not answered, in order."""
        prompt = request.prompt
        return [
            replace(request, prompt=replace(prompt, text=said, before=prompt.before[:number]))
            for number, said in enumerate(prompt.before)
            if (stream, prompt.system, prompt.before[: number + 1]) not in self._answers
        ]

    def remember(self, prompt: Prompt, answer: str, stream: int = 0) -> None:
        """Keep what a turn was answered with, for the turns after it."""
        if prompt.turn is not None:
            self._answers[stream, prompt.system, (*prompt.before, prompt.text)] = answer


@functools.cache
def filler_text() -> str:
    """All of it, some hundred thousand tokens."""
    topics: Mapping[str, str] = importlib.import_module("pydoc_data.topics").topics
    prose = "\n\n".join(topics[name] for name in sorted(topics))
    code = "\n\n".join(Path(str(importlib.import_module(name).__file__)).read_text("utf-8") for name in _SOURCES)

    def pieces() -> Iterator[str]:
        for begin in range(0, max(len(prose), len(code)), _PIECE):
            yield prose[begin : begin + _PIECE]
            yield code[begin : begin + _PIECE]

    return "".join(pieces())


class ContextBefore:
    """The context before the prompts of one server, cut by its tokenizer, and its slots' reading of it."""

    def __init__(self, http: HttpClient, depth: int) -> None:
        """`depth`: tokens."""
        self._http, self._depth = http, depth
        self._tokens: list[int] = []
        self._ms: dict[int, float] = {}  # by slot

    def before(self, prompt: str) -> list[int]:
        """Its tokens and the prompt's, without a second begin of text. Raises RunFailed."""
        if not self._tokens:
            self._tokens = filler_tokens(self._http, self._depth)
        own = _tokens(self._http, prompt, begin=False)
        return [*self._tokens, *own[own[0] == self._tokens[0] :]]

    def read(self, slot: int, *, timeout_s: float) -> None:
        """Have a slot hold it and nothing else: it is read once, and what followed it is dropped. Raises RunFailed."""
        asked = {"prompt": self._tokens, "n_predict": 1, "temperature": 0.0, "ignore_eos": True}
        done = complete(self._http, {**asked, "cache_prompt": True, "id_slot": slot}, timeout_s=timeout_s)
        if done.number("prompt_n") >= self._depth / 2:
            self._ms[slot] = done.number("prompt_ms")

    def ms(self, done: Completion) -> float | None:
        """The time in which slots read it, their mean; None where this run read it with its prompt."""
        return fmean(self._ms.values()) if self._ms and (done.count("cache_n") or 0) >= self._depth / 2 else None


def filler_tokens(http: HttpClient, count: int) -> list[int]:
    """The first `count` tokens of it, as the server's model reads a text's begin. Raises RunFailed."""
    text, characters = filler_text(), count * _CHARACTERS_A_TOKEN
    while True:
        repeated = text * (characters // len(text) + 1)
        tokens = _tokens(http, repeated[:characters], begin=True)
        if len(tokens) >= count:
            return tokens[:count]
        characters *= 2


def _tokens(http: HttpClient, text: str, *, begin: bool) -> list[int]:
    if not (tokens := tokenize(http, text, begin=begin)):
        raise RunFailed("This llama-server has no /tokenize, which depth needs", remedy="use a newer llama.cpp")
    return tokens
