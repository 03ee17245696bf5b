"""How long a server takes for one batch of some tokens behind a run that it has just made.

The run is still in the server's cache, so that a prompt that goes on from it is read in one batch, as tokens are
verified: at the same depth, and on a speculative server by the draft model, too.
"""

from collections.abc import Sequence
from itertools import cycle, islice

from velosweep.errors import RunFailed
from velosweep.llama_cpp.client import HttpClient
from velosweep.llama_cpp.completion import complete


def time_batches(
    http: HttpClient, prompt: Sequence[str | int], tokens: Sequence[int], sizes: Sequence[int], *, timeout_s: float
) -> list[tuple[int, float]]:
    """(tokens, ms) of one batch of each size behind the run of `prompt` (texts and tokens) that gave `tokens`.

    A batch that was not as large as asked is left out: the server's cache is not what it should be.
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
