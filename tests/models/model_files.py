"""Small GGUF files of given families and sizes, real enough for everything that reads headers."""

from __future__ import annotations

from pathlib import Path

from tests.models.gguf_bytes import model, vocabulary

FAMILY = [f"token{i}" for i in range(40)]
OTHERS = [f"other{i}" for i in range(40)]


def write_model(
    path: Path, *, rows: int = 64, texts: list[str] = FAMILY, tensor: str = "blk.0.weight", **values: object
) -> Path:
    """A model of `rows` times 64 weights, in one `tensor`, whose vocabulary has these texts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    every = vocabulary(texts) | {"llama.block_count": 2, "llama.embedding_length": 64, "general.name": path.name}
    path.write_bytes(model(every | values, {tensor: ((64, rows), 0)}))
    return path


def write_eagle3(path: Path, *, width: int = 64) -> Path:
    """An EAGLE-3 head for main models of this width."""
    head = {"eagle3.target_hidden_size": width, "eagle3.target_layers": [0, 1, 2], "eagle3.block_count": 1}
    return write_model(path, rows=4, **{"general.architecture": "eagle3"}, **head)
