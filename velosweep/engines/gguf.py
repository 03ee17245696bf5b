"""What a GGUF file says of itself, read fast and without trusting any number in it.

Format: github.com/ggml-org/ggml/blob/master/docs/gguf.md. Only the header is read, through a memory map; nothing is
allocated by a claimed size, and every length is checked against the file before it is used.
"""

from __future__ import annotations

import hashlib
import mmap
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from velosweep.errors import ModelFileError, PairError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MOST_ENTRIES = 1 << 22  # keys, tensors or array items; the largest vocabularies have 3e5 tokens
_DEEPEST_ARRAY = 4

# (weights a block, bytes a block) by ggml type; a file with another type is only checked to reach its last tensor.
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip
_TYPE_NAMES = {
    0: "f32", 1: "f16", 2: "q4_0", 3: "q4_1", 6: "q5_0", 7: "q5_1", 8: "q8_0", 10: "q2_k", 11: "q3_k", 12: "q4_k",
    13: "q5_k", 14: "q6_k", 15: "q8_k", 16: "iq2_xxs", 17: "iq2_xs", 18: "iq3_xxs", 19: "iq1_s", 20: "iq4_nl",
    21: "iq3_s", 22: "iq2_s", 23: "iq4_xs", 29: "iq1_m", 30: "bf16", 39: "mxfp4",
}  # fmt: skip

# llama.cpp's rule for a draft's vocabulary (common/speculative.cpp): same type, BOS and EOS alike, sizes within
# 128, and token texts equal from id 5 on.
_SIZES_WITHIN = 128
_FIRST_COMPARED = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary:
    """A model's tokens as bytes by id, and what llama.cpp compares beside them (None: not said)."""

    model: str | None
    tokens: tuple[bytes, ...]
    bos: int | None
    eos: int | None
    add_bos: bool | None
    add_eos: bool | None


@dataclass(frozen=True, kw_only=True, slots=True)
class GgufInfo:
    """The header of a model file. `expected_bytes`: what the file must hold at least; `size_bytes`: what it holds."""

    path: str
    architecture: str | None
    name: str | None
    layers: int | None
    context: int | None
    quantisation: str | None
    vocabulary: Vocabulary
    size_bytes: int
    expected_bytes: int
    header_bytes: int

    @property
    def description(self) -> str:
        """For people: `llama, 32 layers, q4_k, 128256 tokens`."""
        parts = [self.architecture or "unknown architecture"]
        if self.layers is not None:
            parts.append(f"{self.layers} layers")
        if self.quantisation:
            parts.append(self.quantisation)
        parts.append(f"{len(self.vocabulary.tokens)} tokens")
        return ", ".join(parts)


class MalformedError(Exception):
    """The header contradicts itself or the file."""


class _Reader:
    """A cursor over the mapped header; every read is checked against the end of the file."""

    def __init__(self, view: mmap.mmap | bytes) -> None:
        self.view = view
        self.at = 0
        self.size = len(view)

    def take(self, count: int) -> bytes:
        if count < 0 or count > self.size - self.at:
            raise MalformedError(f"needs {count} bytes at {self.at}, the file has {self.size}")
        taken = self.view[self.at : self.at + count]
        self.at += count
        return taken

    def number(self, code: str) -> int | float | bool:
        form = struct.Struct(f"<{code}")
        value: int | float | bool = form.unpack(self.take(form.size))[0]
        return value

    def count(self) -> int:
        value = int(self.number("Q"))
        if value > _MOST_ENTRIES:
            raise MalformedError(f"claims {value} entries")
        return value

    def text(self) -> bytes:
        return self.take(int(self.number("Q")))

    def value(self, kind: int, depth: int = 0) -> object:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._array(depth)
        code = _SCALARS.get(kind)
        if code is None:
            raise MalformedError(f"has a value of unknown type {kind}")
        return self.number(code)

    def _array(self, depth: int) -> tuple[object, ...]:
        if depth >= _DEEPEST_ARRAY:
            raise MalformedError("nests arrays too deeply")
        kind, count = int(self.number("I")), self.count()
        code = _SCALARS.get(kind)
        if code is not None:
            return struct.unpack(f"<{count}{code}", self.take(count * struct.calcsize(f"<{code}")))
        if kind == _STRING:
            return self._texts(count)
        return tuple(self.value(kind, depth + 1) for _ in range(count))

    def _texts(self, count: int) -> tuple[bytes, ...]:
        """`count` strings; a loop of its own because a vocabulary has hundreds of thousands."""
        if count > (self.size - self.at) // 8:
            raise MalformedError(f"claims {count} texts, more than fit")
        unpack, view, size, at = struct.Struct("<Q").unpack_from, self.view, self.size, self.at
        texts = []
        for _ in range(count):
            if at + 8 > size:
                raise MalformedError("ends within a list of texts")
            end = at + 8 + unpack(view, at)[0]
            if end > size:
                raise MalformedError("ends within a text")
            texts.append(view[at + 8 : end])
            at = end
        self.at = at
        return tuple(texts)


