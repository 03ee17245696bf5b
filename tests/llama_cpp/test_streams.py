"""Several streams at once: which time counts, what it says, and real runs of them."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.llama_cpp.servers import CPU, request, speculative, vanilla
from velosweep.errors import RunFailed
from velosweep.llama_cpp.completion import Completion
from velosweep.llama_cpp.embedded import EmbeddedEngine
from velosweep.llama_cpp.engine import Generation, ServerConfig
from velosweep.llama_cpp.streams import busy_spans, closed_loop, stream_figures
from velosweep.measuring.sample_rows import invalid_reason


def answer(
    sent_at: float, first_ms: float, *batches: tuple[int, float], prompt_ms: float | None = None, late_ms: float = 0.0
) -> Completion:
    """A request whose batches end at (tokens so far, ms since the first token); its end came here `late_ms` later."""
    total_ms = first_ms + batches[-1][1] + late_ms
    return Completion(
        final={} if prompt_ms is None else {"timings": {"prompt_ms": prompt_ms}},
        tokens=(),
        text="",
        time_to_first_token_ms=first_ms,
        total_time_ms=total_ms,
        sent_at=sent_at,
        steps=((1, 0.0), *batches),
    )


def test_only_the_time_in_which_every_stream_is_busy_counts() -> None:
    spans = busy_spans([[(0.0, 4.0), (5.0, 9.0)], [(1.0, 6.0)], [(2.0, 8.0)]])

    assert spans == [(2.0, 4.0), (5.0, 6.0)]


def test_streams_that_are_never_busy_together_have_no_busy_time() -> None:
    assert busy_spans([[(0.0, 1.0)], [(1.0, 2.0)]]) == []


def test_tokens_of_all_streams_are_counted_while_all_are_busy() -> None:
    """The first stream decodes alone for 100 ms, at a rate that must not count."""
    early = answer(0.0, 100, *((n, 10.0 * (n - 1)) for n in range(2, 32)))  # tokens from .1 to .4 s, 100 a second
    late = answer(0.0, 200, *((n, 20.0 * (n - 1)) for n in range(2, 32)))  # from .2 to .8 s, 50 a second

    figures = stream_figures([[early], [late]])

    assert figures.ms == pytest.approx(200)
    assert figures.tokens_per_second == pytest.approx((100, 50))
    assert figures.tokens == pytest.approx(30)


def test_a_limit_beside_a_batch_does_not_decide_over_its_tokens() -> None:
    """Both streams' tokens come in the same batches; that one client saw its first token 0.1 ms late is noise."""
    batches = [(1 + 5 * n, 50.0 * n) for n in range(1, 21)]

    rates = [
        sum(stream_figures([[answer(0.0, 10, *batches)], [answer(0.0, 10 + late, *batches)]]).tokens_per_second)
        for late in (-0.1, 0.0, 0.1)
    ]

    assert rates == pytest.approx([200] * 3, rel=1e-3)


def test_the_next_prompt_of_a_stream_is_part_of_the_load() -> None:
    short = [answer(0.0, 10, (11, 100.0)), answer(0.11, 90, (11, 100.0))]  # its second answer begins after 90 ms
    long = [answer(0.0, 10, (31, 300.0))]

    figures = stream_figures([short, long])

    assert figures.ms == pytest.approx(290)
    assert figures.tokens_per_second == pytest.approx((21 / 0.29, 29 / 0.29))


TEN_A_SECOND = tuple((n, 100.0 * (n - 1)) for n in range(2, 12))  # over one second
TWENTY_A_SECOND = tuple((n, 50.0 * (n - 1)) for n in range(2, 22))


def test_an_answer_that_came_late_as_a_whole_counts_for_nothing() -> None:
    """It seems to be decoded from 1.01 to 2.01 s, beside an answer that was alone then, and twice as fast."""
    beside, alone, last = (
        answer(1.1 * n, 10, *steps, prompt_ms=8)
        for n, steps in enumerate((TEN_A_SECOND, TWENTY_A_SECOND, TEN_A_SECOND))
    )
    late = answer(0.0, 2010, *TEN_A_SECOND, prompt_ms=8, late_ms=-1000)

    assert late.total_time_ms == late.time_to_first_token_ms
    with pytest.raises(RunFailed, match="or answers came late"):
        stream_figures([[beside, alone], [late]])
    speeds = stream_figures([[beside, alone, last], [late, last]]).tokens_per_second
    assert speeds == pytest.approx((11 / 1.01, 11 / 1.01))  # from their sending on


