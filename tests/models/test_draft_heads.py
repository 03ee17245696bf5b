"""What a file says of its heads, and which of them are refused for which main model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.models.gguf_bytes import model
from velosweep.errors import PairError
from velosweep.models.draft_heads import DraftHead
from velosweep.models.gguf_model import GgufInfo, read_header
from velosweep.models.model_checks import check_heads

PLAIN = {"general.architecture": "llama", "llama.block_count": 8, "llama.embedding_length": 64}
WITH_HEADS = {
    "general.architecture": "glm4moe",
    "glm4moe.block_count": 9,
    "glm4moe.embedding_length": 64,
    "glm4moe.nextn_predict_layers": 1,
}
EAGLE3 = {
    "general.architecture": "eagle3",
    "eagle3.embedding_length": 32,
    "eagle3.target_hidden_size": 64,
    "eagle3.target_layers": [1, 4, 8],
}
DFLASH = {"general.architecture": "dflash", "dflash.embedding_length": 64, "dflash.target_layers": [1, 5]}
GEMMA = {
    "general.architecture": "gemma4-assistant",
    "gemma4-assistant.embedding_length": 16,
    "gemma4-assistant.embedding_length_out": 64,
    "gemma4-assistant.nextn_predict_layers": 4,
}
MARKOV = {"markov_w1.weight": ((4, 4), 0)}


def read(folder: Path, values: dict[str, object], tensors: dict[str, object] | None = None) -> GgufInfo:
    path = folder / f"{len(list(folder.iterdir()))}.gguf"
    path.write_bytes(model(values, tensors))
    return read_header(path)


@pytest.mark.parametrize(
    ("values", "tensors", "head"),
    [
        (PLAIN, None, None),
        (EAGLE3, None, DraftHead(kind="draft-eagle3", target_width=64, target_layers=(1, 4, 8))),
        (DFLASH, None, DraftHead(kind="draft-dflash", target_width=64, target_layers=(1, 5), longest=15)),
        (
            DFLASH | {"dflash.block_size": 8},
            MARKOV,
            DraftHead(kind="draft-dspark", target_width=64, target_layers=(1, 5), longest=8),
        ),
        (
            DFLASH | {"dflash.block_size": 8, "dflash.sample_from_anchor": False},
            MARKOV,
            DraftHead(kind="draft-dspark", target_width=64, target_layers=(1, 5), longest=7),
        ),
        (WITH_HEADS, None, DraftHead(kind="draft-mtp", target_width=64, count=1)),
        (
            WITH_HEADS | {"glm4moe.nextn_predict_layers": 3},
            None,
            DraftHead(kind="draft-mtp", target_width=64, count=3, longest=3),
        ),
        (GEMMA, None, DraftHead(kind="draft-mtp", target_width=64, count=4)),
    ],
)
def test_a_header_says_what_its_heads_are_made_for(tmp_path, values, tensors, head):
    assert read(tmp_path, values, tensors).head == head


@pytest.mark.parametrize(
    ("kind", "main", "draft"),
    [
        ("draft-mtp", WITH_HEADS, None),
        ("draft-mtp", PLAIN, GEMMA),
        ("draft-eagle3", PLAIN, EAGLE3),
        ("draft-dflash", PLAIN, DFLASH),
        ("draft-simple", PLAIN, PLAIN),
        ("ngram-mod", PLAIN, None),
        ("draft-eagle3", PLAIN, EAGLE3 | {"eagle3.target_hidden_size": "unreadable"}),
    ],
)
def test_heads_that_fit_are_taken(tmp_path, kind, main, draft):
    check_heads([kind], read(tmp_path, main), read(tmp_path, draft) if draft else None)


@pytest.mark.parametrize(
    ("kind", "main", "draft", "words"),
    [
        ("draft-mtp", PLAIN, None, r"has none \(its header has no llama.nextn_predict_layers\)"),
        (
            "draft-mtp",
            PLAIN,
            EAGLE3,
            "it holds an EAGLE-3 head, and not heads for multi.*choose speculation=draft-eagle3",
        ),
        ("draft-simple", PLAIN, EAGLE3, "and not a model that drafts alone.*choose speculation=draft-eagle3"),
        ("draft-simple", PLAIN, GEMMA | {"gemma4-assistant.block_count": 4}, "choose speculation=draft-mtp"),
        ("draft-mtp", PLAIN, GEMMA | {"gemma4-assistant.embedding_length_out": 96}, "width 96, and this one's is 64"),
        ("draft-eagle3", PLAIN, PLAIN, r"a plain model \(llama\), and not an EAGLE-3 head.*choose speculation=draft$"),
        (
            "draft-eagle3",
            PLAIN,
            EAGLE3 | {"eagle3.target_hidden_size": 128},
            "width 128, and this one's is 64.*choose speculation=ngram",
        ),
        ("draft-eagle3", PLAIN, EAGLE3 | {"eagle3.target_layers": [1, 4, 9]}, "reads layer 9 of the main model, which"),
        ("draft-eagle3", WITH_HEADS, EAGLE3 | {"eagle3.target_layers": [1, 4, 9]}, "reads layer 9 of .* which has 8"),
        ("draft-eagle3", PLAIN, EAGLE3 | {"eagle3.target_layers": [1, 4]}, "reads 2 layers of the main model"),
        ("draft-dflash", PLAIN, DFLASH | {"dflash.embedding_length": 32}, "width 32, and this one's is 64"),
        ("draft-dspark", PLAIN, DFLASH, "it holds a DFlash head.*choose speculation=draft-dflash"),
    ],
)
def test_heads_that_llama_cpp_would_abort_on_are_refused(tmp_path, kind, main, draft, words):
    with pytest.raises(PairError) as refused:
        check_heads([kind], read(tmp_path, main), read(tmp_path, draft) if draft else None)

    refused.match(f"(?s){words}")
    assert refused.value.remedy


def test_a_whole_model_with_heads_may_draft_by_itself(tmp_path):
    whole = read(tmp_path, WITH_HEADS, {"blk.0.attn_norm.weight": ((4,), 0)})

    check_heads(["draft-simple"], read(tmp_path, PLAIN), whole)
    with pytest.raises(PairError, match="and not a model that drafts alone"):
        check_heads(["draft-simple"], read(tmp_path, PLAIN), read(tmp_path, WITH_HEADS))
