"""What a model file says of itself, read from its GGUF header (ggml's docs/gguf.md).

Nothing is allocated or looped over by a size that the file claims, only by bytes that are there, and values of keys we
don't need are skipped. The package gguf, which writes our models, trusts what a file claims, and takes 14 s instead of
.2 s over a vocabulary of 128,000 tokens.
"""

import os
import struct
from dataclasses import dataclass, field
from pathlib import Path

from velosweep.errors import ModelFileError
from velosweep.models.draft_heads import DraftHead, draft_head
from velosweep.models.file_contents import OtherContent, other_content
from velosweep.models.vocabularies import default_special_tokens, vocabulary_type
from velosweep.units import bytes_words

HeaderValue = int | float | bool | bytes | tuple[int, ...]
Tokens = tuple[bytes, ...]

FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4", 39: "NVFP4", 40: "Q1_0",
}  # fmt: skip
"""llama.cpp's LLAMA_FTYPE numbers (`general.file_type`), as people write them."""

# How much of a file is read, and then read again while its header is longer. Real models' have some MB, for up to a
# quarter of a million tokens and their merges.
_READS = (1 << 24, 1 << 27, 1 << 29)
_MAX_PAIRS = 1 << 16
_MAX_TENSORS = 1 << 18
_MAX_TOKENS = 1 << 22
_MAX_DIMENSIONS = 4
_MAX_NUMBERS = 512  # of an array that is kept: some are by layer
_MAX_ALIGNMENT = 1 << 20
_TOKENS_KEY = b"tokenizer.ggml.tokens"

_STRING, _ARRAY = 8, 9
_LAYOUTS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_SCALARS = {kind: struct.Struct(layout) for kind, layout in _LAYOUTS.items()}
_U32, _U64 = _SCALARS[4], _SCALARS[10]

# Weights in a block and its bytes, by ggml_type.
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66), 17: (256, 74),
    18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2),
    26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
    40: (64, 36), 41: (128, 18),
}  # fmt: skip


class HeaderError(Exception):
    """Why the bytes are no GGUF header; becomes a ModelFileError with the path."""