def test_a_first_event_that_came_late_is_placed_by_the_last_one() -> None:
    on_time = answer(0.0, 10, *TEN_A_SECOND, prompt_ms=8)
    late = answer(0.0, 700, *TEN_A_SECOND, prompt_ms=8, late_ms=-690)

    assert stream_figures([[on_time], [late]]).ms == pytest.approx(1000)


def test_what_all_answers_wait_for_or_other_prompts_take_makes_none_late() -> None:
    """A network of 300 ms; a second prompt that has to wait for the first, of 400 ms."""
    far = [[answer(0.0, 308, *TEN_A_SECOND, prompt_ms=8)] for _ in range(2)]
    after_another = [[answer(0.0, first_ms, *TEN_A_SECOND, prompt_ms=400)] for first_ms in (401, 801)]

    assert stream_figures(far).ms == pytest.approx(1000)
    assert stream_figures(after_another).ms == pytest.approx(600)


def test_percentiles_are_of_one_tokens_wait_for_the_next_and_batches_come_at_once() -> None:
    figures = stream_figures([[answer(0.0, 10, *((1 + 5 * n, 50.0 * n) for n in range(1, 21)))]] * 2)

    assert figures.between_tokens_ms == (0.0, pytest.approx(50), pytest.approx(50))


def test_a_build_that_does_not_time_its_tokens_is_refused() -> None:
    silent = replace(answer(0.0, 10, (5, 10.0)), steps=())

    with pytest.raises(RunFailed, match="doesn't say when each token came"):
        stream_figures([[silent], [silent]])


def test_streams_one_after_another_are_refused() -> None:
    first, second = answer(0.0, 10, (5, 10.0)), answer(0.0, 500, (5, 10.0))

    with pytest.raises(RunFailed, match="never seen decoding all at once"):
        stream_figures([[first], [second]])


def test_a_stream_asks_again_until_each_has_an_answer() -> None:
    enough = threading.Event()
    quick: list[int] = []

    def ask(stream: int, number: int) -> Completion:
        if stream == 1:
            assert enough.wait(20)
        else:
            quick.append(number)
            if len(quick) == 3:
                enough.set()
        return answer(float(number), 0.1, (2, 0.1))

    answers = closed_loop(ask, 2)

    assert quick[:3] == [0, 1, 2]
    assert len(answers[1]) == 1


def test_short_answers_go_on_until_all_streams_were_busy_together() -> None:
    """Stream 1 begins when stream 0 has its first answer, as where a prompt takes longer than an answer."""

    def ask(stream: int, number: int) -> Completion:
        return answer(number + 0.95 * stream, 10, (11, 900.0))

    answers = closed_loop(ask, 2)

    assert len(answers[0]) == 2
    assert stream_figures(answers).ms > 400


def test_a_failure_ends_the_loop_of_all_streams() -> None:
    def ask(stream: int, number: int) -> Completion:
        if stream == 1:
            raise RunFailed("the server is gone")
        return answer(0.0, 0.1, (2, 0.1))

    with pytest.raises(RunFailed, match="the server is gone"):
        closed_loop(ask, 2)


def run_of(server: ServerConfig, log_path: Path) -> Generation:
    session = EmbeddedEngine().launch(server, lane=CPU, log_path=log_path)
    try:
        session.wait_ready(60)
        return session.generate(request(n_predict=48), timeout_s=60)
    finally:
        session.close()


@pytest.mark.real
def test_four_real_streams_give_one_streams_text_and_acceptance(pair: tuple[str, str], tmp_path: Path) -> None:
    server = speculative(4, main_model=pair[0], draft_model=pair[1], context=256)
    one = run_of(server, tmp_path / "one.log")
    four = run_of(replace(server, concurrency=4), tmp_path / "four.log")
    plain = run_of(replace(vanilla(pair[0], context=256), concurrency=4), tmp_path / "plain.log")

    assert [invalid_reason(run, server, request(n_predict=48)) for run in (one, four)] == [None, None]
    assert four.tokens == plain.tokens == one.tokens
    assert four.stream_tokens_per_second is not None
    assert len(four.stream_tokens_per_second) == len(four.stream_first_token_ms or ()) == 4
    assert one.rounds is not None
    assert one.draft_tokens is not None
    assert one.accepted_tokens is not None
    requests = (four.rounds or 0) / one.rounds  # four, and those of streams that had to wait for others
    assert requests >= 4
    assert (four.draft_tokens, four.accepted_tokens) == (requests * one.draft_tokens, requests * one.accepted_tokens)
    assert (plain.draft_tokens, plain.shortest, four.shortest) == (None, 48, 48)
