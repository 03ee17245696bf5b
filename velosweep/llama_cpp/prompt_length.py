"""Whether a prompt fits into a server's context, counted by the server's own tokenizer, without running it."""

from __future__ import annotations

from collections.abc import Mapping

from velosweep.errors import RequestRefused
from velosweep.llama_cpp.client import HttpClient, check_status


def check_prompt_fits(http: HttpClient, prompt: str, *, n_predict: int, depth: int = 0) -> None:
    """Raise RequestRefused where `prompt` and `n_predict` tokens after it don't fit into the context of a slot.

    `depth`: tokens that come before the prompt. A build that counts no tokens or doesn't tell its context lets
    everything pass. Raises RunFailed if the server can't be asked.
    """
    context, tokens = slot_context(http), count_tokens(http, prompt)
    # llama.cpp ends a run as truncated as soon as its last token would fill the context.
    if context is None or tokens is None or tokens + n_predict < context - depth:
        return
    before = f"{depth} tokens before the prompt, " if depth else ""
    whole = depth + tokens + n_predict + 1
    needed = f"{before}{tokens} tokens of the prompt and {n_predict} to generate need a context of {whole}"
    trained = trained_context(http)
    if trained is not None and trained < whole:
        what = f"{needed}, and the model was trained for {trained}"
        shorter = "shorten the prompt, lower depth or n_predict" if depth else "shorten the prompt, lower n_predict"
        raise RequestRefused(what, remedy=f"{shorter} or choose a model for longer texts")
    raise RequestRefused(
        f"{needed}, and the server has {context}",
        remedy=f"set engine.context={tokens + n_predict + 1} or more, shorten the prompt or lower n_predict",
    )


def count_tokens(http: HttpClient, prompt: str) -> int | None:
    """Tokens that /completion would make of `prompt`; None where the build doesn't say. Raises RunFailed."""
    payload = {"content": prompt, "add_special": True, "parse_special": True}
    response = http.request("POST", "/tokenize", payload, timeout_s=30.0)
    if response.status in (403, 404, 501):
        return None
    check_status(response, "POST /tokenize")
    answer = response.json()
    tokens = answer.get("tokens") if isinstance(answer, Mapping) else None
    return len(tokens) if isinstance(tokens, list) else None


def slot_context(http: HttpClient) -> int | None:
    """The context of one slot, None where the build doesn't say. Raises RunFailed."""
    slots, props = http.get_json("/slots"), http.get_json("/props")
    slot = slots[0] if isinstance(slots, list) and slots else None
    defaults = props.get("default_generation_settings") if isinstance(props, Mapping) else None
    for source in (slot, defaults):
        context = source.get("n_ctx") if isinstance(source, Mapping) else None
        if isinstance(context, int) and context > 0:
            return context
    return None


def trained_context(http: HttpClient) -> int | None:
    """The context that the model was trained for, beyond which llama.cpp goes not; None where the build doesn't say."""
    models = http.get_json("/v1/models")
    data = models.get("data") if isinstance(models, Mapping) else None
    meta = data[0].get("meta") if isinstance(data, list) and data and isinstance(data[0], Mapping) else None
    context = meta.get("n_ctx_train") if isinstance(meta, Mapping) else None
    return context if isinstance(context, int) and context > 0 else None
