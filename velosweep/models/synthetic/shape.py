"""Shapes of synthetic pairs: the default, presets, what llama.cpp can load, and the files' names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from velosweep.config.keys import freeze, keys_of
from velosweep.config.settings import SyntheticShape
from velosweep.errors import ConfigError

CONSTRUCTION = 2
"""Goes up whenever the same shape gives other bytes; part of the file names, so old files are never taken for new."""

SMALLEST_VOCABULARY = 259  # 256 bytes, one merge, two control tokens
QUANTISED_BLOCK = 32

DEFAULT_SHAPE = SyntheticShape()

PRESETS: Mapping[str, SyntheticShape] = {
    "default": DEFAULT_SHAPE,
    "8b_1b": SyntheticShape(
        layers=32,
        kept_layers=4,
        width=4096,
        feed_forward=14336,
        heads=32,
        kv_heads=8,
        vocabulary=128256,
        eps=0.1,
        type="q8_0",
    ),
}


def check_shape(shape: SyntheticShape) -> None:
    """Raise ConfigError, naming the field, if llama.cpp could not load a pair whose fields are within their limits."""
    _require(shape.kept_layers <= shape.layers, "kept_layers", shape.kept_layers, f"at most layers ({shape.layers})")
    _require(shape.vocabulary >= SMALLEST_VOCABULARY, "vocabulary", shape.vocabulary, f"≥ {SMALLEST_VOCABULARY}")
    _require(shape.heads % shape.kv_heads == 0, "kv_heads", shape.kv_heads, f"a divisor of heads ({shape.heads})")
    _require(shape.width % (2 * shape.heads) == 0, "width", shape.width, f"a multiple of 2 × heads ({shape.heads})")
    for name in ("width", "feed_forward"):
        value = getattr(shape, name)
        _require(value % QUANTISED_BLOCK == 0, name, value, f"a multiple of {QUANTISED_BLOCK}")


def _require(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise ConfigError(f"The synthetic shape's {name} is {value}", remedy=f"it must be {wanted}")


def file_stem(shape: SyntheticShape) -> str:
    """The shape as a file name without role and suffix; two shapes never share one."""
    return (
        f"synthetic{CONSTRUCTION}-l{shape.layers}-k{shape.kept_layers}-w{shape.width}-f{shape.feed_forward}"
        f"-h{shape.heads}-g{shape.kv_heads}-v{shape.vocabulary}-e{shape.eps!r}-{shape.type}-s{shape.seed}"
    )


def pair_paths(shape: SyntheticShape, folder: Path) -> tuple[Path, Path]:
    """Where the main and the draft model of this shape lie in `folder`."""
    stem = file_stem(shape)
    return folder / f"{stem}-main.gguf", folder / f"{stem}-draft.gguf"


def shape_from(values: Mapping[str, str], base: SyntheticShape = DEFAULT_SHAPE) -> SyntheticShape:
    """`base` with fields replaced by what texts say. Raises ConfigError for an unknown field or a wrong value."""
    known = {one.field: one for one in keys_of(SyntheticShape)}
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"A synthetic shape has no {name!r}", remedy="its fields are " + ", ".join(known))
        try:
            changes[name] = freeze(known[name], f"The synthetic shape's {name}", value)
        except ValueError as error:
            raise ConfigError(f"The synthetic shape's {name} is {value!r}", remedy="it must be a number") from error
    shape = replace(base, **changes)
    check_shape(shape)
    return shape
