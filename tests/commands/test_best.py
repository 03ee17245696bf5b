"""`velosweep best`: from a model's name to a search over everything that fits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.llama_cpp import standin
from tests.models.model_files import OTHERS, write_eagle3, write_model
from tests.recorded import Recorded, recorded  # noqa: F401


@pytest.fixture
def place(recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """A folder with a main model, a draft, an EAGLE-3 head and two unfit models, and stores with a draft each."""
    for name in ("HF_HOME", "HF_HUB_CACHE", "LLAMA_CACHE", "OLLAMA_MODELS", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", "/nowhere")
    models, home = tmp_path / "models", tmp_path / "home"
    write_model(models / "main.gguf", rows=4000)
    write_model(models / "draft.gguf", rows=400)
    write_eagle3(models / "head.gguf")
    write_model(models / "stranger.gguf", rows=300, texts=OTHERS)
    write_model(models / "larger.gguf", rows=9000)
    write_model(home / ".cache/llama.cpp/owner_repo_small.gguf", rows=401)
    write_model(home / ".cache/huggingface/hub/models--o--r/snapshots/c0/hub.gguf", rows=402)
    write_model(home / ".lmstudio/models/publisher/model/studio.gguf", rows=403)
    write_model(home / ".ollama/models/blobs/sha256-1", rows=404)
    manifest = home / ".ollama/models/manifests/registry.ollama.ai/library/llama3.2/1b"
    manifest.parent.mkdir(parents=True)
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:1"}
    manifest.write_text(json.dumps({"layers": [layer]}))
    return models


def test_everything_that_fits_is_searched_and_no_more(
    recorded: Recorded,  # noqa: F811
    place: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert recorded.main(["best", str(place / "main.gguf"), "--budget", "2h", "engine.context=512"]) == 0

    (call,) = recorded.calls
    assert call["settings"].tuner.budget_s == 7200
    assert list(call["command"][:2]) == ["velosweep", "best"]
    drafts = {(job.speculation.kinds[0], Path(job.model_pair.draft_model or "").name) for job in call["jobs"]}
    files = {"draft.gguf", "owner_repo_small.gguf", "hub.gguf", "studio.gguf", "sha256-1"}
    assert {name for kind, name in drafts if kind == "draft"} == files
    assert ("draft-eagle3", "head.gguf") in drafts
    assert ("ngram-simple", "") in drafts
    assert {job.engine.context for job in call["jobs"]} == {512}
    assert {job.model_pair.name for job in call["jobs"]} == {"main"}
    assert {(job.model_pair.main_model, job.prompts.name) for job in call["jobs"]} == {
        (str(place / "main.gguf"), "mixed")
    }
    said = capsys.readouterr().out
    assert "llama3.2:1b" in said
    assert "stranger.gguf (token 5 is 'token5' in one and 'other5' in the other)" in said


def test_a_build_that_knows_draft_models_alone_is_searched_with_these(
    recorded: Recorded,  # noqa: F811
    place: Path,
    tmp_path: Path,
) -> None:
    old = standin.write(tmp_path / "old", "2025-08")

    assert recorded.main(["best", str(place / "main.gguf"), "--llama-server", str(old), "--budget", "2h"]) == 0
    assert {job.speculation.kinds for job in recorded.jobs} == {("draft",)}


def test_the_plan_is_cut_to_the_budget_and_says_what_there_is_no_time_for(
    recorded: Recorded,  # noqa: F811
    place: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert recorded.main(["best", str(place / "main.gguf"), "--budget", "5s", "-p", "Why?"]) == 0

    drafting = [(job.speculation.kinds[0], job.n_draft) for job in recorded.jobs if job.model_pair.draft_model]
    assert drafting == [("draft", 2), ("draft", 4), ("draft", 8)]
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "No time for" in line)
    assert line.strip().startswith("No time for draft-eagle3 head.gguf, draft owner_repo_small.gguf, draft o/r/hub")
    assert "and 3 more:" in line  # of what is left out p_min is, too


def test_where_fewer_draft_lengths_leave_time_for_another_file_they_are_fewer(
    recorded: Recorded,  # noqa: F811
    place: Path,
) -> None:
    assert recorded.main(["best", str(place / "main.gguf"), "--budget", "20s", "-p", "Why?"]) == 0

    drafting = [job for job in recorded.jobs if job.model_pair.draft_model]
    assert sorted({job.n_draft for job in drafting}) == [2, 4, 8]
    assert {job.speculation.kinds[0] for job in drafting} == {"draft", "draft-eagle3"}


def test_without_a_model_it_lists_those_there_are_and_what_fits(
    recorded: Recorded,  # noqa: F811
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    lone = [f"lone{text}" for text in OTHERS]
    write_model(place / "lone.gguf", rows=9500, texts=lone, **{"llama.embedding_length": 96})
    assert recorded.main(["best", "--models", str(place)]) == 0

    said = capsys.readouterr().out
    (line,) = (line for line in said.splitlines() if line.startswith("main.gguf"))
    assert "head.gguf" in line
    assert f"velosweep best {place / 'larger.gguf'}" in said  # the largest that something fits
    assert all(name in said for name in ("llama3.2:1b", "publisher/model/studio.gguf", "o/r/hub.gguf", "10 models"))
    assert recorded.calls == []


def test_a_model_may_be_called_by_its_name_in_a_store(recorded: Recorded, place: Path) -> None:  # noqa: F811
    write_model(Path.home() / ".ollama/models/blobs/sha256-1", rows=5000)

    assert recorded.main(["best", "llama3.2:1b", "-q"]) == 0
    assert recorded.main(["best", "studio", "-q"]) == 0

    mains = [Path(call["jobs"][0].model_pair.main_model).name for call in recorded.calls]
    assert mains == ["sha256-1", "studio.gguf"]


def test_of_a_folder_the_largest_model_is_searched_with_the_others(
    recorded: Recorded,  # noqa: F811
    place: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (place / "inner").mkdir()
    (place / "larger.gguf").rename(place / "inner" / "larger.gguf")

    assert recorded.main(["best", str(place), "--budget", "2h"]) == 0

    assert {job.model_pair.main_model for job in recorded.jobs} == {str(place / "inner" / "larger.gguf")}
    assert str(place / "draft.gguf") in {job.model_pair.draft_model for job in recorded.jobs}
    assert f"Of the models in {place} the largest: {place}/inner/larger.gguf" in capsys.readouterr().out


def test_a_folder_without_a_model_is_refused(
    recorded: Recorded,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "none").mkdir()

    assert recorded.main(["best", str(tmp_path / "none")]) == 2
    assert f"There is no GGUF model in {tmp_path}/none\n" in capsys.readouterr().err


def test_prompts_are_chosen_by_what_it_is_for(recorded: Recorded, place: Path) -> None:  # noqa: F811
    words = ["--for", "code, chat,edit", "--budget", "5s", "-q"]  # however little time there is
    assert recorded.main(["best", str(place / "main.gguf"), *words]) == 0

    categories = {prompt.category for prompt in recorded.jobs[0].prompts.prompts}
    assert categories == {"code", "explanation", "writing", "editing"}


def test_a_models_chat_template_is_used_where_it_has_one_unless_told_otherwise(recorded: Recorded, place: Path) -> None:  # noqa: F811
    assert recorded.main(["best", str(place / "main.gguf"), "-q"]) == 0
    assert recorded.main(["best", str(place / "main.gguf"), "-q", "prompts.chat=false"]) == 0

    assert [call["jobs"][0].prompts.chat for call in recorded.calls] == [None, False]


def test_streams_and_depths_are_searched_each_and_share_the_budget(recorded: Recorded, place: Path) -> None:  # noqa: F811
    words = ["--streams", "1,4", "--depth", "512", "--budget", "20min"]

    assert recorded.main(["best", str(place / "main.gguf"), *words, "-q"]) == 0

    assert {(job.concurrency, job.depth) for job in recorded.jobs} == {(1, 512), (4, 512)}
    assert recorded.calls[0]["settings"].tuner.budget_s == 600


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing.gguf"], "No model at"),
        (["mian.gguf"], "main.gguf? velosweep best lists"),
        (["main.gguf", "-c", "0", "-q"], "engine.context is 0"),
        (["--models", "nowhere"], "no folder nowhere"),
        (["main.gguf", "--draft-max", "16"], "velosweep best --help lists its flags"),
        (["main.gguf", "draft.gguf"], "velosweep run --main main.gguf --draft draft.gguf"),
        (["main.gguf", "-n", "x"], "several are --n-predict A,B or --n-predict START-STOP"),
        (["main.gguf", "--streams", "0", "-q"], "--streams is 0"),
        (["main.gguf", "--for", "singing"], "choose from code, chat, edit, reason"),
        (["main.gguf", "--for", "code", "-p", "Hi"], "--for chooses among prompts, and --prompt gives one"),
        (["main.gguf", "--for", "code", "--prompts", "plain.txt", "-q"], "none of its prompts has a category: leave"),
        (["main.gguf", "--budget", "soon"], "--budget is 'soon'"),
    ],
)
def test_mistakes_are_told(
    words: list[str],
    said: str,
    recorded: Recorded,  # noqa: F811
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    (place / "plain.txt").write_text("Why?\n")

    assert recorded.main(["best", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_search_that_needs_more_than_its_budget_says_so_in_the_plan(
    recorded: Recorded,  # noqa: F811
    place: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert recorded.main(["best", str(place / "main.gguf"), "--budget", "1s"]) == 0
    assert "of which the budget allows 1 s" in capsys.readouterr().out

    assert recorded.main(["best", str(place / "main.gguf"), "--budget", "2h"]) == 0
    assert "2 h 00 min at most" in capsys.readouterr().out


def test_a_flag_and_a_key_that_contradict_each_other_are_refused(
    recorded: Recorded,  # noqa: F811
    place: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert recorded.main(["best", str(place / "main.gguf"), "-n", "50", "n_predict=60"]) == 2

    assert "n_predict is given twice, as 50 and as 60" in capsys.readouterr().err
