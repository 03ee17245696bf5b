"""Every parser of foreign bytes, bounded for CI; `python -m tests.fuzz.campaign` is the long one."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, WORDS


@st.composite
def damaged(draw, seeds):
    """A sound input, cut, overwritten and added to at a few places."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 4))):
        position = draw(st.integers(0, len(data)))
        piece = draw(st.sampled_from(WORDS) | st.binary(max_size=8))
        kind = draw(st.sampled_from(["insert", "overwrite", "cut", "repeat"]))
        if kind == "insert":
            data[position:position] = piece
        elif kind == "overwrite":
            data[position : position + len(piece)] = piece
        elif kind == "cut":
            del data[position : position + draw(st.integers(1, 64))]
        else:
            data[position:position] = data[position : position + 64]
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_a_sound_input_is_understood(name):
    for seed in TARGETS[name].seeds:
        TARGETS[name].run(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_any_damage_is_understood_or_our_own_error(name):
    target = TARGETS[name]

    @settings(max_examples=100, deadline=None, database=None)
    @given(data=damaged(target.seeds) | st.binary(max_size=200))
    def check(data):
        target.run(data)

    check()


@pytest.mark.parametrize("name", TARGETS)
def test_every_known_trick_at_many_places(name):
    for seed, word in itertools.product(TARGETS[name].seeds, WORDS):
        for position in range(0, len(seed), max(1, len(seed) // 12)):
            TARGETS[name].run(seed[:position] + word + seed[position:])
            TARGETS[name].run(seed[:position] + word + seed[position + len(word) :])
