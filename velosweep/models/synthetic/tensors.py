"""One synthetic model: which tensors it has, what is in them, and how they are written a piece at a time."""

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType
from gguf.quants import quantize

from velosweep.config.settings import SyntheticShape

# The first coordinate of the residual stream is the same for every token and no block writes to it: through it
# the output layer forbids every token that is not printable ASCII, so that text is valid UTF-8 at any temperature.
ANCHOR = 4.0
FORBID = -20.0

# Standard deviations of what the parts compute from unit-variance input. Attention is sharp and its share of the
# residual stream large, so that the next token depends on the whole history: greedy text of a random model whose
# next token depends on the last one alone falls into loops.
QUERY_KEY_SCALE = 1.6
ATTENTION_SCALE = 2.0
FEED_FORWARD_SCALE = 2.0
LOGIT_SCALE = 4.0

CONTEXT = 32768
Pieces = Iterator[bytes]

# A byte-level BPE vocabulary: 256 bytes, one merge, two control tokens, then padding.
BOS = 257
EOS = 258
PRINTABLE = range(0x20, 0x7F)
MERGE = "t h"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tensor:
    """Its name, rows and columns (rows 0: a vector), and its bytes on demand. `plain`: f32 whatever the file's type."""

    name: str
    rows: int
    columns: int
    pieces: Callable[[], Pieces]
    plain: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticFile:
    """A file to write. `what`: of its name; `extra`: header values of its architecture, beside those that all have."""

    architecture: str
    what: str
    blocks: int
    tensors: tuple[Tensor, ...]
    heads: int | None = None  # of attention, for queries, keys and values alike; None: the shape's
    extra: Mapping[str, int | bool | list[int]] = field(default_factory=dict)


def plain_model(shape: SyntheticShape, layers: int, pool: "Pool") -> SyntheticFile:
    """The model of the shape's first `layers` blocks."""
    blocks = [tensor for number in range(layers) for tensor in block(shape, number, pool)]
    return SyntheticFile(
        architecture="llama",
        what=f"{layers} of {shape.layers} blocks",
        blocks=layers,
        tensors=model_tensors(shape, blocks, pool),
    )


