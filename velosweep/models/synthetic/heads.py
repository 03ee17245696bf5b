"""Heads that draft for the synthetic main model: MTP, EAGLE-3, DFlash and DSpark, as llama.cpp asks for them.

MTP and EAGLE-3 heads compute what the main model's first block does, so that eps decides their acceptance, too, where
`kept_layers` is 1: MTP heads are then about as often right as the draft model; of more kept layers they lack all but
the first. EAGLE-3 heads, which llama.cpp never shows the first token, are right less often, least in short texts (at
eps 0, 79 % of first tokens behind 2 tokens, 93 % behind 1,600). DFlash and DSpark predict a block of tokens at once
with weights that nobody trained: they are right by chance alone; `speculation.synthetic_acceptance` gives them what one
likes.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from velosweep.config.settings import SyntheticShape
from velosweep.models.synthetic.tensors import (
    ANCHOR,
    ATTENTION_SCALE,
    QUERY_KEY_SCALE,
    Pool,
    SyntheticFile,
    Tensor,
    block,
    model_tensors,
    norm,
    output,
)

Floats = npt.NDArray[np.floating[Any]]

BLOCK_SIZE = 16  # tokens that a DFlash or DSpark head drafts at once
MARKOV_RANK = 32
ROPE_BASE = 10000.0
# By how much attention to a token itself exceeds that to the one before it: e^-40 is nothing.
SELF_ATTENTION = 40.0


def head_files(shape: SyntheticShape, kind: str, pool: Pool) -> tuple[SyntheticFile, ...]:
    """What a kind of speculation needs beside the plain main model, in the order of `pair.FILES`."""
    if kind == "draft-mtp":
        return _mtp(shape, pool)
    return ({"draft-eagle3": _eagle3, "draft-dflash": _dflash, "draft-dspark": _dspark}[kind](shape, pool),)


def _rows(name: str, rows: int, columns: int, content: Callable[[], Iterator[Floats]], pool: Pool) -> Tensor:
    """A matrix that is made some rows at a time."""
    return Tensor(name=name, rows=rows, columns=columns, pieces=lambda: map(pool.encode, content()))


def _embedding_rms(shape: SyntheticShape) -> float:
    """Of a token embedding: the anchor, and coordinates of variance 1."""
    return float(((ANCHOR**2 + shape.width - 1) / shape.width) ** 0.5)


def _mtp(shape: SyntheticShape, pool: Pool) -> tuple[SyntheticFile, ...]:
    """The main model again, with an MTP head as its last block; and the head in a file of its own."""
    trunk = [tensor for number in range(shape.layers) for tensor in _normed_block(shape, number, number, pool)]
    head = list(_mtp_block(shape, pool))
    return _hy_v3(shape, "with an MTP head", [*trunk, *head], pool), _hy_v3(shape, "MTP head", head, pool)


def _hy_v3(shape: SyntheticShape, what: str, blocks: list[Tensor], pool: Pool) -> SyntheticFile:
    """Of the architectures with MTP heads the one whose blocks are most like the plain main model's."""
    return SyntheticFile(
        architecture="hy_v3",
        what=what,
        blocks=shape.layers + 1,
        tensors=model_tensors(shape, blocks, pool),
        extra={"nextn_predict_layers": 1, "expert_feed_forward_length": shape.feed_forward},
    )


def _normed_block(shape: SyntheticShape, number: int, stored_as: int, pool: Pool) -> Iterator[Tensor]:
    """A block that normalises its queries and keys, to the size that they have in the main model."""
    yield from block(shape, number, pool, stored_as=stored_as)
    for part in ("attn_q_norm", "attn_k_norm"):
        yield norm(
            f"blk.{stored_as}.{part}.weight", shape.width // shape.heads, anchor=QUERY_KEY_SCALE, scale=QUERY_KEY_SCALE
        )


def _mtp_block(shape: SyntheticShape, pool: Pool) -> Iterator[Tensor]:
    """The first block, fed with the embedding alone, of the embedding and the hidden state that it is given."""
    width, head = shape.width, f"blk.{shape.layers}"
    rms = _embedding_rms(shape)

    def projection() -> Iterator[Floats]:
        for row in range(width):
            yield np.eye(1, 2 * width, row)

    yield from _normed_block(shape, 0, shape.layers, pool)
    yield _rows(f"{head}.nextn.eh_proj.weight", width, 2 * width, projection, pool)
    yield norm(f"{head}.nextn.enorm.weight", width, anchor=rms, scale=rms)
    yield norm(f"{head}.nextn.hnorm.weight", width, anchor=1.0)
    yield norm(f"{head}.nextn.shared_head_norm.weight", width, anchor=1.0)


