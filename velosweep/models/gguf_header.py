"""The GGUF header format (ggml's docs/gguf.md): counts, key-value pairs, tensor infos.

Nothing is allocated or looped over by a size that the file claims, only by bytes that are there, and values of keys we
don't need are skipped. The package gguf, which writes our models, trusts what a file claims, and takes 14 s instead of
.2 s over a vocabulary of 128,000 tokens.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

Value = int | float | bool | bytes
Tokens = tuple[bytes, ...]

MAX_HEADER = 1 << 29  # of real models: some MB, up to a quarter of a million tokens and their merges
MAX_PAIRS = 1 << 16
MAX_TENSORS = 1 << 18
MAX_TOKENS = 1 << 22
MAX_DIMENSIONS = 4
READ = 1 << 20
TOKENS_KEY = b"tokenizer.ggml.tokens"

STRING, ARRAY = 8, 9
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}

# Weights in a block and its bytes, by ggml_type.
BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66), 17: (256, 74),
    18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2),
    26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
    40: (64, 36), 41: (128, 18),
}  # fmt: skip


class HeaderError(Exception):
    """Why the bytes are no GGUF header; becomes a ModelFileError with the path."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """Scalars and strings by key, token texts, and what the tensors need: bytes of the file, number of weights."""

    values: dict[str, Value]
    tokens: Tokens
    expected_bytes: int
    parameters: int


def parse_header(file: BinaryIO, size: int) -> Header:
    """Read the header of an open file of `size` bytes. Raises HeaderError."""
    reader = _Reader(file, size)
    if reader.take(4) != b"GGUF":
        raise HeaderError("it doesn't begin with GGUF")
    version = reader.number("<I")
    if version not in (2, 3):
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        known = f"version {version}" if swapped not in (2, 3) else "big-endian"
        raise HeaderError(f"its format is {known}, llama.cpp reads version 2 and 3, little-endian")
    n_tensors, n_pairs = reader.number("<Q"), reader.number("<Q")
    if n_pairs > MAX_PAIRS or n_tensors > MAX_TENSORS:
        raise HeaderError(f"it claims {n_tensors} tensors and {n_pairs} values")
    values: dict[str, Value] = {}
    tokens: Tokens = ()
    for _ in range(n_pairs):
        key, value = reader.pair()
        if isinstance(value, tuple):
            tokens = value
        elif value is not None:
            values[key.decode("utf-8", "replace")] = value
    return _with_tensors(reader, n_tensors, values, tokens)


def _with_tensors(reader: _Reader, n_tensors: int, values: dict[str, Value], tokens: Tokens) -> Header:
    alignment = values.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1) or alignment > READ:
        raise HeaderError(f"its alignment is {alignment!r}")
    end, parameters = 0, 0
    for _ in range(n_tensors):
        weights, ends = reader.tensor()
        end, parameters = max(end, ends), parameters + weights
    data = -(-reader.position // alignment) * alignment
    expected = data + end if n_tensors else reader.position
    return Header(values=values, tokens=tokens, expected_bytes=expected, parameters=parameters)


class _Reader:
    """A buffer over the file's first bytes that grows by what is there, and a position in it."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._limit = min(size, MAX_HEADER)
        self._buffer = bytearray()
        self.position = 0

    def _need(self, count: int) -> None:
        """Have `count` bytes from the position on in the buffer."""
        end = self.position + count
        if end > self._limit:
            raise HeaderError(f"its header ends or makes no sense at byte {self.position}")
        while len(self._buffer) < end:
            piece = self._file.read(min(max(READ, end - len(self._buffer)), self._limit - len(self._buffer)))
            if not piece:
                raise HeaderError(f"it ends at byte {len(self._buffer)}, within the header")
            self._buffer += piece

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        self._need(count)
        start, self.position = self.position, self.position + count
        return bytes(self._buffer[start : self.position])

    def skip(self, count: int) -> None:
        """Pass over `count` bytes."""
        self._need(count)
        self.position += count

    def number(self, layout: str) -> int:
        """An unsigned integer."""
        value: int = struct.unpack(layout, self.take(struct.calcsize(layout)))[0]
        return value

    def string(self) -> bytes:
        """A length and as many bytes."""
        return self.take(self.number("<Q"))

    def pair(self) -> tuple[bytes, Value | Tokens | None]:
        """A key and its value: None for an array, but for that of the token texts."""
        key, kind = self.string(), self.number("<I")
        if kind == STRING:
            return key, self.string()
        if kind == ARRAY:
            return key, self._array(wanted=key == TOKENS_KEY)
        layout = SCALARS.get(kind)
        if layout is None:
            raise HeaderError(f"it has a value of unknown type {kind}")
        value: Value = struct.unpack(layout, self.take(struct.calcsize(layout)))[0]
        return key, value

    def _array(self, *, wanted: bool) -> Tokens | None:
        kind, count = self.number("<I"), self.number("<Q")
        if kind == STRING:
            return self._strings(count, wanted=wanted)
        if kind not in SCALARS:
            raise HeaderError(f"it has an array of unknown type {kind}")
        self.skip(count * struct.calcsize(SCALARS[kind]))
        return None

    def _strings(self, count: int, *, wanted: bool) -> Tokens | None:
        """`count` strings. The loop is written for speed: a vocabulary and its merges are 400,000 of them."""
        if count > MAX_TOKENS:
            raise HeaderError(f"it claims an array of {count} texts")
        self._need(8 * count)
        length_at = struct.Struct("<Q").unpack_from
        buffer, position, texts = self._buffer, self.position, []
        for _ in range(count):
            if position + 8 > len(buffer):
                self.position = position
                self._need(8)
            start = position + 8
            position = start + length_at(buffer, position)[0]
            if position > len(buffer):
                self.position = start
                self._need(position - start)
            if wanted:
                texts.append(bytes(buffer[start:position]))
        self.position = position
        return tuple(texts) if wanted else None

    def tensor(self) -> tuple[int, int]:
        """A tensor's number of weights and where its data end, from the data's begin."""
        self.string()
        n_dimensions = self.number("<I")
        if n_dimensions > MAX_DIMENSIONS:
            raise HeaderError(f"it has a tensor of {n_dimensions} dimensions")
        weights = 1
        for _ in range(n_dimensions):
            weights *= self.number("<Q")
        kind, offset = self.number("<I"), self.number("<Q")
        per_block, size = BLOCKS.get(kind, (1, 0))  # a type newer than this table: at least its offset is known
        return weights, offset + weights // per_block * size
