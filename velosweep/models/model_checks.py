"""Which models llama.cpp can load, which draft it would use for which main model; and their identity.

Enough to refuse a job before a server is started: llama.cpp serves a pair whose vocabularies don't match without a
word, as if there were no draft.
"""

import difflib
import math
import os
import shlex
from collections.abc import Collection, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from velosweep.config.command_words import quoted
from velosweep.errors import ModelFileError, NotALanguageModelError, PairError
from velosweep.models.draft_heads import head_misfit
from velosweep.models.gguf_model import GgufInfo, read_header
from velosweep.models.hub_models import part_names
from velosweep.models.model_stores import gguf_files

# Kinds that draft with heads, and what those are called.
HEADS = {
    "draft-mtp": "heads for multi-token prediction",
    "draft-eagle3": "an EAGLE-3 head",
    "draft-dflash": "a DFlash head",
    "draft-dspark": "a DSpark head",
}
_MAX_SIZE_DIFFERENCE = 128  # llama.cpp: SPEC_VOCAB_MAX_SIZE_DIFFERENCE
_FIRST_COMPARED_TOKEN = 5  # llama.cpp: SPEC_VOCAB_CHECK_START_TOKEN_ID


def check_model(path: Path, *, key: str) -> GgufInfo:
    """The header of a model that can be loaded. `key` is the configuration key that named it.

    Raises ModelFileError, with what to do, if it is missing, no file, empty, unreadable, no GGUF, cut short, or
    a part of a split model whose other parts are missing.
    """
    info = _check_file(path, key)
    if info.split_count == 1:
        return info
    if info.split_number != 0:
        raise NotALanguageModelError(
            f"{path} is part {info.split_number + 1} of {info.split_count} of a split model",
            remedy=f"set {key} to the first part",
        )
    names = part_names(path.name)
    if names[:1] != [path.name] or len(names) != info.split_count:
        raise ModelFileError(
            f"{path} is the first of {info.split_count} parts of a split model, but not named so",
            remedy=f"name the parts NAME-00001-of-{info.split_count:05d}.gguf and so on, and set {key} to the first",
        )
    parts = [info, *(_check_file(path.with_name(name), key) for name in names[1:])]
    return replace(
        info,
        size_bytes=sum(part.size_bytes for part in parts),
        expected_bytes=sum(part.expected_bytes for part in parts),
        parameters=sum(part.parameters for part in parts),
    )


def did_you_mean(path: Path, files: Sequence[Path]) -> str:
    """A question for the file whose name is nearly that of `path`, which isn't there; empty where there is none."""
    near = difflib.get_close_matches(path.name, [file.name for file in files], n=1, cutoff=0.7)
    return "".join(f"did you mean {file}? " for file in files if [file.name] == near)


def _check_file(path: Path, key: str) -> GgufInfo:
    remedy = f"set {key} to a GGUF file, or choose model_pair=synthetic"
    if not path.exists():
        if str(path.parent) == os.environ.get("VELOSWEEP_MODELS", "/models"):  # as the shipped pairs are written
            remedy += "; the pairs of conf/ look for theirs in the folder $VELOSWEEP_MODELS"
        meant = did_you_mean(path, [file.path for file in gguf_files(path.parent, "", depth=1)])
        raise ModelFileError(f"No model at {path}", remedy=meant + remedy)
    if path.is_dir():
        raise ModelFileError(f"The model {path} is a directory", remedy=f"set {key} to a .gguf file in it")
    if not path.is_file():
        raise ModelFileError(f"The model {path} is not a regular file", remedy=remedy)
    if not os.access(path, os.R_OK):
        raise ModelFileError(f"The model {path} can't be read: permission denied", remedy="change its permissions")
    if path.stat().st_size == 0:
        raise ModelFileError(f"The model {path} is empty", remedy="download it again")
    info = read_header(path)
    if info.non_model is not None:
        remedy = info.non_model.remedy.replace("{key}", key)
        if info.non_model.flag:
            remedy += " " + shlex.quote(f"engine.args=[{info.non_model.flag},{quoted(str(path))}]")
        raise NotALanguageModelError(f"{path} is {info.non_model.what}", remedy=remedy)
    if info.size_bytes < info.expected_bytes:
        raise ModelFileError(
            f"The model {path} is cut short: {info.size_bytes} of {info.expected_bytes} bytes",
            remedy="download it again",
        )
    return info


