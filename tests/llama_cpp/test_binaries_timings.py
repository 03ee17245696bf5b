"""What the programs print, in every format since 2024."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velosweep.llama_cpp.binaries import parse_speculative, parse_vanilla

OLDEST = """\
llama_print_timings:        load time =     334.33 ms
llama_print_timings:      sample time =       0.53 ms /    20 runs   (    0.03 ms per token, 37735.85 tokens per second)
llama_print_timings: prompt eval time =      43.11 ms /    11 tokens (    3.92 ms per token,   255.16 tokens per second)
llama_print_timings:        eval time =     464.05 ms /    99 runs   (    4.69 ms per token,   213.34 tokens per second)
llama_print_timings:       total time =     507.16 ms /   110 tokens
"""
MIDDLE = OLDEST.replace("llama_print_timings", "llama_perf_context_print")
# recorded from a build of October 2026
NEWEST = """\
0.00.771.324 I common_perf_print:    sampling time =       0.53 ms
0.00.771.351 I common_perf_print:    samplers time =       0.29 ms /    31 tokens
0.00.771.377 I common_perf_print:        load time =     334.33 ms
0.00.771.389 I common_perf_print: prompt eval time =      43.11 ms /    11 tokens (    3.92 ms per token,   255.16 t/s)
0.00.771.391 I common_perf_print:        eval time =     464.05 ms /    99 runs   (    4.69 ms per token,   213.34 t/s)
0.00.771.392 I common_perf_print:       total time =     397.04 ms /    30 tokens
0.00.771.393 I common_perf_print: unaccounted time =      23.91 ms /   6.0 %      (total - sampling - …) / (total)
0.00.771.393 I common_perf_print:    graphs reused =         18
"""
# recorded from llama-speculative-simple of October 2026
SPECULATIVE = """\
0.00.921.236 I encoded   11 tokens in    0.048 seconds, speed:  226.912 t/s
0.00.921.238 I decoded   21 tokens in    0.541 seconds, speed:   38.816 t/s
0.00.921.238 I 
0.00.921.239 I n_draft   = 4
0.00.921.239 I n_predict = 21
0.00.921.240 I n_drafted = 42
0.00.921.240 I n_accept  = 9
0.00.921.241 I accept    = 21.429%
0.00.921.305 I common_perf_print: prompt eval time =     499.80 ms /    66 tokens (    7.57 ms per token,   132.05 t/s)
0.00.921.307 I common_perf_print:        eval time =       0.00 ms /     1 runs   (    0.00 ms per token,      inf t/s)
"""  # noqa: W291 - as it is printed
# recorded from llama-speculative-simple of December 2024
OLD_SPECULATIVE = """\
encoded   42 tokens in    0.473 seconds, speed:   88.719 t/s
decoded   67 tokens in    3.137 seconds, speed:   21.357 t/s

n_draft   = 4
n_predict = 67
n_drafted = 108
n_accept  = 40
accept    = 37.037%
"""


@pytest.mark.parametrize("text", [OLDEST, MIDDLE, NEWEST], ids=["2023", "2024", "2026"])
def test_eval_time_is_read_in_all_three_historical_formats(text: str) -> None:
    figures = parse_vanilla(text)

    assert figures is not None
    assert (figures.prompt_tokens, figures.prompt_ms) == (11, 43.11)
    assert (figures.predicted_tokens, figures.predicted_ms) == (100, 464.05)
    assert (figures.time_to_first_token_ms, figures.total_time_ms) == (43.11, 507.16)


def test_prompt_eval_time_is_not_taken_for_eval_time() -> None:
    only_prompt = "\n".join(line for line in OLDEST.splitlines() if "  eval time" not in line)

    assert parse_vanilla(only_prompt) is None


def test_the_last_account_counts_where_a_program_prints_several() -> None:
    figures = parse_vanilla(MIDDLE + MIDDLE.replace("464.05", "500.00"))

    assert figures is not None
    assert figures.predicted_ms == 500.0


def test_speculative_figures_come_from_decoded_and_never_from_eval_time() -> None:
    figures = parse_speculative(SPECULATIVE)

    assert figures is not None
    assert (figures.prompt_tokens, figures.predicted_tokens) == (11, 21)
    assert (figures.draft_tokens, figures.accepted_tokens, figures.rounds) == (42, 9, 12)
    assert figures.total_time_ms - figures.prompt_ms == pytest.approx(21 / 38.816 * 1000)
    assert (figures.predicted_tokens - 1) / figures.predicted_ms * 1000 == pytest.approx(38.816)


def test_speculative_figures_of_2024_are_read_without_a_time_stamp() -> None:
    figures = parse_speculative(OLD_SPECULATIVE)

    assert figures is not None
    assert (figures.predicted_tokens, figures.draft_tokens, figures.accepted_tokens) == (67, 108, 40)


def test_an_infinite_speed_falls_back_to_the_seconds() -> None:
    figures = parse_speculative(SPECULATIVE.replace("speed:   38.816", "speed:      inf"))

    assert figures is not None
    assert figures.total_time_ms - figures.prompt_ms == pytest.approx(541.0)


@given(st.text())
def test_no_text_whatever_breaks_the_parsers(text: str) -> None:
    parse_vanilla(text)
    parse_speculative(text)


@given(
    runs=st.integers(1, 100_000),
    milliseconds=st.floats(0.01, 1e7).map(lambda value: round(value, 2)),
    prefix=st.sampled_from(
        ["llama_print_timings: ", "llama_perf_context_print: ", "1.02.003.004 I common_perf_print: "]
    ),
)
def test_what_was_printed_is_what_is_read(runs: int, milliseconds: float, prefix: str) -> None:
    text = (
        f"{prefix}prompt eval time = {1.5:10.2f} ms / {3:5d} tokens (\n"
        f"{prefix}       eval time = {milliseconds:10.2f} ms / {runs:5d} runs   (\n"
    )
    figures = parse_vanilla(text)

    assert figures is not None
    assert (runs, milliseconds) == (figures.predicted_tokens - 1, figures.predicted_ms)
