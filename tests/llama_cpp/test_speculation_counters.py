"""What /metrics says of speculation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from velosweep.llama_cpp.server_facts import parse_counters

COUNTERS = """\
# HELP llamacpp:spec_decode_num_drafts_total Speculative: Total speculative decoding verification steps
# TYPE llamacpp:spec_decode_num_drafts_total counter
llamacpp:spec_decode_num_drafts_total 4
llamacpp:spec_decode_num_draft_tokens_total 15
llamacpp:spec_decode_num_accepted_tokens_total 3
llamacpp:spec_decode_num_accepted_tokens_per_pos_total{position="1"} 1
llamacpp:spec_decode_num_accepted_tokens_per_pos_total{position="0"} 2
llamacpp:prompt_tokens_total 11
"""


def test_counters_are_read_and_differences_taken() -> None:
    before = parse_counters(COUNTERS)
    after = parse_counters(COUNTERS.replace("total 15", "total 35").replace('{position="1"} 1', '{position="1"} 4'))

    assert before is not None
    assert after is not None
    assert (before.rounds, before.draft_tokens, before.accepted_tokens, before.accepted_per_position) == (
        4,
        15,
        3,
        (2, 1),
    )
    assert (
        after.since(before).rounds,
        after.since(before).draft_tokens,
        after.since(before).accepted_tokens,
        after.since(before).accepted_per_position,
    ) == (0, 20, 0, (0, 3))


def test_a_build_without_counters_has_none() -> None:
    assert parse_counters("llamacpp:prompt_tokens_total 11\n") is None


@given(st.text())
def test_no_metrics_text_breaks_the_parser(text: str) -> None:
    parse_counters("llamacpp:spec_decode_num_" + text)