def write_gguf(file: SyntheticFile, shape: SyntheticShape, path: Path) -> None:
    """Write a file a piece at a time."""
    writer = GGUFWriter(path, file.architecture)
    try:
        _add_metadata(writer, file, shape)
        for tensor in file.tensors:
            kind = GGMLQuantizationType.F32 if tensor.plain else GGMLQuantizationType[shape.type.upper()]
            weights, size = GGML_QUANT_SIZES[kind]
            count = max(tensor.rows, 1) * tensor.columns
            dims = [tensor.rows, tensor.columns] if tensor.rows else [tensor.columns]
            writer.add_tensor_info(tensor.name, dims, np.dtype(np.float32), count // weights * size, kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        assert writer.fout is not None  # noqa: S101 - opened by the lines above
        out = writer.fout[0]
        for tensor in file.tensors:
            writer.write_padding(out, out.tell())
            for piece in tensor.pieces():
                out.write(piece)
        writer.write_padding(out, out.tell())
    finally:
        writer.close()


def model_tensors(shape: SyntheticShape, blocks: list[Tensor], pool: "Pool") -> tuple[Tensor, ...]:
    """The tensors of a language model with these blocks, in the file's order."""
    return (embeddings(shape, pool), *blocks, norm("output_norm.weight", shape.width, anchor=1.0), output(shape, pool))


def block(shape: SyntheticShape, number: int, pool: "Pool", *, stored_as: int | None = None) -> Iterator[Tensor]:
    """The tensors of a block, the same in the main and the draft model, under its own number or another one."""
    width, hidden = shape.width, shape.feed_forward
    kv_width = width // shape.heads * shape.kv_heads
    damping = 1.0 if number < shape.kept_layers else shape.eps
    stored = f"blk.{number if stored_as is None else stored_as}"

    def matrix(part: str, rows: int, columns: int, scale: float, *, writes: bool = False) -> Tensor:
        """A weight of the block, of standard deviation scale / sqrt(columns). `writes`: into the residual stream."""
        name = f"blk.{number}.{part}.weight"
        deviation = scale / columns**0.5

        def pieces() -> Pieces:
            """The weight's values, row by row."""
            if not writes:
                yield from pool.chunks(name, rows * columns, deviation)
                return
            yield pool.zeros(columns)  # the anchor is left alone
            yield from pool.chunks(name, (rows - 1) * columns, deviation * damping)

        return Tensor(name=f"{stored}.{part}.weight", rows=rows, columns=columns, pieces=pieces)

    yield norm(f"{stored}.attn_norm.weight", width, anchor=0.0)
    yield matrix("attn_q", width, width, QUERY_KEY_SCALE)
    yield matrix("attn_k", kv_width, width, QUERY_KEY_SCALE)
    yield matrix("attn_v", kv_width, width, 1.0)
    yield matrix("attn_output", width, width, ATTENTION_SCALE, writes=True)
    yield norm(f"{stored}.ffn_norm.weight", width, anchor=0.0)
    yield matrix("ffn_gate", hidden, width, 1.0)
    yield matrix("ffn_up", hidden, width, 1.0)
    yield matrix("ffn_down", width, hidden, FEED_FORWARD_SCALE, writes=True)


def norm(name: str, width: int, *, anchor: float, scale: float = 1.0) -> Tensor:
    """A vector of a normalisation: `scale`, and `anchor` for the first coordinate."""
    values = np.full(width, scale, dtype="<f4")
    values[0] = anchor
    return Tensor(name=name, rows=0, columns=width, pieces=lambda: iter([values.tobytes()]), plain=True)


def embeddings(shape: SyntheticShape, pool: "Pool") -> Tensor:
    used = len(vocabulary_tokens(0)[0])

    def pieces() -> Pieces:
        for token in range(used):
            yield pool.row("token_embd", token, shape.width, anchor=ANCHOR, scale=1.0)
        yield from pool.chunks("token_embd.padding", (shape.vocabulary - used) * shape.width, 1.0)

    return Tensor(name="token_embd.weight", rows=shape.vocabulary, columns=shape.width, pieces=pieces)


def output(shape: SyntheticShape, pool: "Pool") -> Tensor:
    def pieces() -> Pieces:
        forbidden = pool.row("", 0, shape.width, anchor=FORBID, scale=0.0)
        for token in range(shape.vocabulary):
            allowed = token in PRINTABLE
            scale = LOGIT_SCALE / shape.width**0.5
            yield pool.row("output", token, shape.width, anchor=0.0, scale=scale) if allowed else forbidden

    return Tensor(name="output.weight", rows=shape.vocabulary, columns=shape.width, pieces=pieces)


def _add_metadata(writer: GGUFWriter, file: SyntheticFile, shape: SyntheticShape) -> None:
    writer.add_name(f"velosweep synthetic, {file.what}, eps {shape.eps}")
    writer.add_description("Random weights: times are real, text is not")
    writer.add_file_type(LlamaFileType[f"{'ALL' if shape.type == 'f32' else 'MOSTLY'}_{shape.type.upper()}"])
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(file.blocks)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(file.heads or shape.heads)
    writer.add_head_count_kv(file.heads or shape.kv_heads)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape.vocabulary)
    for name, value in file.extra.items():
        key = f"{file.architecture}.{name}"
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        else:
            writer.add_uint32(key, value)
    texts, kinds = vocabulary_tokens(shape.vocabulary)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(texts)
    writer.add_token_types(kinds)
    writer.add_token_merges([MERGE])
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    if file.architecture == "dflash":
        writer.add_mask_token_id(EOS)  # what stands for a token that is yet to be drafted
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)


