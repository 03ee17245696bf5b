"""llama.cpp's kinds of vocabulary and what it takes for granted where a file says nothing (llama-vocab.cpp)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True, slots=True)
class SpecialTokens:
    """The tokens that begin and end a text, and whether llama.cpp adds them to a prompt; None where not known."""

    bos: int | None = None
    eos: int | None = None
    add_bos: bool | None = None
    add_eos: bool | None = None


# Tokenisers of which llama.cpp makes one vocabulary type.
_TYPES: Mapping[str, str] = {
    "llama": "SPM", "gpt2": "BPE", "hybriddna": "BPE", "whitespace": "BPE", "gemma4": "BPE",
    "bert": "WPM", "t5": "UGM", "rwkv": "RWKV", "plamo2": "PLAMO2", "no_vocab": "none", "none": "none",
}  # fmt: skip
_DEFAULTS: Mapping[str, SpecialTokens] = {
    "SPM": SpecialTokens(bos=1, eos=2, add_bos=True, add_eos=False),
    "BPE": SpecialTokens(bos=11, eos=11, add_bos=False, add_eos=False),
    "WPM": SpecialTokens(bos=101, add_bos=True, add_eos=False),
    "UGM": SpecialTokens(eos=1, add_bos=False, add_eos=True),
    "RWKV": SpecialTokens(add_bos=False, add_eos=False),
    "PLAMO2": SpecialTokens(bos=1, eos=2, add_bos=False, add_eos=False),
    "none": SpecialTokens(add_bos=False, add_eos=False),
}
# Pre-tokenisers of byte-pair vocabularies that add a BOS, or have none.
_ADD_BOS = frozenset({
    "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano", "tekken",
    "chameleon", "gemma4", "granite-embed-multi-311m",
})  # fmt: skip
_NO_BOS = frozenset({"chatglm-bpe", "glm4", "glm5"})


def vocabulary_type(tokenizer: str | None) -> str | None:
    """The type of vocabulary that llama.cpp makes for a file's tokeniser."""
    return None if tokenizer is None else _TYPES.get(tokenizer, tokenizer)


def default_special_tokens(tokenizer: str | None, pre_tokenizer: str | None, size: int) -> SpecialTokens:
    """What holds for a vocabulary of `size` tokens where its file says nothing; all None for an unknown tokeniser."""
    kind = vocabulary_type(tokenizer)
    defaults = _DEFAULTS.get(kind or "", SpecialTokens())
    if kind == "BPE" and pre_tokenizer in _ADD_BOS:
        defaults = replace(defaults, add_bos=True)
    if kind == "BPE" and pre_tokenizer in _NO_BOS:
        defaults = replace(defaults, bos=None)
    inside = {name: None for name in ("bos", "eos") if (getattr(defaults, name) or 0) >= size}
    return replace(defaults, **inside)