class _EndOfDataError(HeaderError):
    """The header goes on beyond the bytes that were read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GgufInfo:
    """A model file's header; `bos`, `add_bos` and so on are llama.cpp's defaults where the file leaves it to them."""

    path: Path
    architecture: str
    file_type: str | None
    layers: int | None
    parameters: int
    vocabulary_type: str | None
    tokens: tuple[bytes, ...] = field(repr=False, hash=False)  # the texts by id; empty without a vocabulary
    bos: int | None
    eos: int | None
    add_bos: bool | None
    add_eos: bool | None
    size_bytes: int  # of the file, of all parts for a split model that was checked
    expected_bytes: int  # the least that its tensors need
    split_number: int = 0
    split_count: int = 1
    kv_elements_per_token: int | None = None  # numbers the KV cache keeps for a token; None where not of the usual kind
    width: int | None = None  # of the embeddings
    head: DraftHead | None = None  # what the file holds to draft for a main model
    chat_template: str | None = None  # in Jinja, which llama.cpp reads
    trained_context: int | None = None  # tokens that the model was trained for
    non_model: OtherContent | None = None  # what the file holds if it is no language model

    @property
    def description(self) -> str:
        """One line for people, e.g. `llama 8.0B Q8_0, 32 layers, 8.5 GB`."""
        size = f"{self.parameters / 1e9:.1f}B" if self.parameters >= 1e9 else f"{self.parameters / 1e6:.0f}M"
        parts = [f"{self.architecture} {size}" + (f" {self.file_type}" if self.file_type else "")]
        if self.layers is not None:
            parts.append(f"{self.layers} layer{'s' if self.layers != 1 else ''}")
        return ", ".join([*parts, bytes_words(self.size_bytes)])


def read_header(path: Path) -> GgufInfo:
    """Read the header of `path`. Raises ModelFileError if it is no GGUF that llama.cpp could read."""
    remedy = "give a GGUF model file"
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            for length in _READS:
                file.seek(0)
                try:
                    return parse_header(file.read(length), path, size)
                except _EndOfDataError:
                    if length >= size or length == _READS[-1]:
                        raise
    except HeaderError as error:
        raise ModelFileError(f"{path} is not a GGUF model: {error}", remedy=remedy) from error
    except OSError as error:
        raise ModelFileError(f"The model {path} can't be read: {error.strerror}", remedy=remedy) from error
    raise AssertionError  # the last length raises or returns


def parse_header(data: bytes, path: Path, size: int) -> GgufInfo:
    """What the first bytes of a file say, with llama.cpp's defaults for what they leave out. Raises HeaderError."""
    reader = _Reader(data)
    n_tensors, n_pairs = reader.counts()
    values: dict[str, HeaderValue] = {}
    for _ in range(n_pairs):
        key, value = reader.pair()
        if value is not None:
            values[key.decode("utf-8", "replace")] = value
    alignment = values.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1) or alignment > _MAX_ALIGNMENT:
        raise HeaderError(f"its alignment is {alignment!r}")
    tensors = [reader.tensor() for _ in range(n_tensors)]
    data_start = -(-reader.position // alignment) * alignment
    architecture = _text(values, "general.architecture") or "unknown"
    tokenizer = _text(values, "tokenizer.ggml.model")
    special = default_special_tokens(tokenizer, _text(values, "tokenizer.ggml.pre"), len(reader.tokens))
    names, split_count = {name for name, *_ in tensors}, max(_number(values, "split.count") or 1, 1)
    file_type, template = _number(values, "general.file_type"), values.get("tokenizer.chat_template")
    template = template if isinstance(template, bytes) and b"{%" in template else None
    return GgufInfo(
        path=path,
        architecture=architecture,
        file_type=None if file_type is None else FILE_TYPES.get(file_type, f"type {file_type}"),
        layers=_number(values, f"{architecture}.block_count"),
        parameters=sum(weights for _, weights, _ in tensors),
        vocabulary_type=vocabulary_type(tokenizer),
        tokens=reader.tokens,
        bos=_number(values, "tokenizer.ggml.bos_token_id", default=special.bos),
        eos=_number(values, "tokenizer.ggml.eos_token_id", default=special.eos),
        add_bos=_flag(values, "tokenizer.ggml.add_bos_token", default=special.add_bos),
        add_eos=_flag(values, "tokenizer.ggml.add_eos_token", default=special.add_eos),
        size_bytes=size,
        expected_bytes=data_start + max(end for *_, end in tensors) if tensors else reader.position,
        split_number=_number(values, "split.no") or 0,
        split_count=split_count,
        kv_elements_per_token=_kv_elements_per_token(values, architecture),
        width=_number(values, f"{architecture}.embedding_length"),
        chat_template=str(template, "utf-8", "replace") if template else None,
        head=draft_head(architecture, values, names),
        trained_context=_number(values, f"{architecture}.context_length"),
        non_model=other_content(architecture, values, names, whole=split_count == 1),
    )


def _kv_elements_per_token(values: dict[str, HeaderValue], architecture: str) -> int | None:
    """KV heads of all layers x (key + value length): too many with sliding windows, None for compressed keys (MLA)."""

    def number(name: str, default: int | None = None) -> int | None:
        return _number(values, f"{architecture}.{name}", default)

    layers, heads, width = number("block_count"), number("attention.head_count"), number("embedding_length")
    by_layer = values.get(f"{architecture}.attention.head_count")
    if isinstance(by_layer, tuple):
        heads = max(by_layer, default=None)
    if not layers or not heads or not width or number("attention.kv_lora_rank"):
        return None
    kv_heads = number("attention.head_count_kv", heads) or heads
    kv_heads *= layers // max(number("full_attention_interval") or 1, 1)  # the others keep no earlier tokens
    by_layer = values.get(f"{architecture}.attention.head_count_kv")
    if isinstance(by_layer, tuple):
        kv_heads = sum(by_layer)
    key = number("attention.key_length", width // heads) or 0
    value = number("attention.value_length", width // heads) or 0
    return kv_heads * (key + value) or None


def _text(values: dict[str, HeaderValue], key: str) -> str | None:
    """Text without control characters: it may reach a terminal."""
    value = values.get(key)
    if not isinstance(value, bytes):
        return None
    return "".join(c if c.isprintable() else "�" for c in value[:800].decode("utf-8", "replace"))[:200]


def _number(values: dict[str, HeaderValue], key: str, default: int | None = None) -> int | None:
    value = values.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def _flag(values: dict[str, HeaderValue], key: str, default: bool | None) -> bool | None:
    value = values.get(key)
    return value if isinstance(value, bool) else default


class _Reader:
    """The beginning of a file and a position in it. Whatever goes beyond raises _EndOfDataError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0
        self.tokens: Tokens = ()

    def counts(self) -> tuple[int, int]:
        """How many tensors and how many values follow; read first."""
        if self.take(4) != b"GGUF":
            raise HeaderError("it doesn't begin with GGUF")
        version = self.number(_U32)
        if version not in (2, 3):
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            known = f"version {version}" if swapped not in (2, 3) else "big-endian"
            raise HeaderError(f"its format is {known}, llama.cpp reads version 2 and 3, little-endian")
        n_tensors, n_pairs = self.number(_U64), self.number(_U64)
        if n_pairs > _MAX_PAIRS or n_tensors > _MAX_TENSORS:
            raise HeaderError(f"it claims {n_tensors} tensors and {n_pairs} values")
        return n_tensors, n_pairs

    def take(self, count: int) -> bytes:
        start = self.position
        self.skip(count)
        return self._data[start : self.position]

    def skip(self, count: int) -> None:
        if self.position + count > len(self._data):
            raise _EndOfDataError(f"its header ends or makes no sense at byte {self.position}")
        self.position += count

    def number(self, layout: struct.Struct) -> int:
        value: int = layout.unpack(self.take(layout.size))[0]
        return value

    def string(self) -> bytes:
        return self.take(self.number(_U64))

    def pair(self) -> tuple[bytes, HeaderValue | None]:
        """A key and its value: None for an array, but for a short one of integers; the token texts go to `tokens`."""
        key, kind = self.string(), self.number(_U32)
        if kind == _STRING:
            return key, self.string()
        if kind == _ARRAY:
            kind, count = self.number(_U32), self.number(_U64)
            if kind == _STRING:
                texts = self._strings(count)
                self.tokens = texts if key == _TOKENS_KEY else self.tokens
                return key, None
            if kind not in _SCALARS:
                raise HeaderError(f"it has an array of unknown type {kind}")
            if count > _MAX_NUMBERS or _LAYOUTS[kind] in ("<f", "<?", "<d"):
                self.skip(count * _SCALARS[kind].size)
                return key, None
            return key, tuple(self.number(_SCALARS[kind]) for _ in range(count))
        if kind not in _SCALARS:
            raise HeaderError(f"it has a value of unknown type {kind}")
        value: HeaderValue = _SCALARS[kind].unpack(self.take(_SCALARS[kind].size))[0]
        return key, value

    def _strings(self, count: int) -> Tokens:
        """`count` strings. The loop is written for speed: a vocabulary and its merges are 400,000 of them."""
        if count > _MAX_TOKENS:
            raise HeaderError(f"it claims an array of {count} texts")
        length_at, data, position, texts = _U64.unpack_from, self._data, self.position, []
        try:
            for _ in range(count):
                start = position + 8
                position = start + length_at(data, position)[0]
                texts.append(data[start:position])
        except (struct.error, OverflowError):  # a length lies beyond the end
            position = len(data) + 1
        self.skip(position - self.position)
        return tuple(texts)

    def tensor(self) -> tuple[bytes, int, int]:
        """A tensor's name, number of weights and where its data end, from the data's begin."""
        name = self.string()
        n_dimensions = self.number(_U32)
        if n_dimensions > _MAX_DIMENSIONS:
            raise HeaderError(f"it has a tensor of {n_dimensions} dimensions")
        weights = 1
        for _ in range(n_dimensions):
            weights *= self.number(_U64)
        kind, offset = self.number(_U32), self.number(_U64)
        per_block, size = _BLOCKS.get(kind, (1, 0))  # a type newer than this table: at least its offset is known
        return name, weights, offset + weights // per_block * size
