"""What a model file says of itself, read from its GGUF header."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from velosweep.errors import ModelFileError
from velosweep.models.gguf_header import Header, HeaderError, Value, parse_header
from velosweep.units import bytes_words

FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4", 39: "NVFP4", 40: "Q1_0",
}  # fmt: skip
"""llama.cpp's LLAMA_FTYPE numbers (`general.file_type`), as people write them."""

# Tokenisers of which llama.cpp makes one vocabulary type.
VOCABULARY_TYPES = {
    "llama": "SPM", "gpt2": "BPE", "hybriddna": "BPE", "whitespace": "BPE", "gemma4": "BPE",
    "bert": "WPM", "t5": "UGM", "rwkv": "RWKV", "plamo2": "PLAMO2", "no_vocab": "none", "none": "none",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class GgufInfo:
    """A model file's header. `size_bytes`: of the file, of all parts for a split model that was checked.

    `expected_bytes`: the least size its tensors need. `add_bos`, `add_eos`: None where the file leaves it to
    llama.cpp. `tokens`: the texts by id, as bytes; empty for a model without vocabulary.
    """

    path: Path
    architecture: str
    name: str | None
    file_type: str | None
    layers: int | None
    context_length: int | None
    parameters: int
    vocabulary_type: str | None
    tokens: tuple[bytes, ...] = field(repr=False, hash=False)
    tokens_sha256: str
    bos: int | None
    eos: int | None
    add_bos: bool | None
    add_eos: bool | None
    size_bytes: int
    expected_bytes: int
    split_number: int = 0
    split_count: int = 1
    kv_elements_per_token: int | None = None  # numbers the KV cache keeps for a token; None where not of the usual kind

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens."""
        return len(self.tokens)

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
            header = parse_header(file, size)
    except HeaderError as error:
        raise ModelFileError(f"{path} is not a GGUF model: {error}", remedy=remedy) from error
    except OSError as error:
        raise ModelFileError(f"The model {path} can't be read: {error.strerror}", remedy=remedy) from error
    return info_from(path, size, header)


def info_from(path: Path, size: int, header: Header) -> GgufInfo:
    """What a header says, with llama.cpp's defaults for what it leaves out."""
    values, tokens = header.values, header.tokens
    architecture = _text(values, "general.architecture") or "unknown"
    tokenizer = _text(values, "tokenizer.ggml.model")
    is_spm = tokenizer == "llama"  # SentencePiece models have these where the file says nothing (llama-vocab.cpp)
    file_type = _number(values, "general.file_type")
    return GgufInfo(
        path=path,
        architecture=architecture,
        name=_text(values, "general.name"),
        file_type=None if file_type is None else FILE_TYPES.get(file_type, f"type {file_type}"),
        layers=_number(values, f"{architecture}.block_count"),
        context_length=_number(values, f"{architecture}.context_length"),
        parameters=header.parameters,
        vocabulary_type=None if tokenizer is None else VOCABULARY_TYPES.get(tokenizer, tokenizer),
        tokens=tokens,
        tokens_sha256=sha256(b"\0".join(tokens)).hexdigest(),
        bos=_number(values, "tokenizer.ggml.bos_token_id", default=1 if is_spm else None),
        eos=_number(values, "tokenizer.ggml.eos_token_id", default=2 if is_spm else None),
        add_bos=_flag(values, "tokenizer.ggml.add_bos_token", default=True if is_spm else None),
        add_eos=_flag(values, "tokenizer.ggml.add_eos_token", default=False if is_spm else None),
        size_bytes=size,
        expected_bytes=header.expected_bytes,
        split_number=_number(values, "split.no") or 0,
        split_count=max(_number(values, "split.count") or 1, 1),
        kv_elements_per_token=_kv_elements_per_token(values, architecture),
    )


def _kv_elements_per_token(values: dict[str, Value], architecture: str) -> int | None:
    """Layers x KV heads x (key + value length): too many where heads vary by layer, None for compressed keys (MLA)."""

    def number(name: str, default: int | None = None) -> int | None:
        return _number(values, f"{architecture}.{name}", default)

    layers, heads, width = number("block_count"), number("attention.head_count"), number("embedding_length")
    if not layers or not heads or not width or number("attention.kv_lora_rank"):
        return None
    kv_heads = number("attention.head_count_kv", heads) or heads
    key = number("attention.key_length", width // heads) or 0
    value = number("attention.value_length", width // heads) or 0
    return layers * kv_heads * (key + value) or None


def _text(values: dict[str, Value], key: str) -> str | None:
    """Text without control characters: it may reach a terminal."""
    value = values.get(key)
    if not isinstance(value, bytes):
        return None
    return "".join(c if c.isprintable() else "�" for c in value.decode("utf-8", "replace"))[:200]


def _number(values: dict[str, Value], key: str, default: int | None = None) -> int | None:
    value = values.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def _flag(values: dict[str, Value], key: str, default: bool | None) -> bool | None:
    value = values.get(key)
    return value if isinstance(value, bool) else default


# ---------------------------------------------------------------- one file
