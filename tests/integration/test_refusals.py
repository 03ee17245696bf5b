"""What can't be run is refused before anything runs: exit 2, one message with the value and what to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from velosweep import cli
from velosweep.models.synthetic.pair import DEFAULT_SHAPE, ensure_files, model_paths, write_files


@dataclass
class Ended:
    """What a command line came to."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[[list[str]], Ended]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line in this process, in an empty folder; tests/test_cli.py has it in one of its own."""
    for name in ("LLAMA_CPP_PATH", "HYDRA_FULL_ERROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VELOSWEEP_LOCK_DIR", str(tmp_path / "locks"))
    monkeypatch.chdir(tmp_path)

    def ended(arguments: list[str]) -> Ended:
        status = cli.main(arguments)
        return Ended(status, *capsys.readouterr())

    return ended


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good pair, and models that are no good each in its own way."""
    from dataclasses import replace

    folder = tmp_path_factory.mktemp("models")
    main, draft = ensure_files(DEFAULT_SHAPE)
    shutil.copy(main, folder / "main.gguf")
    shutil.copy(draft, folder / "draft.gguf")
    (folder / "cut.gguf").write_bytes(main.read_bytes()[: main.stat().st_size // 2])
    (folder / "junk.gguf").write_bytes(b"no model at all" * 100)
    (folder / "empty.gguf").touch()
    (folder / "folder.gguf").mkdir()
    other = replace(DEFAULT_SHAPE, layers=2, vocabulary=1024)
    paths = model_paths(other, folder, "draft")
    write_files(other, "draft", paths)
    paths[1].rename(folder / "unfit.gguf")
    return folder


@pytest.mark.parametrize("command", [["doctor"], ["dry_run=true"]], ids=["doctor", "plan"])
def test_a_pair_whose_models_are_exchanged_is_doubted(command: list[str], models: Path, run: Run) -> None:
    pair = [f"model_pair.main_model={models}/draft.gguf", f"model_pair.draft_model={models}/main.gguf"]

    done = run([*command, *pair])

    assert done.returncode == 0, done.stdout + done.stderr
    assert "The draft model main.gguf is no smaller than the main model draft.gguf" in done.stdout


@pytest.mark.parametrize("command", [["doctor"], ["dry_run=true"]], ids=["doctor", "plan"])
def test_more_threads_than_cores_are_doubted(command: list[str], run: Run) -> None:
    threads = (os.cpu_count() or 1) + 1

    done = run([*command, "engine=embedded", f"engine.threads={threads}"])

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"engine.threads is {threads}, and" in " ".join(done.stdout.split())


def test_a_draft_longer_than_a_run_is_doubted(run: Run) -> None:
    done = run(["-m", "n_draft=48,49,50", "n_predict=50", "dry_run=true"])

    assert done.returncode == 0, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    assert "n_draft 50 is longer than a run of n_predict 50 has room for" in said
    assert "n_draft 49 is longer" in said
    assert "so it measures what n_draft 48 would" in said
    assert "n_draft 48 is" not in said


def test_this_machines_cores_say_nothing_of_the_workers(run: Run) -> None:
    remote = ["-m", "n_draft=4", "hydra/launcher=dask", "engine=embedded", "dry_run=true"]

    done = run([*remote, "engine.threads=99999"])

    assert done.returncode == 0, done.stdout + done.stderr
    assert "engine.threads" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["n_drafts=4"], ["n_drafts", "n_draft"]),
        (["n_draft=0"], ["n_draft", "0"]),
        (["n_draft=many"], ["n_draft", "many"]),
        (["iterations=0"], ["iterations", "0"]),
        (["n_predict=-5"], ["n_predict", "-5"]),
        (["n_draft=4,8"], ["-m"]),
        (["-m", "n_draft=4,4"], ["n_draft=4", "alike"]),
        (["llama_cpp.path=/nowhere"], ["/nowhere", "llama_cpp.path"]),
        (["model_pair.main_model=MODELS/none.gguf", "model_pair.draft_model=MODELS/draft.gguf"], ["none.gguf"]),
        (
            ["model_pair.main_model=MODELS/cut.gguf", "model_pair.draft_model=MODELS/draft.gguf"],
            ["cut.gguf", "cut short"],
        ),
        (["model_pair.main_model=MODELS/junk.gguf", "model_pair.draft_model=MODELS/draft.gguf"], ["junk.gguf", "GGUF"]),
        (["model_pair.main_model=MODELS/empty.gguf", "model_pair.draft_model=MODELS/draft.gguf"], ["empty.gguf"]),
        (["model_pair.main_model=MODELS/folder.gguf", "model_pair.draft_model=MODELS/draft.gguf"], ["folder.gguf"]),
        (
            ["model_pair.main_model=MODELS/main.gguf", "model_pair.draft_model=MODELS/unfit.gguf"],
            ["unfit.gguf", "vocabular"],
        ),
        (["model_pair=llama9b"], ["llama9b", "llama8b_1b"]),
        (["output=/proc/none/all.json"], ["/proc/none"]),
        (["hydra.run.dir=/proc/none"], ["/proc/none"]),
        (["engine.kind=magic"], ["magic", "embedded"]),
        (["model_pair.main_model=MODELS/a.gguf", "model_pair.draft_model=MODELS/b.gguf"], ["a.gguf", "b.gguf"]),
        (["model_pair.main_model=nope.gguf", "n_draft=8"], ["nope.gguf", "model_pair.draft_model has no value"]),
        (["engine.threads=99999", "engine=embedded"], ["engine.threads is 99999", "leave it out"]),
        (["engine.threads_batch=99999", "dry_run=true"], ["engine.threads_batch is 99999"]),
        (["engine.args=[--mlock]", "engine=embedded"], ["--mlock", "engine=server"]),
        (["gpus=[7]", "engine=embedded"], ["7"]),
        (["speculation=ngram-bod"], ["ngram-bod", "ngram-mod"]),
        (["prompts.file=none.jsonl"], ["none.jsonl"]),
        (["sweep"], ["sweep"]),
    ],
    ids=lambda value: " ".join(value).replace("/", "_") if isinstance(value, list) else None,
)
def test_it_is_refused_with_one_clear_message(
    arguments: list[str], said: list[str], models: Path, run: Run, tmp_path: Path
) -> None:
    done = run([argument.replace("MODELS", str(models)) for argument in arguments])

    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for word in said:
        assert word in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 4
    assert not list(tmp_path.rglob("*.parquet"))