def check_pair(main: GgufInfo, draft: GgufInfo) -> None:
    """Raise PairError if llama.cpp would not use `draft` for `main` (common_speculative_are_compatible)."""
    cause = _misfit(main, draft)
    if cause is not None:
        raise PairError(
            f"The draft model {draft.path} doesn't fit the main model {main.path}: {cause}",
            remedy="llama.cpp would not draft; choose a draft model of the same family (model_pair.draft_model)",
            why=cause,
        )


def check_heads(kinds: Collection[str], main: GgufInfo, draft: GgufInfo | None) -> None:
    """Raise PairError where the heads that these kinds (llama.cpp's names) draft with are missing or don't fit `main`.

    `draft`: the draft model's file; None where none is used.
    """
    own = main.head.count if main.head is not None else 0
    layers = None if main.layers is None else main.layers - own
    for kind in kinds:
        name = HEADS.get(kind)
        if name is None and not (kind == "draft-simple" and draft and draft.head and draft.head.heads_only):
            continue
        if draft is None and main.head is not None and kind == main.head.kind:
            continue
        if draft is None:
            raise PairError(
                f"speculation {kind} needs {name}, and the main model {main.path} has none "
                f"(its header has no {main.architecture}.nextn_predict_layers)",
                remedy="choose a main model that was converted with them, set model_pair.draft_model to a file of them "
                "where the family has one, or choose another speculation",
            )
        made_for = draft.head.kind if draft.head is not None else "draft-simple"
        if made_for != kind:
            holds = (
                f"it holds {HEADS[made_for]}" if made_for in HEADS else f"it is a plain model ({draft.architecture})"
            )
            cause: str | None = f"{holds}, and not {name or 'a model that drafts alone'}"
        else:
            cause = head_misfit(draft.head, width=main.width, layers=layers) if draft.head else None
        if cause is not None:
            other = made_for.removesuffix("-simple") if made_for != kind else "ngram-simple"
            raise PairError(
                f"The draft model {draft.path} doesn't fit the main model {main.path} for speculation {kind}: {cause}",
                remedy=f"set model_pair.draft_model to a file made for this main model, or choose speculation={other}",
                why=cause,
            )


def _misfit(main: GgufInfo, draft: GgufInfo) -> str | None:
    if main.vocabulary_type != draft.vocabulary_type:
        return f"vocabulary types {main.vocabulary_type} and {draft.vocabulary_type}"
    for word, adds, ids in (
        ("BOS", (main.add_bos, draft.add_bos), (main.bos, draft.bos)),
        ("EOS", (main.add_eos, draft.add_eos), (main.eos, draft.eos)),
    ):
        if None not in adds and adds[0] != adds[1]:
            return f"only the {'main' if adds[0] else 'draft'} model adds {word}"
        if True in adds and None not in ids and ids[0] != ids[1]:
            return f"{word} tokens {ids[0]} and {ids[1]}"
    sizes = len(main.tokens), len(draft.tokens)
    if abs(sizes[0] - sizes[1]) > _MAX_SIZE_DIFFERENCE:
        return f"vocabularies of {sizes[0]} and {sizes[1]} tokens, more than {_MAX_SIZE_DIFFERENCE} apart"
    for token in range(_FIRST_COMPARED_TOKEN, min(sizes)):
        if main.tokens[token] != draft.tokens[token]:
            texts = [ascii(info.tokens[token][:40].decode("utf-8", "replace")) for info in (main, draft)]
            return f"token {token} is {texts[0]} in one and {texts[1]} in the other"
    return None


_HEAD = 1 << 23
_CHUNKS = 64
_CHUNK = 1 << 16


def fingerprint(path: str | Path) -> str:
    """Hash of a model's size, first 8 MiB (the header of most models) and 64 chunks spread over it, all parts.

    The same for a copy under another name; milliseconds whatever the size. Raises ModelFileError.
    """
    digest = sha256()
    try:
        path = Path(path)
        parts = [part for name in part_names(path.name) if (part := path.with_name(name)).exists()]
        for part in parts or [path]:
            with part.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                digest.update(f"{size}:".encode())
                digest.update(file.read(_HEAD))
                span = size - _HEAD - _CHUNK
                spread = {_HEAD + math.floor(span * i / (_CHUNKS - 1)) for i in range(_CHUNKS)} if span > 0 else {_HEAD}
                for offset in sorted(spread) if size > _HEAD else ():
                    file.seek(offset)
                    digest.update(file.read(_CHUNK))
    except OSError as error:
        raise ModelFileError(f"The model {path} can't be read: {error.strerror}", remedy="check the file") from error
    return digest.hexdigest()
