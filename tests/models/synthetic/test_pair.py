"""The synthetic pair: the same files everywhere, written once, mended when damaged, small in memory."""

from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from velosweep.config.settings import SyntheticShape
from velosweep.config.speculation_kinds import KINDS
from velosweep.errors import ConfigError, StorageError
from velosweep.models.model_checks import check_model, check_pair
from velosweep.models.synthetic.pair import (
    DEFAULT_SHAPE,
    FILES,
    PRESETS,
    check_shape,
    ensure_files,
    ensure_models,
    model_paths,
    shape_from,
    write_files,
)

SMALL = SyntheticShape(layers=3, kept_layers=1, width=64, feed_forward=96, heads=4, kv_heads=2, vocabulary=320, eps=0.5)


def tensors(path):
    from gguf import GGUFReader
    from gguf.quants import dequantize

    reader = GGUFReader(path)
    return {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    kinds = ("f32", "f16", "bf16", "q8_0", "q4_0")
    return {kind: ensure_files(replace(SMALL, type=kind), "draft", folder) for kind in kinds}


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0", "q4_0"])
def test_a_pair_of_every_type_passes_our_own_checks(written, kind):
    main, draft = (check_model(path, key="k") for path in written[kind])
    check_pair(main, draft)

    assert (main.layers, draft.layers) == (3, 1)
    assert kind.upper() == main.file_type
    assert len(main.tokens) == 320
    assert main.parameters == 133_568
    assert main.expected_bytes == main.size_bytes


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0", "q4_0"])
def test_the_draft_is_the_first_blocks_of_the_main_model(written, kind):
    main, draft = (tensors(path) for path in written[kind])

    assert {name for name in main if not name.startswith(("blk.1.", "blk.2."))} == set(draft)
    assert all(np.array_equal(main[name], draft[name]) for name in draft)


def test_the_other_blocks_write_eps_times_as_much(written):
    main = tensors(written["f32"][0])
    for part in ("attn_output", "ffn_down"):
        deviations = [main[f"blk.{block}.{part}.weight"][1:].std() for block in range(3)]

        assert pytest.approx([0.5, 0.5], rel=0.05) == [deviations[1] / deviations[0], deviations[2] / deviations[0]]
    assert pytest.approx(main["blk.0.attn_q.weight"].std(), rel=0.05) == main["blk.2.attn_q.weight"].std()


def test_eps_0_leaves_the_residual_stream_alone(tmp_path):
    main, _ = ensure_files(replace(SMALL, eps=0.0, type="q8_0"), "draft", tmp_path)

    assert not tensors(main)["blk.1.ffn_down.weight"].any()


@pytest.mark.parametrize("kind", ["f32", "q4_0"])
def test_no_block_writes_the_anchor_and_only_printable_tokens_escape_it(written, kind):
    main = tensors(written[kind][0])
    forbidden = [token for token in range(320) if main["output.weight"][token][0] < -10]

    assert [token for token in range(320) if not 0x20 <= token < 0x7F] == forbidden
    assert not any(main[f"blk.{b}.{part}.weight"][0].any() for b in range(3) for part in ("attn_output", "ffn_down"))


@pytest.mark.parametrize("kind", ["f32", "q8_0"])
def test_no_two_tokens_are_tied(written, kind):
    main = tensors(written[kind][0])

    assert len(np.unique(main["output.weight"][0x20:0x7F], axis=0)) == 95
    assert len(np.unique(main["token_embd.weight"][:259], axis=0)) == 259


def test_a_shape_has_the_same_bytes_on_every_machine(written):
    """If this changes on purpose, CONSTRUCTION must go up, or people keep the old files."""
    weights = [b"".join(array.tobytes() for array in tensors(written[kind][0]).values()) for kind in ("f32", "q8_0")]

    assert [sha256(data).hexdigest()[:16] for data in weights] == ["a48216b87183f6e1", "a5ed88cc5c24e46b"]


def test_seeds_differ(tmp_path, written):
    other, _ = ensure_files(replace(SMALL, seed=1), "draft", tmp_path)

    assert other.name != written["f32"][0].name
    assert not np.array_equal(tensors(other)["blk.0.attn_q.weight"], tensors(written["f32"][0])["blk.0.attn_q.weight"])


# ---------------------------------------------------------------- the cache


def test_a_pair_is_written_once(tmp_path):
    said: list[str] = []
    first = ensure_files(SMALL, "draft", tmp_path, said.append)
    times = [path.stat().st_mtime_ns for path in first]

    assert first == ensure_files(SMALL, "draft", tmp_path, said.append)
    assert times == [path.stat().st_mtime_ns for path in first]
    assert len(said) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b"\0" * path.stat().st_size),
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
    ],
)
@pytest.mark.parametrize("which", [0, 1])
def test_a_damaged_file_is_written_again(tmp_path, damage, which):
    paths = ensure_files(SMALL, "draft", tmp_path)
    sound = [path.read_bytes() for path in paths]
    damage(paths[which])
    ensure_files(SMALL, "draft", tmp_path)

    assert sound == [path.read_bytes() for path in paths]


