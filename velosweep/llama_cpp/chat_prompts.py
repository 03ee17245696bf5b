"""What a chat model reads: the messages before a prompt, and the prompt, through the model's own template.

Conversations are replayed turn by turn. What a server answered to earlier turns stands before a later one, for each
stream its own answer; a server that was started anew is first asked the earlier turns again, unmeasured.
"""

from collections.abc import Mapping
from dataclasses import replace

from velosweep.config.settings import Prompt
from velosweep.errors import RunFailed
from velosweep.llama_cpp.client import HttpClient, check_status
from velosweep.llama_cpp.engine import Request

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
