"""The byte-level BPE vocabulary of a synthetic model: 256 bytes, one merge, two control tokens, padding."""

from __future__ import annotations

BOS = 257
EOS = 258
PRINTABLE = range(0x20, 0x7F)
MERGE = "t h"

NORMAL, CONTROL, UNUSED = 1, 3, 5  # llama.cpp's token types


def byte_characters() -> list[str]:
    """GPT-2's character of each byte: itself where it can be printed, else one from U+0100 on."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    characters = {byte: chr(byte) for byte in shown}
    for byte in range(256):
        characters.setdefault(byte, chr(0x100 + len(characters) - len(shown)))
    return [characters[byte] for byte in range(256)]


def tokens(size: int) -> tuple[list[str], list[int]]:
    """Token texts and types; token id = byte value for the first 256."""
    texts = [*byte_characters(), MERGE.replace(" ", ""), "<|begin|>", "<|end|>"]
    types = [NORMAL] * 257 + [CONTROL] * 2
    padding = range(len(texts), size)
    return texts + [f"<|unused{i}|>" for i in padding], types + [UNUSED] * len(padding)
