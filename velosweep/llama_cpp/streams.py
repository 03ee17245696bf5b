"""Several streams at once: a closed loop of clients, and what the time when all were busy says.

A stream sends its next request as soon as its last one has ended, until each stream has had an answer and all were
busy together long enough. What counts is the time in which every stream was decoding, or reading a prompt that came
after its first: no start in which some had nothing to do yet, no end in which some had nothing left.

llama.cpp decodes one batch for all its slots, so that tokens of all streams come together, and a limit of that time
always falls beside such a batch. Tokens are therefore interpolated between the batches: whether one more token of each
stream came before or after the limit would else be decided by the last tenth of a millisecond.

When an answer was decoded is known by when it came here. On a machine in use it may come late, even whole at once, and
so seem to have been decoded beside another that was long done. An answer of which that can't be excluded counts for
nothing, and the loop goes on.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
import numpy.typing as npt

from velosweep.errors import RunFailed
from velosweep.llama_cpp.completion import Completion
from velosweep.llama_cpp.engine import Generation

# A stream whose answer is there waits this share of its time for the others before it asks again.
_PATIENCE = 0.05
# All streams are to be busy together for this share of an answer; after so many requests of one, and as long a time,
# there is no hope. Short answers, a warm-up's, may take some more: what a busy machine delays is long beside them.
_ENOUGH = 0.5
_MOST_REQUESTS = 8
_LEAST_S = 5.0
# Beside what the others' prompts take, an answer may have been held up for this share of its decoding, or two batches.
_MOST_LATE, _MOST_LATE_BATCHES = 0.1, 2


def closed_loop(ask: Callable[[int, int], Completion], streams: int) -> list[list[Completion]]:
    """The answers of each stream. `ask(stream, number)` sends its request of that number and waits for the answer.

    Raises what the first request to fail raises, after all others have ended, too.
    """
    answers: list[list[Completion]] = [[] for _ in range(streams)]
    changed = threading.Condition()
    failed = False

    def over() -> bool:
        return failed or (all(answers) and _long_enough(answers))

    def client(stream: int) -> None:
        nonlocal failed
        while True:
            try:
                answer = ask(stream, len(answers[stream]))
            except BaseException:
                with changed:
                    failed = True
                    changed.notify_all()
                raise
            with changed:
                answers[stream].append(answer)
                changed.notify_all()
                if changed.wait_for(over, timeout=answer.total_time_ms / 1000 * _PATIENCE):
                    return

    with ThreadPoolExecutor(streams, thread_name_prefix="velosweep-stream") as pool:
        for ended in [pool.submit(client, stream) for stream in range(streams)]:
            ended.result()
    return answers


def _long_enough(answers: Sequence[Sequence[Completion]]) -> bool:
    """Whether all streams were busy together for half an answer, or are not likely to be."""
    every = [answer for stream in answers for answer in stream]
    took_s = max(one.sent_at + one.total_time_ms / 1000 for one in every) - min(one.sent_at for one in every)
    hopeless = max(map(len, answers)) >= _MOST_REQUESTS and took_s > _LEAST_S
    if hopeless or not all(answer.steps for answer in every):
        return True
    _, tokens = _busy(_clocks(answers))
    return all(count >= _ENOUGH * (stream[0].steps[-1][0] - 1) for count, stream in zip(tokens, answers, strict=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamFigures:
    """What the streams did in the time in which all were busy.

    `tokens` in `ms`: of all streams. `tokens_per_second`: of each stream. `between_tokens_ms`: (median, 95th, 99th
    percentile) of the time from one token of a stream to its next; tokens of one batch come together, at 0.
    """

    tokens: float
    ms: float
    tokens_per_second: tuple[float, ...]
    between_tokens_ms: tuple[float, float, float]


def stream_figures(answers: Sequence[Sequence[Completion]]) -> StreamFigures:
    """Figures of a closed loop. Raises RunFailed where a build doesn't time each token, or all were never busy."""
    if any(not answer.steps for stream in answers for answer in stream):
        raise RunFailed(
            "This llama.cpp doesn't say when each token came, which several streams need",
            remedy="use one of 2025 or later, or concurrency=1",
        )
    clocks = _clocks(answers)
    spans, tokens = _busy(clocks)
    seconds = sum(end - begin for begin, end in spans)
    gaps_ms = [gap for stream in clocks for clock in stream for span in spans for gap in clock.gaps_ms(span)]
    if not gaps_ms or min(tokens) <= 0:
        raise RunFailed(
            f"The {len(answers)} streams were never seen decoding all at once: one had its whole answer before another "
            "had its first token, or answers came late",
            remedy="raise n_predict, lower concurrency, or close other programs",
        )
    p50, p95, p99 = map(float, np.percentile(gaps_ms, (50, 95, 99), method="inverted_cdf"))  # the nearest rank
    return StreamFigures(
        tokens=sum(tokens),
        ms=seconds * 1000,
        tokens_per_second=tuple(count / seconds for count in tokens),
        between_tokens_ms=(p50, p95, p99),
    )


