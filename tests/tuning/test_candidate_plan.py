"""What `velosweep best` searches, cut to the time there is."""

from __future__ import annotations

from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser

from tests.models.model_files import write_model
from velosweep.models.candidates import Candidate
from velosweep.models.found_models import FoundModel
from velosweep.models.model_checks import check_model
from velosweep.models.model_stores import StoredFile
from velosweep.tuning.candidate_plan import RunCost, plan_candidates

COST = RunCost(main_model_bytes=10**8, prompts=2, tokens=100, on_gpu=False)


def candidates(folder: Path) -> list[Candidate]:
    path = write_model(folder / "a draft, small.gguf")
    file = StoredFile(path=path, name=path.name, store="here")
    draft = FoundModel(file=file, header=check_model(path, key="draft"))
    return [
        Candidate(kind="draft-mtp", longest=3),
        Candidate(kind="draft", draft=draft, ratio=0.1),
        Candidate(kind="ngram-simple"),
    ]


def test_without_a_limit_everything_is_searched_with_and_without_p_min(tmp_path: Path) -> None:
    plan = plan_candidates(candidates(tmp_path), COST, None)

    assert [(family.candidate.kind, family.p_min) for family in plan.families] == [
        ("draft-mtp", 0.0),
        ("draft", 0.0),
        ("ngram-simple", None),
        ("draft-mtp", 0.6),
        ("draft", 0.6),
    ]
    assert plan.families[0].lengths == (1, 2, 3)
    assert plan.left_out == ()


def test_the_least_promising_is_left_out_first_and_what_needs_no_file_stays(tmp_path: Path) -> None:
    whole = plan_candidates(candidates(tmp_path), COST, None)
    some = plan_candidates(candidates(tmp_path), COST, COST.seconds(whole.families[:3]))
    one = plan_candidates(candidates(tmp_path), COST, 0.1)

    assert some.families == whole.families[:3]
    assert some.left_out == whole.families[3:]
    assert some.seconds <= COST.seconds(whole.families[:3]) < whole.seconds
    assert one.families == (whole.families[0], whole.families[2])


def test_its_grids_are_read_by_hydra_as_they_were_meant(tmp_path: Path) -> None:
    plan = plan_candidates(candidates(tmp_path), COST, None)
    parser = OverridesParser.create()

    grids = parser.parse_override(f"hydra.sweeper.grids={plan.grids}").value()

    drafts = {line.key_or_group: line for line in parser.parse_overrides(grids[1])}
    assert drafts["model_pair.draft_model"].value() == str(tmp_path / "a draft, small.gguf")
    assert list(drafts["n_draft"].sweep_iterator()) == [1, 2, 3, 4, 5, 6, 8, 10, 12, 16]
    assert grids[2] == ["speculation=ngram-simple", "n_draft=32"]
