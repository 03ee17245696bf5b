"""GGUF files that are no models: what they hold, and what to give instead."""

from collections.abc import Collection, Mapping
from typing import NamedTuple


class OtherContent(NamedTuple):
    """What a file is, with its article, and what to set instead of it for `{key}`.

    `flag`: by which llama-server takes such a file beside a model, if it does.
    """

    what: str
    remedy: str
    flag: str = ""


_ADAPTER = OtherContent(
    "a LoRA adapter, which changes a model and is none",
    "set {key} to the model that it was made for, and add it with engine=server",
    "--lora",
)
_PROJECTOR = OtherContent(
    "the image or audio part (mmproj) of a model, which reads no text",
    "set {key} to the model's own file, whose name has no mmproj",
)
_MATRIX = OtherContent("an importance matrix for quantising", "set {key} to a model")
_CONTROL = OtherContent(
    "a control vector, which steers a model and is none",
    "set {key} to the model that it was made for, and add it with engine=server",
    "--control-vector",
)
_VOCABULARY = OtherContent("a vocabulary without weights", "set {key} to a file that has the model's weights")
_EMBEDDING = OtherContent("a model for embeddings, which generates no text", "set {key} to a model that generates text")
_ENCODERS = frozenset({
    "bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3", "eurobert",
    "t5encoder", "gemma-embedding",
})  # fmt: skip


def other_content(
    architecture: str, values: Mapping[str, object], tensors: Collection[bytes], *, whole: bool
) -> OtherContent | None:
    """What a file holds if that is no language model. `whole`: it is no part of a split one."""
    kind = values.get("general.type")
    adapts = any(name.endswith((b".lora_a", b".lora_b")) for name in tensors)
    if adapts or kind == b"adapter" or "adapter.type" in values:
        return _ADAPTER
    if architecture == "clip" or kind == b"mmproj" or "clip.projector_type" in values:
        return _PROJECTOR
    if kind == b"imatrix" or "imatrix.datasets" in values:
        return _MATRIX
    if architecture == "controlvector":
        return _CONTROL
    if architecture in _ENCODERS:
        return _EMBEDDING
    return _VOCABULARY if whole and not tensors else None
