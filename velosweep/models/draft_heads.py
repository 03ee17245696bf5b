"""Heads that draft for a main model, by the header of their file: what they are made for, and what they need of it.

The rules are llama.cpp's own (`common/speculative.cpp`, `src/models/`), which breaks them by an abort while it loads,
or by drafting less than it is told.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

_BLOCK_SIZE = 16  # llama.cpp's where a DFlash file says none
_EAGLE3_LAYERS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class DraftHead:
    """What a file's heads are made for; None where the file doesn't say."""

    kind: str  # llama.cpp's name of the speculation
    target_width: int | None = None  # of the main model whose hidden states they read,
    target_layers: tuple[int, ...] | None = None  # and at which layers
    longest: int | None = None  # drafts are cut to so many tokens, whatever n_draft says; None: they aren't
    count: int = 0  # prediction layers at the end of the file's own blocks
    heads_only: bool = True  # the file holds nothing else, and can draft in no other way


def draft_head(architecture: str, values: Mapping[str, object], tensors: Collection[bytes]) -> DraftHead | None:
    """The heads that a file holds, by its header's values and the names of its tensors; None for a plain model."""

    def number(name: str) -> int | None:
        value = values.get(f"{architecture}.{name}")
        return value if isinstance(value, int) else None

    layers = values.get(f"{architecture}.target_layers", values.get(f"{architecture}.extract_layers"))
    read_layers = layers if isinstance(layers, tuple) else None
    if architecture == "eagle3":
        return DraftHead(kind="draft-eagle3", target_width=number("target_hidden_size"), target_layers=read_layers)
    if architecture == "dflash":
        block, dspark = number("block_size") or _BLOCK_SIZE, b"markov_w1.weight" in tensors
        from_anchor = dspark and values.get("dflash.sample_from_anchor", True) is not False
        return DraftHead(
            kind="draft-dspark" if dspark else "draft-dflash",
            target_width=number("embedding_length"),
            target_layers=read_layers,
            longest=block if from_anchor else block - 1,
        )
    count = number("nextn_predict_layers") or 0
    if not count:
        return None
    return DraftHead(
        kind="draft-mtp",
        target_width=number("embedding_length_out") or number("embedding_length"),
        # several heads draft one token each; one head drafts on from its own output, as Gemma's own files do
        longest=count if count > 1 and not architecture.endswith("-assistant") else None,
        count=count,
        heads_only=architecture.endswith("-assistant") or not any(name.startswith(b"blk.0.") for name in tensors),
    )


def head_misfit(head: DraftHead, *, width: int | None, layers: int | None) -> str | None:
    """Why heads can't read the hidden states of a main model of this width and depth; None where nothing says so."""
    if head.kind == "draft-eagle3" and head.target_layers is not None and len(head.target_layers) != _EAGLE3_LAYERS:
        return f"it reads {len(head.target_layers)} layers of the main model, and EAGLE-3 reads {_EAGLE3_LAYERS}"
    if None not in (head.target_width, width) and head.target_width != width:
        return f"it is made for a main model of width {head.target_width}, and this one's is {width}"
    deepest = max(head.target_layers or (0,))
    if layers is not None and deepest > layers:
        return f"it reads layer {deepest} of the main model, which has {layers}"
    return None