def read_header(path: Path) -> GgufInfo:
    """Read the header of one GGUF file. Raises ModelFileError for what is no sound GGUF, OSError as reading does."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(4)
        if start != b"GGUF":
            raise ModelFileError(
                f"{path} is not a GGUF file (it begins with {start!r})",
                remedy="download it again, or convert the model with llama.cpp's convert_hf_to_gguf.py",
            )
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            try:
                return parse_header(view, path=str(path), size_bytes=size)
            except (MalformedError, struct.error, OverflowError) as error:
                raise ModelFileError(
                    f"{path} is cut short or damaged: its header {error}", remedy="download or copy it again"
                ) from error


def parse_header(view: mmap.mmap | bytes, *, path: str, size_bytes: int) -> GgufInfo:
    """Parse the header in `view` (the file from its first byte on)."""
    reader = _Reader(view)
    reader.take(4)
    version = int(reader.number("I"))
    if version not in (2, 3):
        raise MalformedError(f"has version {version}, 2 and 3 are known" if version < 1 << 16 else "is big-endian")
    tensors, keys = reader.count(), reader.count()
    metadata: dict[str, object] = {}
    for _ in range(keys):
        key = reader.text().decode("utf-8", "replace")
        metadata[key] = reader.value(int(reader.number("I")))
    alignment = _whole(metadata.get("general.alignment")) or 32
    if alignment < 1 or alignment > 1 << 20:
        raise MalformedError(f"claims an alignment of {alignment}")
    data_bytes, kinds = _tensor_infos(reader, tensors)
    begin = -(-reader.at // alignment) * alignment
    architecture = _text(metadata.get("general.architecture"))
    return GgufInfo(
        path=path,
        architecture=architecture,
        name=_text(metadata.get("general.name")),
        layers=_whole(metadata.get(f"{architecture}.block_count")),
        context=_whole(metadata.get(f"{architecture}.context_length")),
        quantisation=_TYPE_NAMES.get(max(kinds, key=lambda kind: kinds[kind])) if kinds else None,
        vocabulary=_vocabulary(metadata),
        size_bytes=size_bytes,
        expected_bytes=begin + data_bytes,
        header_bytes=begin,
    )


def _tensor_infos(reader: _Reader, count: int) -> tuple[int, dict[int, int]]:
    """Bytes that the tensors' data reach to, and the weights of each type."""
    reach = 0
    kinds: dict[int, int] = {}
    for _ in range(count):
        reader.text()
        dimensions = int(reader.number("I"))
        if dimensions > 8:
            raise MalformedError(f"has a tensor of {dimensions} dimensions")
        weights = 1
        for _ in range(dimensions):
            weights *= int(reader.number("Q"))
        kind, offset = int(reader.number("I")), int(reader.number("Q"))
        block, block_bytes = _BLOCKS.get(kind, (1, 0))
        reach = max(reach, offset + weights // block * block_bytes)
        kinds[kind] = kinds.get(kind, 0) + weights
    return reach, kinds


def _vocabulary(metadata: dict[str, object]) -> Vocabulary:
    tokens = metadata.get("tokenizer.ggml.tokens")
    return Vocabulary(
        model=_text(metadata.get("tokenizer.ggml.model")),
        tokens=tuple(token for token in tokens if isinstance(token, bytes)) if isinstance(tokens, tuple) else (),
        bos=_whole(metadata.get("tokenizer.ggml.bos_token_id")),
        eos=_whole(metadata.get("tokenizer.ggml.eos_token_id")),
        add_bos=_flag(metadata.get("tokenizer.ggml.add_bos_token")),
        add_eos=_flag(metadata.get("tokenizer.ggml.add_eos_token")),
    )


def _text(value: object) -> str | None:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def check_model(path: Path, *, key: str) -> GgufInfo:
    """The header of a model that can be loaded. Raises ModelFileError naming the file and `key`, what sets it.

    Of a split model (`-00001-of-00003.gguf`) the first part is named and every part must be there.
    """
    try:
        if path.is_dir():
            raise ModelFileError(f"{path} is a folder, not a model", remedy=f"set {key} to a .gguf file")
        info = read_header(path)
    except FileNotFoundError as error:
        raise ModelFileError(
            f"No model at {path}", remedy=f"set {key} to your file, or choose model_pair=synthetic"
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is empty"
        raise ModelFileError(f"The model {path} can't be read: {reason}", remedy=f"check {key}") from error
    if info.size_bytes < info.expected_bytes:
        raise ModelFileError(
            f"{path} is cut short: it has {info.size_bytes} bytes and its header asks for {info.expected_bytes}",
            remedy="download or copy it again",
        )
    return _with_all_parts(path, info, key)


def _with_all_parts(path: Path, info: GgufInfo, key: str) -> GgufInfo:
    match = re.fullmatch(r"(.*)-(\d{5})-of-(\d{5})\.gguf", path.name)
    if match is None:
        return info
    if int(match[2]) != 1:
        raise ModelFileError(f"{path} is part {int(match[2])} of a split model", remedy=f"set {key} to the first part")
    from dataclasses import replace

    size = info.size_bytes
    for part in range(2, int(match[3]) + 1):
        other = path.with_name(f"{match[1]}-{part:05d}-of-{match[3]}.gguf")
        if not other.is_file():
            raise ModelFileError(f"{path} is the first of {int(match[3])} parts, and {other.name} is missing")
        size += other.stat().st_size
    return replace(info, size_bytes=size)


def check_pair(main: GgufInfo, draft: GgufInfo) -> None:
    """Raise PairError where llama.cpp would silently not use `draft` for `main`, by its own rule."""
    ours, theirs = main.vocabulary, draft.vocabulary
    differs = _difference(ours, theirs)
    if differs:
        raise PairError(
            f"The draft model's vocabulary does not fit the main model's: {differs} ({draft.path} for {main.path}); "
            "llama.cpp would silently measure vanilla decoding",
            remedy="choose a draft model of the main model's family",
        )


def _difference(main: Vocabulary, draft: Vocabulary) -> str | None:
    if main.model != draft.model:
        return f"tokenizer {draft.model} instead of {main.model}"
    special: tuple[tuple[str, Callable[[Vocabulary], object]], ...] = (
        ("BOS token", lambda vocabulary: vocabulary.bos),
        ("EOS token", lambda vocabulary: vocabulary.eos),
        ("add BOS", lambda vocabulary: vocabulary.add_bos),
        ("add EOS", lambda vocabulary: vocabulary.add_eos),
    )
    for name, value in special:
        if None not in (value(main), value(draft)) and value(main) != value(draft):
            return f"{name} {value(draft)} instead of {value(main)}"
    sizes = len(main.tokens), len(draft.tokens)
    if abs(sizes[0] - sizes[1]) > _SIZES_WITHIN:
        return f"{sizes[1]} tokens instead of {sizes[0]}, more than {_SIZES_WITHIN} apart"
    for index in range(_FIRST_COMPARED, min(sizes)):
        if main.tokens[index] != draft.tokens[index]:
            return f"token {index} is {draft.tokens[index]!r} instead of {main.tokens[index]!r}"
    return None


def fingerprint(path: Path) -> str:
    """Thirty-two hex digits of SHA-256 over size, head, tail and 64 samples of a file: milliseconds at any size.

    Tells another model or quantisation under the same name; not made to withstand forgery.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = path.stat().st_size
        digest.update(str(size).encode())
        head, piece = 1 << 20, 1 << 14
        digest.update(file.read(head))
        for index in range(64):
            file.seek(max(0, (size - piece) * (index + 1) // 64))
            digest.update(file.read(piece))
    return digest.hexdigest()[:32]