def vocabulary_tokens(size: int) -> tuple[list[str], list[TokenType]]:
    """Token texts and types; token id = byte value for the first 256.

    GPT-2 writes a byte as itself where that can be printed, else as a character from U+0100 on.
    """
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    characters = {byte: chr(byte) for byte in shown}
    for byte in range(256):
        characters.setdefault(byte, chr(0x100 + len(characters) - len(shown)))
    texts = [*(characters[byte] for byte in range(256)), MERGE.replace(" ", ""), "<|begin|>", "<|end|>"]
    types = [TokenType.NORMAL] * 257 + [TokenType.CONTROL] * 2
    padding = range(len(texts), size)
    return texts + [f"<|unused{i}|>" for i in padding], types + [TokenType.UNUSED] * len(padding)


SMALLEST_POOL, LARGEST_POOL = 1 << 16, 1 << 22
GRAIN = 32  # cuts start at its multiples: a quantised block


class Pool:
    """Random weights of one seed for tensors of any size in little memory: cut at random places, scaled, quantised.

    They come from PCG64's raw bits, whose stream numpy keeps unchanged, by exact floating-point steps: a shape has the
    same weights on every machine.
    """

    def __init__(self, seed: int, kind: str, *, largest: int) -> None:
        """`largest`: weights of the largest tensor; the pool is several times that, within bounds."""
        self._seed = seed
        self._size = min(max(1 << (8 * largest - 1).bit_length(), SMALLEST_POOL), LARGEST_POOL)
        self._chunk = self._size // 4
        self._kind = GGMLQuantizationType[kind.upper()]
        raw = np.asarray(np.random.PCG64(seed).random_raw(self._size // 4), dtype="<u8").view("<u2")
        # Uniform with variance 1: (k + 1/2) / 2^16 - 1/2, times sqrt(12).
        self._unit: npt.NDArray[np.float32] = (raw.astype(np.float32) - np.float32(32767.5)) * np.float32(
            12**0.5 / 65536
        )
        self._scaled: dict[float, bytes] = {}

    def row(self, table: str, number: int, width: int, *, anchor: float, scale: float) -> bytes:
        """A table's row: `anchor`, then weights of standard deviation `scale`.

        No two of a table's rows are alike: that would tie two tokens.
        """
        start = (next(self._starts(table)) + number * width) % (self._size - width)
        values = self._unit[start : start + width] * np.float32(scale)
        values[0] = anchor
        return self.encode(values)

    def zeros(self, count: int) -> bytes:
        return self.encode(self._unit[:count] * 0)

    def values(self, name: str, count: int, scale: float) -> npt.NDArray[np.float32]:
        """The weights that `chunks` encodes."""
        starts = self._starts(name)
        cuts = ((next(starts), min(self._chunk, count - done)) for done in range(0, count, self._chunk))
        values: npt.NDArray[np.float32] = np.concatenate([self._unit[start : start + size] for start, size in cuts])
        values *= np.float32(scale)
        return values

    def encode(self, values: npt.NDArray[np.floating[Any]]) -> bytes:
        """`values` (a multiple of 32 of them) in the pool's type."""
        return quantize(np.ascontiguousarray(values, dtype=np.float32), self._kind).tobytes()

    def chunks(self, name: str, count: int, scale: float) -> Iterator[bytes]:
        """Bytes of `count` weights of standard deviation `scale`, a piece at a time."""
        if scale not in self._scaled:
            self._scaled[scale] = self.encode(self._unit * np.float32(scale))
        encoded = self._scaled[scale]
        per_weight = len(encoded) / self._size  # a multiple of 1/256, so offsets are whole
        starts = self._starts(name)
        for done in range(0, count, self._chunk):
            size, start = min(self._chunk, count - done), next(starts)
            yield encoded[int(start * per_weight) : int((start + size) * per_weight)]

    def _starts(self, name: str) -> Iterator[int]:
        """Where the pieces of a tensor are cut, the same for the same name and seed."""
        bits = np.random.PCG64([self._seed, zlib.crc32(name.encode())])
        while True:
            yield int(bits.random_raw() >> 11) % ((self._size - self._chunk) // GRAIN) * GRAIN