def of_streams(runs: Sequence[Sequence[Generation]], answers: Sequence[Sequence[Completion]]) -> Generation:
    """All streams' requests as one run (see `Generation`). Raises RunFailed as `stream_figures` does.

    `runs`: what each of the `answers` says of itself, with the drafts of all.
    """
    figures = stream_figures(answers)
    first, every = [stream[0] for stream in runs], [run for stream in runs for run in stream]
    cut_off = [run for run in every if run.stop_reason != "eos"]
    steps = round(figures.tokens)
    p50, p95, p99 = figures.between_tokens_ms
    return replace(
        first[0],
        predicted_tokens=steps + 1,
        predicted_ms=figures.ms * steps / figures.tokens,
        prompt_ms=fmean(run.prompt_ms for run in first),
        time_to_first_token_ms=fmean(run.time_to_first_token_ms for run in first),
        total_time_ms=fmean(run.total_time_ms for run in first),
        truncated=any(run.truncated for run in every),
        shortest=min(run.predicted_tokens for run in cut_off or every),
        stop_reason=(cut_off or every)[0].stop_reason,
        stream_tokens_per_second=figures.tokens_per_second,
        stream_first_token_ms=tuple(run.time_to_first_token_ms for run in first),
        between_tokens_p50_ms=p50,
        between_tokens_p95_ms=p95,
        between_tokens_p99_ms=p99,
    )


Span = tuple[float, float]
"""Seconds of time.perf_counter."""


def _busy(clocks: "Sequence[Sequence[_Clock]]") -> tuple[list[Span], list[float]]:
    """The spans in which all streams were busy, and each stream's tokens in them."""
    spans = busy_spans([[clock.span(first=clock.number == 0) for clock in stream] for stream in clocks])
    return spans, [sum(clock.tokens(span) for clock in stream for span in spans) for stream in clocks]


def _clocks(answers: Sequence[Sequence[Completion]]) -> "list[list[_Clock]]":
    """Of each stream's answers that came in time: a delay that all have, of a network, makes none late."""
    clocks = [[_Clock(answer, number) for number, answer in enumerate(stream)] for stream in answers]
    every = [clock for stream in clocks for clock in stream]
    others_ms = (len(answers) - 1) * max((clock.prompt_ms for clock in every), default=0.0)
    usual_ms = others_ms + min((clock.unexplained_ms for clock in every), default=0.0)
    return [[clock for clock in stream if clock.unexplained_ms - usual_ms <= clock.allowed_ms] for stream in clocks]


def busy_spans(streams: Sequence[Sequence[Span]]) -> list[Span]:
    """The times that lie in a span of each stream; a stream's own spans don't overlap."""
    changes = sorted(
        (moment, step)
        for stream in streams
        for begin, end in stream
        if end > begin
        for moment, step in ((begin, 1), (end, -1))
    )  # at one moment what ends goes before what begins
    busy, began, spans = 0, 0.0, []
    for moment, step in changes:
        if busy == len(streams) and moment > began:
            spans.append((began, moment))
        busy += step
        began = moment
    return spans


class _Clock:
    """When each token of a request came, by llama.cpp's times, which begin with the first token. That came before it
    arrived here, and as long before the last one's arrival as llama.cpp says.

    `unexplained_ms`: what passed before the first token beside the reading of its prompt, as far as is known.
    """

    def __init__(self, answer: Completion, number: int) -> None:
        self.number = number
        last_ms = max(ms for _, ms in answer.steps)
        first_ms = max(0.0, min(answer.time_to_first_token_ms, answer.total_time_ms - last_ms))
        read_ms = answer.timings.get("prompt_ms")
        self.prompt_ms = float(read_ms) if isinstance(read_ms, (int, float)) else first_ms
        self.unexplained_ms = max(0.0, first_ms - self.prompt_ms)
        self.allowed_ms = max(_MOST_LATE, _MOST_LATE_BATCHES / len(answer.steps)) * last_ms
        first_at = answer.sent_at + first_ms / 1000
        came: dict[float, int] = {}  # tokens so far at each batch
        for tokens, ms in answer.steps:
            came[first_at + ms / 1000] = tokens
        self._times_s = np.array([answer.sent_at, *came])
        self._counts = np.array([0, *came.values()])

    def span(self, *, first: bool) -> Span:
        """From its first token to its last; a later request of a stream counts from its sending."""
        return float(self._times_s[1 if first else 0]), float(self._times_s[-1])

    def tokens(self, span: Span) -> float:
        """How many came in it, with shares of those between whose batches a limit lies."""
        before, after = np.interp(span, self._times_s, self._counts)
        return float(after - before)

    def gaps_ms(self, span: Span) -> npt.NDArray[np.float64]:
        """The time before each token but the first that came in it: of one batch all but one came at once."""
        came = self._times_s[2:]
        inside = (span[0] < came) & (came <= span[1])
        gaps_ms, tokens = np.diff(self._times_s)[1:] * 1000, np.diff(self._counts)[1:]
        return np.concatenate([gaps_ms[inside], np.zeros(np.maximum(tokens[inside] - 1, 0).sum())])
