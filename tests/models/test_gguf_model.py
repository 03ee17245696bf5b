"""How much KV cache a token takes, by the model file's header."""

from __future__ import annotations

import gguf
import pytest

from tests.models.gguf_bytes import model
from velosweep.models import gguf_model
from velosweep.models.gguf_model import read_header

LLAMA_8B = {
    "llama.block_count": 32,
    "llama.embedding_length": 4096,
    "llama.attention.head_count": 32,
    "llama.attention.head_count_kv": 8,
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 32 * 8 * 256),
        ({"llama.attention.head_count_kv": 32}, 32 * 32 * 256),
        ({"llama.attention.head_count_kv": [0, 0, 8, 0] * 8}, 8 * 8 * 256),  # as of hybrid models
        ({"llama.attention.head_count": [32, 16] * 16, "llama.attention.head_count_kv": [8, 4] * 16}, 192 * 256),
        ({"llama.full_attention_interval": 4}, 8 * 8 * 256),
        ({"llama.attention.key_length": 64, "llama.attention.value_length": 32}, 32 * 8 * 96),
        ({"llama.attention.kv_lora_rank": 512}, None),
        ({"llama.attention.head_count": 0}, None),
    ],
)
def test_the_cache_of_a_token_is_layers_by_heads_by_lengths(tmp_path, changes, expected):
    path = tmp_path / "model.gguf"
    path.write_bytes(model({"general.architecture": "llama", **LLAMA_8B, **changes}))

    assert read_header(path).kv_elements_per_token == expected


def test_a_header_that_says_nothing_leaves_it_undefined(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(model({}))

    assert read_header(path).kv_elements_per_token is None


def test_the_tables_of_types_are_those_of_the_package_gguf():
    """A wrong size of a block would call whole files cut short. Types that only one of them knows yet say nothing."""
    blocks = {int(kind): size for kind, size in gguf.GGML_QUANT_SIZES.items()}
    names = {int(kind): kind.name.removeprefix("ALL_").removeprefix("MOSTLY_") for kind in gguf.LlamaFileType}
    names[38] = "MXFP4"  # theirs is MXFP4_MOE
    both = gguf_model._BLOCKS.keys() & blocks.keys(), gguf_model.FILE_TYPES.keys() & names.keys()

    assert {kind: gguf_model._BLOCKS[kind] for kind in both[0]} == {kind: blocks[kind] for kind in both[0]}
    assert {kind: gguf_model.FILE_TYPES[kind] for kind in both[1]} == {kind: names[kind] for kind in both[1]}
    assert min(map(len, both)) > 20
