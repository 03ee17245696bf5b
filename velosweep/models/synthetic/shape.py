"""Shapes of synthetic pairs: the default, presets, what llama.cpp can load, and the files' names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

from velosweep.config.settings import WEIGHT_TYPES, SyntheticShape
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
    """Raise ConfigError, naming the field, if llama.cpp could not load a pair of this shape."""
    for name in ("layers", "kept_layers", "width", "feed_forward", "heads", "kv_heads", "vocabulary"):
        _require(getattr(shape, name) >= 1, name, getattr(shape, name), "at least 1")
    _require(shape.kept_layers <= shape.layers, "kept_layers", shape.kept_layers, f"at most layers ({shape.layers})")
    _require(shape.type in WEIGHT_TYPES, "type", shape.type, "one of " + ", ".join(WEIGHT_TYPES))
    _require(math.isfinite(shape.eps) and shape.eps >= 0, "eps", shape.eps, "0 or more")
    _require(shape.seed >= 0, "seed", shape.seed, "0 or more")
    _require(shape.vocabulary >= SMALLEST_VOCABULARY, "vocabulary", shape.vocabulary, f"≥ {SMALLEST_VOCABULARY}")
    _require(shape.heads % shape.kv_heads == 0, "kv_heads", shape.kv_heads, f"a divisor of heads ({shape.heads})")
    _require(shape.width % (2 * shape.heads) == 0, "width", shape.width, f"a multiple of 2 × heads ({shape.heads})")
    for name in ("width", "feed_forward"):
        value = getattr(shape, name)
        _require(value % QUANTISED_BLOCK == 0, name, value, f"a multiple of {QUANTISED_BLOCK}")


def _require(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise ConfigError(f"The synthetic shape's {name} is {value}", remedy=f"it must be {wanted}")


def parameters(shape: SyntheticShape) -> int:
    """Number of weights of the target."""
    kv_width = shape.width // shape.heads * shape.kv_heads
    block = 2 * shape.width * (shape.width + kv_width) + 3 * shape.width * shape.feed_forward + 2 * shape.width
    return shape.layers * block + (2 * shape.vocabulary + 1) * shape.width


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


def shape_from(values: Mapping[str, object], base: SyntheticShape = DEFAULT_SHAPE) -> SyntheticShape:
    """`base` with fields replaced; values may be text. Raises ConfigError for an unknown field or a wrong value."""
    kinds = {field.name: type(getattr(base, field.name)) for field in fields(SyntheticShape)}
    changes: dict[str, object] = {}
    for name, value in values.items():
        if name not in kinds:
            raise ConfigError(f"A synthetic shape has no {name!r}", remedy="its fields are " + ", ".join(kinds))
        try:
            changes[name] = kinds[name](str(value))
        except ValueError as error:
            raise ConfigError(f"The synthetic shape's {name} is {value!r}", remedy="it must be a number") from error
    shape = replace(base, **changes)  # type: ignore[arg-type]
    check_shape(shape)
    return shape
