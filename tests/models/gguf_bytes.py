"""GGUF headers put together by hand, so that tests can lie in every field."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

U32, F32, BOOL, STRING, ARRAY, U64 = 4, 6, 7, 8, 9, 10


def text(value: str | bytes) -> bytes:
    """A length and the bytes."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def value(of: object) -> bytes:
    """A typed value."""
    if isinstance(of, bool):
        return struct.pack("<I?", BOOL, of)
    if isinstance(of, int):
        return struct.pack("<II", U32, of)
    if isinstance(of, float):
        return struct.pack("<If", F32, of)
    if isinstance(of, (str, bytes)):
        return struct.pack("<I", STRING) + text(of)
    assert isinstance(of, Sequence)
    if of and isinstance(of[0], int):
        return struct.pack("<IIQ", ARRAY, U32, len(of)) + struct.pack(f"<{len(of)}I", *of)
    return struct.pack("<IIQ", ARRAY, STRING, len(of)) + b"".join(text(item) for item in of)


def model(
    values: Mapping[str, object] | None = None,
    tensors: Mapping[str, tuple[Sequence[int], int]] | None = None,
    *,
    version: int = 3,
) -> bytes:
    """A whole file: `tensors` maps a name to its dimensions and ggml type (0 f32, 8 q8_0); data are zeros."""
    values, tensors = values or {}, tensors or {}
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(values))
    head += b"".join(text(key) + value(of) for key, of in values.items())
    offset = 0
    for name, (dimensions, kind) in tensors.items():
        head += text(name) + struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
        head += struct.pack("<IQ", kind, offset)
        weights = 1
        for size in dimensions:
            weights *= size
        offset += -(-(weights * 4 if kind == 0 else weights // 32 * 34) // 32) * 32
    return head + b"\0" * (-len(head) % 32) + b"\0" * offset


def vocabulary(texts: Sequence[str], **more: object) -> dict[str, object]:
    """Values of a byte-pair vocabulary."""
    tokenizer = {
        "model": "gpt2",
        "tokens": list(texts),
        "bos_token_id": 1,
        "eos_token_id": 2,
        "add_bos_token": True,
        "add_eos_token": False,
    }
    return {"general.architecture": "llama"} | {f"tokenizer.ggml.{name}": of for name, of in (tokenizer | more).items()}