def _eagle3(shape: SyntheticShape, pool: Pool) -> SyntheticFile:
    """The first block, without EAGLE-3's residual of the main model's hidden states."""
    width, depth = shape.width, shape.width // shape.heads
    attention = {tensor.name: tensor for tensor in _eagle3_attention(shape, pool)}
    return SyntheticFile(
        architecture="eagle3",
        what="EAGLE-3 head",
        blocks=1,
        heads=2 * shape.heads,
        tensors=(
            _random("fc.weight", width, 3 * width, pool),
            norm("output_norm.weight", width, anchor=1.0),
            output(shape, pool),
            norm("blk.0.attn_norm_2.weight", width, anchor=0.0, scale=0.0),
            *(attention.get(tensor.name, tensor) for tensor in block(shape, 0, pool)),
        ),
        extra={
            "target_layers": _target_layers(shape),
            "target_hidden_size": width,
            "norm_before_residual": True,
            "attention.key_length": depth,
            "attention.value_length": depth,
        },
    )


def _eagle3_attention(shape: SyntheticShape, pool: Pool) -> Iterator[Tensor]:
    """The first block's attention heads, and as many that bring each token's own embedding into the residual stream."""
    width, depth = shape.width, shape.width // shape.heads
    repeats = shape.heads // shape.kv_heads
    rms = _embedding_rms(shape)
    frequencies = ROPE_BASE ** (-np.arange(0, depth, 2) / depth)
    # Queries and keys that are the same for every token: their product falls with the distance alone.
    constant = (SELF_ATTENTION * depth**0.5 / (2 * (1 - np.cos(frequencies)).sum())) ** 0.5 * rms / ANCHOR

    def reads(part: str, scale: float, own: Callable[[int], tuple[int, float]], *, shared: bool) -> Tensor:
        """A matrix that reads the embedding, and of the hidden states nothing.

        `own`: column and weight of each row of the further heads. `shared`: in the main model several query heads share
        one of its heads; here each has a copy.
        """
        name = f"blk.0.{part}.weight"
        rows = (shape.kv_heads if shared else shape.heads) * depth

        def content() -> Iterator[Floats]:
            for of_head in pool.values(name, rows * width, scale / width**0.5).reshape(-1, depth, width):
                padded = np.zeros((depth, 2 * width), np.float32)
                padded[:, 1:width] = of_head[:, 1:]  # but the anchor, which the main model's norm leaves out
                yield from [padded] * (repeats if shared else 1)
            for row in range(width):
                column, weight = own(row)
                yield np.eye(1, 2 * width, column) * weight

        return _rows(name, 2 * width, 2 * width, content, pool)

    def writes() -> Iterator[Floats]:
        values = pool.values("blk.0.attn_output.weight", (width - 1) * width, ATTENTION_SCALE / width**0.5)
        for row, of_row in enumerate([np.zeros(width, np.float32), *values.reshape(-1, width)]):
            yield np.concatenate([of_row, np.eye(1, width, row)[0]])

    yield norm("blk.0.attn_norm.weight", width, anchor=1.0)
    yield reads("attn_q", QUERY_KEY_SCALE, lambda row: (0, constant), shared=False)
    yield reads("attn_k", QUERY_KEY_SCALE, lambda row: (0, constant), shared=True)
    yield reads("attn_v", 1.0, lambda row: (row, rms), shared=True)
    yield _rows("blk.0.attn_output.weight", width, 2 * width, writes, pool)


def _target_layers(shape: SyntheticShape) -> list[int]:
    """An early, a middle and a late one."""
    return [min(number, shape.layers - 1) for number in (1, shape.layers // 2, shape.layers - 1)]


def _random(name: str, rows: int, columns: int, pool: Pool) -> Tensor:
    return Tensor(
        name=name, rows=rows, columns=columns, pieces=lambda: pool.chunks(name, rows * columns, columns**-0.5)
    )


def _dflash(shape: SyntheticShape, pool: Pool) -> SyntheticFile:
    """A block of tokens at once: the last one, then as many masks as are to be drafted."""
    width = shape.width
    return SyntheticFile(
        architecture="dflash",
        what="DFlash head",
        blocks=1,
        tensors=(
            _random("fc.weight", width, 3 * width, pool),
            norm("enc.output_norm.weight", width, anchor=1.0),
            norm("output_norm.weight", width, anchor=1.0),
            *_normed_block(shape, 0, 0, pool),
        ),
        extra={"target_layers": _target_layers(shape), "block_size": BLOCK_SIZE},
    )


def _dspark(shape: SyntheticShape, pool: Pool) -> SyntheticFile:
    """A DFlash head that also tells each token of a block by the one before it, and how sure it is of it."""
    plain = _dflash(shape, pool)
    further = (
        _random("markov_w1.weight", shape.vocabulary, MARKOV_RANK, pool),
        _random("markov_w2.weight", shape.vocabulary, MARKOV_RANK, pool),
        _random("conf_proj.weight", 1, shape.width + MARKOV_RANK, pool),
        Tensor(
            name="conf_proj.bias", rows=0, columns=1, pieces=lambda: iter([np.zeros(1, "<f4").tobytes()]), plain=True
        ),
    )
    return replace(plain, what="DSpark head", tensors=(*plain.tensors, *further))
