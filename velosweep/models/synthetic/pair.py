"""The synthetic models: llama models with random weights whose draft is right as often as one likes, and their heads.

The target's blocks from `kept_layers` on have their two output projections scaled by eps. At eps = 0 it
computes exactly what its first `kept_layers` blocks compute, and a draft of those blocks is always
accepted, while the target still pays for every block; a larger eps lowers the acceptance. Times are real,
text is not.
"""

import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from velosweep.config.keys import freeze, keys_of
from velosweep.config.settings import SyntheticShape
from velosweep.config.speculation_kinds import kind_of
from velosweep.errors import ConfigError, StorageError
from velosweep.files import file_sha256, user_cache, write_text

CONSTRUCTION = 2  # goes up whenever the same shape gives other bytes: old files are never taken for new ones

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


# Kind of speculation -> the ends of its files' names. The first is the main model, but for heads of the plain one.
FILES: Mapping[str, tuple[str, ...]] = {
    "draft": ("main", "draft"),
    "draft-mtp": ("mtp-main", "mtp"),
    "draft-eagle3": ("eagle3",),
    "draft-dflash": ("dflash",),
    "draft-dspark": ("dspark",),
}


def check_shape(shape: SyntheticShape) -> None:
    """Raise ConfigError, naming the field, if llama.cpp could not load a pair whose fields are within their limits."""
    for name, holds, wanted in (
        ("kept_layers", shape.kept_layers <= shape.layers, f"at most layers ({shape.layers})"),
        ("vocabulary", shape.vocabulary >= SMALLEST_VOCABULARY, f"≥ {SMALLEST_VOCABULARY}"),
        ("kv_heads", shape.heads % shape.kv_heads == 0, f"a divisor of heads ({shape.heads})"),
        ("width", shape.width % (2 * shape.heads) == 0, f"a multiple of 2 × heads ({shape.heads})"),
        ("width", shape.width % QUANTISED_BLOCK == 0, f"a multiple of {QUANTISED_BLOCK}"),
        ("feed_forward", shape.feed_forward % QUANTISED_BLOCK == 0, f"a multiple of {QUANTISED_BLOCK}"),
    ):
        if not holds:
            raise ConfigError(f"The synthetic shape's {name} is {getattr(shape, name)}", remedy=f"it must be {wanted}")


def model_paths(shape: SyntheticShape, folder: Path, kind: str) -> tuple[Path, ...]:
    """Where the files of `FILES[kind]` lie in `folder` for this shape; two shapes never share a name."""
    stem = (
        f"synthetic{CONSTRUCTION}-l{shape.layers}-k{shape.kept_layers}-w{shape.width}-f{shape.feed_forward}"
        f"-h{shape.heads}-g{shape.kv_heads}-v{shape.vocabulary}-e{shape.eps!r}-{shape.type}-s{shape.seed}"
    )
    return tuple(folder / f"{stem}-{end}.gguf" for end in FILES[kind])


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


def write_files(shape: SyntheticShape, kind: str, paths: Sequence[Path]) -> None:
    """Write the files of `FILES[kind]`, each whole or not at all, in bounded memory, replacing what is there.

    Raises ConfigError for an impossible shape, and OSError.
    """
    from velosweep.models.synthetic.heads import head_files  # with numpy and gguf, which most runs do without
    from velosweep.models.synthetic.tensors import Pool, plain_model, write_gguf

    check_shape(shape)
    largest = shape.width * max(shape.width, shape.feed_forward, SMALLEST_VOCABULARY)
    pool = Pool(shape.seed, shape.type, largest=largest)
    pair = (plain_model(shape, layers, pool) for layers in (shape.layers, shape.kept_layers))
    for file, path in zip(pair if kind == "draft" else head_files(shape, kind, pool), paths, strict=True):
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            write_gguf(file, shape, part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def ensure_models(
    shape: SyntheticShape,
    kinds: Collection[str],
    folder: Path | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> tuple[Path, Path | None]:
    """The main model, and the draft model or head, for these kinds of speculation; written as by `ensure_files`.

    MTP heads are in a main model of their own, whose architecture has them; there is no draft model. Raises ConfigError
    for a kind that drafts with a model that is not among `FILES`.
    """
    for lacking in (kind for kind in kinds if kind_of(kind).takes_draft_model and kind not in FILES):
        raise ConfigError(
            f"The synthetic models have none that speculation {lacking} drafts with",
            remedy=f"choose from {', '.join(FILES)}, or set model_pair.main_model to a GGUF file",
        )
    kind = next((kind for kind in kinds if kind in FILES), "draft")
    if kind == "draft-mtp":
        return ensure_files(shape, kind, folder, on_progress)[0], None
    main, draft = ensure_files(shape, "draft", folder, on_progress)
    return main, draft if kind == "draft" else ensure_files(shape, kind, folder, on_progress)[0]


def ensure_files(
    shape: SyntheticShape,
    kind: str = "draft",
    folder: Path | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> tuple[Path, ...]:
    """The files of `FILES[kind]`, written first if one is missing or damaged; several processes may ask at once.

    `folder`: by default the user's cache. A file is taken as it is while its size and time of change are the
    recorded ones; else its SHA-256 must be. Raises StorageError if it can't be written.
    """
    from filelock import FileLock

    check_shape(shape)
    folder = folder or user_cache() / "synthetic"
    paths = model_paths(shape, folder, kind)
    seal = folder / paths[0].name.replace("-main.gguf" if kind == "draft" else ".gguf", ".json")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if _recorded(seal, paths, "stat", _stat):
            return paths
        with FileLock(str(seal.with_suffix(".lock"))):
            if _recorded(seal, paths, "stat", _stat):
                return paths
            if not _recorded(seal, paths, "sha256", file_sha256):  # else they were touched or copied
                on_progress(f"writing {'the synthetic model pair' if kind == 'draft' else f'{kind} heads'} to {folder}")
                write_files(shape, kind, paths)
            record = {path.name: {"stat": _stat(path), "sha256": file_sha256(path)} for path in paths}
            write_text(seal, json.dumps(record, indent=1), durable=False)
    except OSError as error:
        raise StorageError(
            f"The synthetic model pair can't be written to {folder}: {error.strerror or error}",
            remedy="free some space, or name a folder that can be written: --out of synth, else XDG_CACHE_HOME",
        ) from error
    return paths


def _recorded(seal: Path, paths: tuple[Path, ...], name: str, property_of: Callable[[Path], object]) -> bool:
    """Whether all files have the recorded `stat` or `sha256`; not where the record is missing or unreadable."""
    try:
        record = json.loads(seal.read_text(encoding="utf-8"))
        return all(record[path.name][name] == property_of(path) for path in paths)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _stat(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]
