"""What a model file says of itself, and which files and pairs are refused with what words."""

from __future__ import annotations

import os
import shlex
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.gguf_bytes import ARRAY, STRING, model, text, vocabulary
from velosweep.config.speculation_kinds import KINDS
from velosweep.errors import ModelFileError, PairError
from velosweep.models.gguf_model import read_header
from velosweep.models.model_checks import HEADS, check_model, check_pair, fingerprint

TOKENS = [f"token{i}" for i in range(300)]
TENSORS = {"a.weight": ((64, 4), 0), "b.weight": ((64,), 8)}


def write(folder: Path, data: bytes, name: str = "model.gguf") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_a_header_is_read(tmp_path):
    values = vocabulary(TOKENS) | {
        "general.file_type": 7,
        "llama.block_count": 12,
        "llama.some_floats": 0.5,
        "tokenizer.ggml.scores": [1, 2, 3],
    }
    info = check_model(write(tmp_path, model(values, TENSORS)), key="model_pair.main_model")

    assert info.architecture == "llama"
    assert info.file_type == "Q8_0"
    assert (info.layers, info.parameters) == (12, 320)
    assert (info.vocabulary_type, len(info.tokens), info.tokens[7]) == ("BPE", 300, b"token7")
    assert (info.bos, info.eos, info.add_bos, info.add_eos) == (1, 2, True, False)
    assert info.expected_bytes <= info.size_bytes
    assert info.description == "llama 0M Q8_0, 12 layers, 0 MB"


def test_of_a_name_that_is_not_there_the_nearest_is_named(tmp_path):
    path = write(tmp_path, model({}), "Smol-135M-f16.gguf")

    with pytest.raises(ModelFileError) as caught:
        check_model(tmp_path / "Smol-135M-f16.guf", key="model_pair.main_model")
    assert caught.value.remedy.startswith(f"did you mean {path}? set model_pair.main_model")


def test_text_of_the_file_brings_no_control_characters_to_a_terminal(tmp_path):
    path = write(tmp_path, model({"general.architecture": "a \x1b[31mname"}))

    assert read_header(path).description.startswith("a �[31mname 0M")


def test_what_the_file_leaves_out_is_undefined(tmp_path):
    info = read_header(write(tmp_path, model({})))

    assert (info.architecture, info.layers, info.vocabulary_type, info.bos) == ("unknown", None, None, None)
    assert len(info.tokens) == 0


def test_a_missing_file_of_a_shipped_pair_is_refused_with_where_it_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("VELOSWEEP_MODELS", str(tmp_path))

    with pytest.raises(ModelFileError, match=r"No model at .*gone.gguf; .*\$VELOSWEEP_MODELS"):
        check_model(tmp_path / "gone.gguf", key="model_pair.main_model")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04 not a model", "doesn't begin with GGUF"),
        (b"GGUF", "within the header|makes no sense"),
        (model({}, version=1), "version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (model(vocabulary(TOKENS), TENSORS)[:-200], "cut short: [0-9]+ of [0-9]+ bytes"),
        (model(vocabulary(TOKENS), TENSORS)[:500], "makes no sense"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "claims 1152921504606846976 tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), "1152921504606846976 values"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 62), "makes no sense"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IIQ", ARRAY, 4, 1 << 61), "makes no sense"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IIQ", ARRAY, STRING, 1 << 40), "claims an"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IIQ", ARRAY, ARRAY, 1), "unknown type 9"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<I", 77), "unknown type 77"),
        (model({"general.alignment": 33}, TENSORS), "alignment is 33"),
        (model({"general.alignment": 0}, TENSORS), "alignment is 0"),
        (model({}, {"a": ((1, 1, 1, 1, 1), 0)}), "5 dimensions"),
        (model({}, {"a": ((), 0)})[:-32] + b"", "cut short|makes no sense|is empty"),
    ],
)
def test_a_damaged_file_is_refused_with_its_cause(tmp_path, data, words):
    path = write(tmp_path, data)

    with pytest.raises(ModelFileError, match=words) as refused:
        check_model(path, key="model_pair.main_model")
    assert str(path) in refused.value.message
    assert refused.value.remedy


def test_a_header_that_claims_terabytes_costs_nothing(tmp_path):
    tensors = b"".join(text(f"t{i}") + struct.pack("<IQQIQ", 2, 1 << 50, 1 << 50, 0, 1 << 60) for i in range(3))
    path = write(tmp_path, b"GGUF" + struct.pack("<IQQ", 3, 3, 0) + tensors)

    with pytest.raises(ModelFileError, match="cut short"):
        check_model(path, key="k")


def test_a_missing_model_names_the_key_and_the_way_out(tmp_path):
    with pytest.raises(ModelFileError, match=r"No model at .*gone.gguf; set model_pair.draft_model .*synthetic"):
        check_model(tmp_path / "gone.gguf", key="model_pair.draft_model")


