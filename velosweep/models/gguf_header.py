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

# How much of a file is read, and then read again while its header is longer. Real models' have some MB, for up to a
# quarter of a million tokens and their merges.
_READS = (1 << 24, 1 << 27, 1 << 29)
_MAX_PAIRS = 1 << 16
_MAX_TENSORS = 1 << 18
_MAX_TOKENS = 1 << 22
_MAX_DIMENSIONS = 4
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
class Header:
    """Scalars and strings by key, token texts, and what the tensors need: bytes of the file, number of weights."""

    values: dict[str, Value]
    tokens: Tokens
    expected_bytes: int
    parameters: int


def parse_header(file: BinaryIO, size: int) -> Header:
    """Read the header of an open file of `size` bytes. Raises HeaderError."""
    for length in _READS:
        file.seek(0)
        try:
            return _parse(file.read(length))
        except _EndOfDataError:
            if length >= size or length == _READS[-1]:
                raise
    raise AssertionError  # the last length raises or returns


def _parse(data: bytes) -> Header:
    reader = _Reader(data)
    if reader.take(4) != b"GGUF":
        raise HeaderError("it doesn't begin with GGUF")
    version = reader.number(_U32)
    if version not in (2, 3):
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        known = f"version {version}" if swapped not in (2, 3) else "big-endian"
        raise HeaderError(f"its format is {known}, llama.cpp reads version 2 and 3, little-endian")
    n_tensors, n_pairs = reader.number(_U64), reader.number(_U64)
    if n_pairs > _MAX_PAIRS or n_tensors > _MAX_TENSORS:
        raise HeaderError(f"it claims {n_tensors} tensors and {n_pairs} values")
    values: dict[str, Value] = {}
    tokens: Tokens = ()
    for _ in range(n_pairs):
        key, value = reader.pair()
        if isinstance(value, tuple):
            tokens = value
        elif value is not None:
            values[key.decode("utf-8", "replace")] = value
    alignment = values.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1) or alignment > _MAX_ALIGNMENT:
        raise HeaderError(f"its alignment is {alignment!r}")
    tensors = [reader.tensor() for _ in range(n_tensors)]
    data_start = -(-reader.position // alignment) * alignment
    return Header(
        values=values,
        tokens=tokens,
        expected_bytes=data_start + max(end for _, end in tensors) if tensors else reader.position,
        parameters=sum(weights for weights, _ in tensors),
    )


class _Reader:
    """The beginning of a file and a position in it. Whatever goes beyond raises _EndOfDataError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        start = self.position
        self.skip(count)
        return self._data[start : self.position]

    def skip(self, count: int) -> None:
        """Pass over `count` bytes."""
        if self.position + count > len(self._data):
            raise _EndOfDataError(f"its header ends or makes no sense at byte {self.position}")
        self.position += count

    def number(self, layout: struct.Struct) -> int:
        """An unsigned integer."""
        value: int = layout.unpack(self.take(layout.size))[0]
        return value

    def string(self) -> bytes:
        """A length and as many bytes."""
        return self.take(self.number(_U64))

    def pair(self) -> tuple[bytes, Value | Tokens | None]:
        """A key and its value: None for an array, but for that of the token texts."""
        key, kind = self.string(), self.number(_U32)
        if kind == _STRING:
            return key, self.string()
        if kind == _ARRAY:
            return key, self._array(wanted=key == _TOKENS_KEY)
        if kind not in _SCALARS:
            raise HeaderError(f"it has a value of unknown type {kind}")
        value: Value = _SCALARS[kind].unpack(self.take(_SCALARS[kind].size))[0]
        return key, value

    def _array(self, *, wanted: bool) -> Tokens | None:
        kind, count = self.number(_U32), self.number(_U64)
        if kind == _STRING:
            texts = self._strings(count)
            return texts if wanted else None
        if kind not in _SCALARS:
            raise HeaderError(f"it has an array of unknown type {kind}")
        self.skip(count * _SCALARS[kind].size)
        return None

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

    def tensor(self) -> tuple[int, int]:
        """A tensor's number of weights and where its data end, from the data's begin."""
        self.string()
        n_dimensions = self.number(_U32)
        if n_dimensions > _MAX_DIMENSIONS:
            raise HeaderError(f"it has a tensor of {n_dimensions} dimensions")
        weights = 1
        for _ in range(n_dimensions):
            weights *= self.number(_U64)
        kind, offset = self.number(_U32), self.number(_U64)
        per_block, size = _BLOCKS.get(kind, (1, 0))  # a type newer than this table: at least its offset is known
        return weights, offset + weights // per_block * size
