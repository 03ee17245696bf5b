"""Headers of model files, made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from velosweep.models.gguf_model import GgufInfo


def header(size_bytes: int, kv_elements: int | None) -> GgufInfo:
    unknown: dict[str, Any] = dict.fromkeys(
        ("file_type", "layers", "vocabulary_type", "bos", "eos", "add_bos", "add_eos")
    )
    return GgufInfo(
        **unknown,
        path=Path("x.gguf"),
        architecture="llama",
        parameters=1,
        tokens=(),
        size_bytes=size_bytes,
        expected_bytes=size_bytes,
        kv_elements_per_token=kv_elements,
    )
