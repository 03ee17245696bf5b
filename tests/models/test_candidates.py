"""Which of the models that are there can speed a main model up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.models.model_files import FAMILY, OTHERS, write_eagle3, write_model
from velosweep.errors import PairError
from velosweep.models.candidates import Candidate, find_candidates
from velosweep.models.found_models import FoundModel, list_files, read_models
from velosweep.models.model_checks import check_model


def found_in(folder: Path) -> list[FoundModel]:
    return read_models(list(list_files([folder], Path("/nonexistent"), {})))[0]


def named(candidates: list[Candidate]) -> list[tuple[str, str | None]]:
    return [(candidate.kind, candidate.draft and candidate.draft.file.name) for candidate in candidates]


def test_files_are_read_once_and_what_is_no_model_is_left_out(tmp_path: Path) -> None:
    first = write_model(tmp_path / "a.gguf")
    os.link(first, tmp_path / "again.gguf")
    (tmp_path / "link.gguf").symlink_to(first)
    write_model(tmp_path / "mmproj.gguf", **{"general.architecture": "clip"})
    write_model(tmp_path / "vocabulary.gguf", rows=0)
    (tmp_path / "torn.gguf").write_bytes(first.read_bytes()[:-64])
    for part in range(2):
        name = f"split-0000{part + 1}-of-00002.gguf"
        write_model(tmp_path / name, **{"split.no": part, "split.count": 2})

    write_model(tmp_path / "renamed.gguf", **{"split.no": 0, "split.count": 2})

    found, refused = read_models(list(list_files([tmp_path], tmp_path / "home", {})))

    assert [model.file.name for model in found] == ["a.gguf", "split-00001-of-00002.gguf"]
    assert [message.rpartition("/")[2].partition(":")[0] for message in refused] == [
        "renamed.gguf is the first of 2 parts of a split model, but not named so",
        "torn.gguf is cut short",
    ]


def test_why_a_model_does_not_fit_is_told_whole_whatever_its_tokens_are(tmp_path: Path) -> None:
    main = write_model(tmp_path / "main.gguf", rows=1000, texts=[*FAMILY[:7], ": ", *FAMILY[8:]])
    write_model(tmp_path / "other.gguf", rows=100)

    _, misfits = find_candidates(check_model(main, key="main"), found_in(tmp_path), ())

    assert [misfit.why for misfit in misfits] == ["token 7 is ': ' in one and 'token7' in the other"]


def test_what_fits_and_is_smaller_competes_and_the_rest_is_told_why(tmp_path: Path) -> None:
    main = write_model(tmp_path / "main.gguf", rows=1000)
    write_model(tmp_path / "tenth.gguf", rows=100)
    write_model(tmp_path / "half.gguf", rows=500)
    write_model(tmp_path / "large.gguf", rows=900)
    write_model(tmp_path / "stranger.gguf", rows=50, texts=OTHERS)
    (tmp_path / "copy.gguf").write_bytes((tmp_path / "tenth.gguf").read_bytes())

    candidates, misfits = find_candidates(check_model(main, key="main"), found_in(tmp_path), ("none", "draft-simple"))

    assert named(candidates) == [("draft", "copy.gguf"), ("draft", "half.gguf")]
    assert {misfit.model.file.name: misfit.why for misfit in misfits} == {
        "large.gguf": "it has 90 % of the main model's size",
        "stranger.gguf": "token 5 is 'token5' in one and 'other5' in the other",
    }


def test_heads_made_for_it_come_before_a_second_draft_and_others_do_not_fit(tmp_path: Path) -> None:
    main = write_model(tmp_path / "main.gguf", rows=1000)
    write_model(tmp_path / "draft.gguf", rows=100)
    write_model(tmp_path / "second.gguf", rows=120)
    write_eagle3(tmp_path / "head.gguf")
    write_eagle3(tmp_path / "wide.gguf", width=128)
    kinds = ("draft-simple", "draft-eagle3")

    candidates, misfits = find_candidates(check_model(main, key="main"), found_in(tmp_path), kinds)
    older = find_candidates(check_model(main, key="main"), found_in(tmp_path), kinds[:1])[1]

    assert named(candidates) == [("draft", "draft.gguf"), ("draft-eagle3", "head.gguf"), ("draft", "second.gguf")]
    assert [(misfit.model.file.name, "width 128" in misfit.why) for misfit in misfits] == [("wide.gguf", True)]
    assert [misfit.why for misfit in older if misfit.model.file.name == "head.gguf"] == [
        "this llama.cpp does not know draft-eagle3"
    ]


def test_draftless_kinds_are_those_that_the_program_knows(tmp_path: Path) -> None:
    main = check_model(write_model(tmp_path / "main.gguf"), key="main")

    assert named(find_candidates(main, [], ("ngram-mod", "ngram-simple"))[0]) == [
        ("ngram-simple", None),
        ("ngram-mod", None),
    ]


def test_a_main_model_with_heads_of_its_own_needs_no_file(tmp_path: Path) -> None:
    values = {"general.architecture": "qwen35", "qwen35.block_count": 3, "qwen35.nextn_predict_layers": 2}
    main = check_model(write_model(tmp_path / "main.gguf", **values), key="main")

    (candidate,) = find_candidates(main, [], ("draft-mtp",))[0]

    assert (candidate.kind, candidate.draft, candidate.longest) == ("draft-mtp", None, 2)


def test_heads_are_no_main_model(tmp_path: Path) -> None:
    head = check_model(write_eagle3(tmp_path / "head.gguf"), key="main")

    with pytest.raises(PairError, match="holds heads for draft-eagle3, not a model"):
        find_candidates(head, [], ())


def test_heads_for_multi_token_prediction_fit_models_of_their_family(tmp_path: Path) -> None:
    family = {"general.architecture": "qwen35", "qwen35.block_count": 3, "qwen35.embedding_length": 64}
    main = check_model(write_model(tmp_path / "main.gguf", rows=1000, **family), key="main")
    plain = check_model(write_model(tmp_path / "plain.gguf", rows=1000), key="main")
    write_model(
        tmp_path / "mtp.gguf", rows=50, tensor="blk.2.nextn.weight", **family, **{"qwen35.nextn_predict_layers": 1}
    )
    kinds = ("draft-mtp", "draft-simple")

    fitting, _ = find_candidates(main, found_in(tmp_path), kinds)
    _, misfits = find_candidates(plain, found_in(tmp_path), kinds)

    assert ("draft-mtp", "mtp.gguf") in named(fitting)
    assert ("mtp.gguf", "its heads are made for qwen35") in [(one.model.file.name, one.why) for one in misfits]