def test_a_folder_is_no_model(tmp_path):
    with pytest.raises(ModelFileError, match="is a directory"):
        check_model(tmp_path, key="k")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.gguf")

    with pytest.raises(ModelFileError, match="not a regular file"):
        check_model(tmp_path / "pipe.gguf", key="k")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_says_so(tmp_path):
    path = write(tmp_path, model())
    path.chmod(0)

    with pytest.raises(ModelFileError, match="permission denied"):
        check_model(path, key="k")


# ---------------------------------------------------------------- split models


def split(folder: Path, number: int, count: int, *, cut: int = 0) -> Path:
    data = model({"split.no": number, "split.count": count}, TENSORS)
    return write(folder, data[: len(data) - cut], f"m-{number + 1:05d}-of-{count:05d}.gguf")


def test_a_split_model_is_taken_with_all_its_parts(tmp_path):
    first, second = split(tmp_path, 0, 2), split(tmp_path, 1, 2)

    info = check_model(first, key="k")

    assert first.stat().st_size + second.stat().st_size == info.size_bytes
    assert info.parameters == 640


def test_a_split_model_without_a_part_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match=r"No model at .*m-00002-of-00002.gguf"):
        check_model(split(tmp_path, 0, 2), key="k")


def test_a_split_model_with_a_part_cut_short_is_refused(tmp_path):
    split(tmp_path, 1, 2, cut=100)

    with pytest.raises(ModelFileError, match=r"00002-of-00002.gguf is cut short"):
        check_model(split(tmp_path, 0, 2), key="k")


def test_a_later_part_of_a_split_model_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match=r"part 2 of 2 .* first part"):
        check_model(split(tmp_path, 1, 2), key="k")


def test_parts_must_be_named_as_parts(tmp_path):
    path = write(tmp_path, model({"split.no": 0, "split.count": 3}, TENSORS))

    with pytest.raises(ModelFileError, match="not named so"):
        check_model(path, key="k")


def test_a_count_of_parts_that_no_name_bears_out_is_refused(tmp_path):
    data = model({"split.no": 0, "split.count": 4_000_000_000}, TENSORS)

    with pytest.raises(ModelFileError, match="not named so"):
        check_model(write(tmp_path, data, "m-00001-of-00002.gguf"), key="k")


# ---------------------------------------------------------------- pairs


def pair(folder, main: dict, draft: dict):
    return [
        check_model(write(folder, model(values, TENSORS), name), key="k")
        for values, name in ((main, "main.gguf"), (draft, "draft.gguf"))
    ]


@pytest.mark.parametrize(
    "draft",
    [
        vocabulary(TOKENS),
        vocabulary(["other0", "other1", "other2", "other3", "other4", *TOKENS[5:]]),  # the first five may differ
        vocabulary(TOKENS + [f"more{i}" for i in range(128)]),
        vocabulary(TOKENS, eos_token_id=9),  # no EOS is added, so which it would be doesn't matter
        vocabulary(TOKENS, model="gemma4"),  # another tokeniser of the same type
    ],
)
def test_a_pair_that_llama_cpp_takes_is_taken(tmp_path, draft):
    check_pair(*pair(tmp_path, vocabulary(TOKENS), draft))


@pytest.mark.parametrize(
    ("draft", "words"),
    [
        (vocabulary(TOKENS, model="llama"), "vocabulary types BPE and SPM"),
        (vocabulary(TOKENS, bos_token_id=3), "BOS tokens 1 and 3"),
        (vocabulary(TOKENS, add_bos_token=False), "only the main model adds BOS"),
        (vocabulary(TOKENS, add_eos_token=True), "only the draft model adds EOS"),
        (vocabulary(TOKENS + [f"more{i}" for i in range(129)]), "300 and 429 tokens"),
        (vocabulary([*TOKENS[:250], "x\n\x1b", *TOKENS[251:]]), r"token 250 is 'token250' in one and 'x\\n\\x1b' in"),
        (vocabulary([*TOKENS[:5], "x", *TOKENS[6:]]), "token 5 is"),
    ],
)
def test_a_pair_that_llama_cpp_would_not_draft_with_is_refused(tmp_path, draft, words):
    with pytest.raises(PairError, match=words) as refused:
        check_pair(*pair(tmp_path, vocabulary(TOKENS), draft))
    assert "same family" in (refused.value.remedy or "")


def unsaid(pre: str = "gpt-2", **said: object) -> dict[str, object]:
    """A byte-pair vocabulary whose special tokens are llama.cpp's defaults, but for those that are `said`."""
    names = ("bos_token_id", "eos_token_id", "add_bos_token", "add_eos_token")
    values = vocabulary(TOKENS, pre=pre, **said)
    return {key: of for key, of in values.items() if key.rpartition(".")[2] in said or not key.endswith(names)}


