"""How many tokens are really drafted, and jobs that are then one and the same run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.llama_cpp.servers import CPU, request, speculative
from tests.planning.jobs import job
from velosweep.config.settings import Job, Speculation
from velosweep.errors import ConfigError
from velosweep.llama_cpp.embedded import EmbeddedEngine
from velosweep.measuring.draft_lengths import (
    changed_lengths,
    effective_n_draft,
    merge_duplicate_jobs,
    too_short_to_copy,
)
from velosweep.models.draft_heads import DraftHead
from velosweep.models.gguf_model import read_header
from velosweep.models.synthetic import heads
from velosweep.models.synthetic.pair import DEFAULT_SHAPE, SMALLEST_VOCABULARY
from velosweep.models.synthetic.tensors import Pool, write_gguf
from velosweep.planning.identity import identify
from velosweep.planning.job_settings import other_settings

SEVEN = DraftHead(kind="draft-dflash", longest=7)
FREE = DraftHead(kind="draft-mtp", count=1)
THREE = DraftHead(kind="draft-mtp", count=3, longest=3)


def jobs_over(*n_drafts: int, kind: str = "draft") -> list[Job]:
    """Jobs without identity that differ in n_draft alone."""
    speculation = Speculation(kinds=(kind,))
    return [
        job(num=num, n_draft=n, overrides=(f"n_draft={n}",), speculation=speculation) for num, n in enumerate(n_drafts)
    ]


@pytest.mark.parametrize(
    ("kinds", "head", "real"),
    [
        (("draft",), None, [4, 12]),
        ((), None, [4, 12]),
        (("ngram-cache",), None, [8, 8]),
        (("ngram-cache", "ngram-mod"), None, [4, 12]),
        (("draft-dflash",), SEVEN, [4, 7]),
        (("draft-dflash", "ngram-cache"), SEVEN, [4, 7]),
        (("draft-dflash", "ngram-mod"), SEVEN, [4, 12]),
        (("draft-mtp",), THREE, [3, 3]),
        (("draft-mtp",), FREE, [4, 12]),
        (("draft",), THREE, [4, 12]),  # a main model with heads that this kind does not use
    ],
)
def test_a_kind_drafts_what_it_can_whatever_it_is_told(kinds, head, real):
    speculation = Speculation(kinds=kinds)

    assert [effective_n_draft(job(n_draft=n, speculation=speculation), head) for n in (4, 12)] == real


def test_jobs_that_come_to_one_run_are_measured_once_in_the_first_one_s_place():
    jobs = jobs_over(4, 8, 12, kind="ngram-cache")

    (merged,) = merge_duplicate_jobs(jobs, [8, 8, 8])

    assert (merged.num, merged.n_draft, merged.twins) == (jobs[0].num, 8, (jobs[1].num, jobs[2].num))
    assert "twins" not in other_settings(merged)  # no setting that rows are told apart by
    assert list(changed_lengths(jobs, [8, 8, 8])) == [
        "ngram-cache drafts 8 tokens at a time, whatever it is told: n_draft 4, 8, 12 are measured once, as n_draft 8; "
        "give it that n_draft alone"
    ]


def test_without_speculation_n_draft_makes_no_second_run_and_the_first_keeps_its_id():
    plain = Speculation(kinds=())
    jobs = [replace(one, speculation=plain) for one in jobs_over(4, 8)]

    (merged,) = identify(merge_duplicate_jobs(jobs, [4, 8]), {})

    assert merged == replace(identify(jobs[:1], {})[0], twins=(1,))
    assert list(changed_lengths(jobs, [4, 8])) == []  # nobody thinks that it drafts


def test_drafts_that_are_cut_are_told_apart_from_those_of_a_fixed_length():
    jobs = jobs_over(4, 12, kind="draft-dflash")

    assert [one.n_draft for one in merge_duplicate_jobs(jobs, [4, 7])] == [4, 7]
    assert list(changed_lengths(jobs, [4, 7])) == [
        "draft-dflash drafts at most 7 tokens at a time, whatever it is told: n_draft 12 is measured as n_draft 7; "
        "give it that n_draft alone"
    ]


def test_a_value_that_is_repeated_is_still_refused():
    jobs = jobs_over(4, 4)

    with pytest.raises(ConfigError, match="measure the same thing"):
        identify(merge_duplicate_jobs(jobs, [4, 4]), {})


def test_ngram_simple_is_not_left_to_draft_nothing_without_a_word():
    of_three = Speculation(kinds=("ngram-simple",), parameters=(("ngram_simple.size_n", 3),))
    said = list(too_short_to_copy([*jobs_over(4, 11, 12, kind="ngram-simple"), job(n_draft=4, speculation=of_three)]))

    assert [text.partition(":")[0] for text in said] == [
        "ngram-simple never drafts with n_draft 4",
        "ngram-simple never drafts with n_draft 11",
    ]
    assert said[0].endswith("; take n_draft 12 or more, or +speculation.parameters.ngram_simple.size_n=4 or less")
    assert list(too_short_to_copy(jobs_over(4, kind="ngram-map-k"))) == []


@pytest.mark.real
def test_a_model_with_three_heads_drafts_three_tokens_whatever_llama_cpp_is_told(tmp_path: Path) -> None:
    shape = replace(DEFAULT_SHAPE, layers=2, width=64, feed_forward=128, heads=2, kv_heads=1)
    pool = Pool(shape.seed, shape.type, largest=shape.width * max(shape.feed_forward, SMALLEST_VOCABULARY))
    trunk = [one for number in range(shape.layers) for one in heads._normed_block(shape, number, number, pool)]
    three = [one for more in range(3) for one in heads._mtp_block(replace(shape, layers=shape.layers + more), pool)]
    file = heads._hy_v3(shape, "three heads", (*trunk, *three), pool)
    extra = {**file.extra, "nextn_predict_layers": 3}
    write_gguf(replace(file, blocks=shape.layers + 3, extra=extra), shape, tmp_path / "main.gguf")
    kind = Speculation(kinds=("draft-mtp",))
    server = speculative(8, main_model=str(tmp_path / "main.gguf"), draft_model=None, speculation=kind)

    session = EmbeddedEngine().launch(server, lane=CPU, log_path=tmp_path / "log")
    try:
        session.wait_ready(60)
        run = session.generate(request(n_predict=32), timeout_s=60)
    finally:
        session.close()

    head = read_header(tmp_path / "main.gguf").head
    assert head is not None
    assert effective_n_draft(job(n_draft=8, speculation=kind), head) == 3
    assert run.accepted_per_position is not None
    assert len(run.accepted_per_position) == 3