@pytest.mark.parametrize("record", ["", "[1]", "{}", '{"a": 1}', "{", '{"x": {"stat": 3}}'])
def test_a_damaged_record_costs_a_rewrite_and_no_more(tmp_path, record):
    paths = ensure_files(SMALL, "draft", tmp_path)
    (seal,) = tmp_path.glob("*.json")
    seal.write_text(record)

    assert paths == ensure_files(SMALL, "draft", tmp_path)
    assert {path.name for path in paths} == set(json.loads(seal.read_text()))


def test_a_file_that_was_only_touched_is_kept(tmp_path):
    main, _ = ensure_files(SMALL, "draft", tmp_path)
    inode = main.stat().st_ino
    os.utime(main, (1, 1))
    ensure_files(SMALL, "draft", tmp_path)

    assert inode == main.stat().st_ino


def _ensure(folder):
    ensure_files(SMALL, "draft", folder)


def test_several_processes_may_ask_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_ensure, args=(tmp_path,)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)

    assert [child.exitcode for child in children] == [0, 0, 0]
    assert not list(tmp_path.glob("*.part"))


def test_a_failed_write_leaves_no_part_and_says_where(tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("velosweep.models.synthetic.pair.write_files", full)
    with pytest.raises(StorageError, match="No space left on device") as refused:
        ensure_files(SMALL, "draft", tmp_path)
    assert str(tmp_path) in str(refused.value)
    assert not list(tmp_path.glob("*.part"))


def test_a_large_vocabulary_is_padded(tmp_path):
    shape = replace(SMALL, vocabulary=40_000, type="q8_0")
    paths = model_paths(shape, tmp_path, "draft")
    write_files(shape, "draft", paths)
    main, draft = (check_model(path, key="k") for path in paths)
    check_pair(main, draft)

    assert (len(main.tokens), main.tokens[-1]) == (40_000, b"<|unused39999|>")


# ---------------------------------------------------------------- shapes


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_can_be_written(name):
    check_shape(PRESETS[name])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layers": 0}, "layers is 0"),
        ({"kept_layers": 21}, "kept_layers is 21; it must be at most layers"),
        ({"width": 400}, "width is 400"),
        ({"width": 352}, "a multiple of 2 × heads"),
        ({"kv_heads": 4}, "a divisor of heads"),
        ({"vocabulary": 100}, "vocabulary is 100"),
        ({"eps": -1.0}, "eps is -1.0"),
        ({"eps": float("nan")}, "eps is nan"),
        ({"type": "q5_k"}, "one of f32, f16"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_an_impossible_shape_is_refused_by_its_field(change, words):
    with pytest.raises(ConfigError, match=words):
        shape_from({name: str(value) for name, value in change.items()})


def test_shapes_from_text():
    shape = shape_from({"layers": "4", "eps": "0.25", "type": "f16"}, PRESETS["default"])

    assert (shape.layers, shape.eps, shape.type, shape.width) == (4, 0.25, "f16", 384)


@pytest.mark.parametrize(("values", "words"), [({"depth": "3"}, "no 'depth'"), ({"layers": "many"}, "'many'")])
def test_a_wrong_field_is_refused(values, words):
    with pytest.raises(ConfigError, match=words):
        shape_from(values)


def test_two_shapes_never_share_a_file(tmp_path):
    changes = [{"eps": 0.031}, {"seed": 3}, {"kv_heads": 3}]
    shapes = [replace(DEFAULT_SHAPE, **change) for change in changes]

    assert len({path for shape in [*shapes, DEFAULT_SHAPE] for path in model_paths(shape, tmp_path, "draft")}) == 8


def test_every_kind_that_drafts_with_a_model_has_files():
    assert set(FILES) == {kind.name for kind in KINDS.values() if kind.takes_draft_model}


@pytest.mark.parametrize("kinds", [("draft-unheard-of",), ("draft", "draft-unheard-of")])
def test_a_kind_whose_heads_we_cannot_write_is_not_given_the_plain_pair(kinds, tmp_path):
    with pytest.raises(ConfigError, match="none that speculation draft-unheard-of drafts with") as caught:
        ensure_models(SMALL, kinds, tmp_path)

    assert "draft-dspark" in caught.value.remedy
    assert not list(tmp_path.iterdir())


def test_a_kind_that_looks_into_the_text_needs_no_more_than_the_plain_pair(tmp_path):
    main, draft = ensure_models(SMALL, ("ngram-unheard-of",), tmp_path)

    assert (main, draft) == ensure_files(SMALL, "draft", tmp_path)