@pytest.mark.parametrize(
    ("main", "draft", "words"),
    [
        (unsaid("llama-bpe"), unsaid("llama-bpe", add_bos_token=True, bos_token_id=11), None),
        (unsaid("gpt-2"), unsaid("qwen2", bos_token_id=5), None),  # neither adds one
        (unsaid("tekken"), unsaid("gpt-2"), "only the main model adds BOS"),
        (unsaid("llama-bpe", add_bos_token=False), unsaid("llama-bpe"), "only the draft model adds BOS"),
        (unsaid("llama-bpe"), unsaid("llama-bpe", bos_token_id=9), "BOS tokens 11 and 9"),
        (
            unsaid("gpt-2", add_eos_token=True),
            unsaid("gpt-2", add_eos_token=True, eos_token_id=7),
            "EOS tokens 11 and 7",
        ),
    ],
)
def test_special_tokens_that_a_file_does_not_say_are_llama_cpps_by_its_pre_tokenizer(tmp_path, main, draft, words):
    if words is None:
        check_pair(*pair(tmp_path, main, draft))
        return
    with pytest.raises(PairError, match=words):
        check_pair(*pair(tmp_path, main, draft))


@pytest.mark.parametrize(
    ("values", "tensors", "words"),
    [
        ({"general.type": "adapter"}, TENSORS, "is a LoRA adapter.*--lora,"),
        ({}, {"blk.0.attn_q.weight.lora_a": ((32, 8), 0)}, "is a LoRA adapter"),
        ({"general.architecture": "clip"}, TENSORS, r"\(mmproj\) of a model"),
        ({"general.type": "imatrix"}, TENSORS, "is an importance matrix"),
        ({"general.architecture": "controlvector"}, TENSORS, "is a control vector"),
        ({"general.architecture": "nomic-bert"}, TENSORS, "for embeddings"),
        (vocabulary(TOKENS), {}, "is a vocabulary without weights"),
    ],
)
def test_a_file_that_is_no_model_is_called_what_it_is(tmp_path, values, tensors, words):
    with pytest.raises(ModelFileError, match=words) as refused:
        check_model(write(tmp_path, model(values, tensors)), key="model_pair.draft_model")
    assert "set model_pair.draft_model to" in (refused.value.remedy or "")


def test_the_argument_for_an_adapter_is_one_word_whatever_its_file_is_called(tmp_path):
    path = write(tmp_path, model({"general.type": "adapter"}, TENSORS), "a'$(touch trap)'.gguf")
    with pytest.raises(ModelFileError) as refused:
        check_model(path, key="model_pair.draft_model")

    assert shlex.split(refused.value.remedy or "")[-1] == f'engine.args=[--lora,"{path}"]'


# ---------------------------------------------------------------- identity


def test_a_fingerprint_is_the_same_under_another_name(tmp_path):
    data = model(vocabulary(TOKENS), TENSORS)

    assert fingerprint(write(tmp_path, data, "a.gguf")) == fingerprint(write(tmp_path, data, "b.gguf"))


def test_a_fingerprint_tells_headers_sizes_and_the_last_weights_apart(tmp_path):
    large = model(vocabulary(TOKENS)) + bytes(20_000_000)
    variants = [large, large + b"\0", large[:-1] + b"\1", b"\1" + large[1:]]

    assert len(variants) == len({fingerprint(write(tmp_path, data)) for data in variants})


def test_a_fingerprint_covers_every_part_of_a_split_model(tmp_path):
    first = split(tmp_path, 0, 2)
    alone = fingerprint(first)
    split(tmp_path, 1, 2)

    assert alone != fingerprint(first)


def test_a_fingerprint_of_nothing_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match="can't be read"):
        fingerprint(tmp_path / "gone.gguf")


# ---------------------------------------------------------------- any bytes

SOUND = model(vocabulary(TOKENS[:20]) | {"llama.block_count": 3}, TENSORS)


@settings(max_examples=300, deadline=None)
@given(
    edits=st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), max_size=8),
    end=st.integers(0, len(SOUND)) | st.none(),
)
def test_any_damage_is_our_own_error_or_none(tmp_path_factory, edits, end):
    data = bytearray(SOUND)
    for position, byte in edits:
        data[position] = byte
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes(data[:end])

    try:
        check_pair(check_model(path, key="k"), check_model(path, key="k"))
    except ModelFileError as error:
        assert error.remedy  # noqa: PT017 - either end is right


def test_every_kind_that_drafts_with_heads_has_them_checked():
    assert {"draft-simple", *HEADS} == {kind.llama_cpp for kind in KINDS.values() if kind.takes_draft_model}
