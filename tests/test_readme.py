"""Every command and example of the README works."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forked import velosweep
from tests.real_models import timings_of
from velosweep.config.settings import SyntheticShape
from velosweep.models.synthetic.pair import write_files

README = Path(__file__).parent.parent / "README.md"
TEXT = README.read_text("utf-8")
DATED = re.compile(r"outputs/\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d")
SMALL = "engine=embedded n_predict=8 iterations=1"  # only the main command is run as long as it is
PAIRS = {"llama-3.1-8b-q4_k_m.gguf": 0, "llama-3.2-1b-q4_k_m.gguf": 1}


def commands(name: str) -> list[str]:
    """The lines of the bash block marked `<!-- command: name -->`."""
    block = re.search(rf"<!-- command: {name} -->\n```bash\n(.*?)```", TEXT, re.S)

    assert block is not None, f"README.md has no block {name}"
    return block.group(1).strip().splitlines()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.S)


def shell(command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a README command with the `velosweep` of this environment; forked where it is nothing but that."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "VELOSWEEP_MODELS": str(cwd),
        "NO_COLOR": "1",
        "VELOSWEEP_LOCK_DIR": str(cwd / "locks"),
    }
    program, *words = shlex.split(command)
    if program == "velosweep" and not set(command) & set("|&;<>$`*?#~"):
        return velosweep(*words, cwd=cwd, env=environment)
    return subprocess.run(command, shell=True, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models under the names that the README uses, and one finished sweep."""
    folder = tmp_path_factory.mktemp("readme")
    pair = folder / "main.gguf", folder / "draft.gguf"
    write_files(SyntheticShape(layers=4, width=256, feed_forward=512, heads=4, kv_heads=2), "draft", pair)
    for name, index in PAIRS.items():
        shutil.copy(pair[index], folder / name)
    (folder / "questions.txt").write_text("Why is the sky blue?\n")
    own = "model_pair.main_model=main.gguf model_pair.draft_model=draft.gguf"
    done = shell(f"velosweep -m n_draft=4,8 iterations=2 n_predict=8 engine=embedded {own}", folder)

    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def finished(folder: Path) -> str:
    return str(max(path.parent for path in (folder / "outputs").glob("*/*/sweep.json")).relative_to(folder))


def test_the_main_command_installs_and_runs_the_main_job() -> None:
    (line,) = commands("main")
    install, run = line.rsplit(" && ", 1)

    assert install == "python -m venv .venv && .venv/bin/pip install -e ."
    assert run == ".venv/bin/velosweep -m n_draft=4,8,12"


@pytest.mark.real
def test_the_main_job_runs_as_written(tmp_path: Path) -> None:
    run = commands("main")[0].rsplit(" && ", 1)[1].removeprefix(".venv/bin/")
    done = shell(f"{run} #", tmp_path)  # the script that is installed

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Iteration 5/5" in done.stdout
    assert len(list(tmp_path.glob("outputs/*/*/*/summary.json"))) == 3
    for command in re.findall(
        r"^ *(llama-server .+)$", done.stdout, re.MULTILINE
    ):  # none where nothing is surely faster
        assert timings_of(command, tmp_path / "log")["draft_n"] > 0


def test_ci_runs_the_test_command_of_the_readme() -> None:
    script = (README.parent / ".ci" / "run").read_text("utf-8")

    assert len(commands("tests")) == 1
    assert "command: tests" in script


@pytest.mark.real
@pytest.mark.parametrize("command", commands("after"))
def test_commands_for_after_a_sweep_work(command: str, workplace: Path) -> None:
    done = shell(DATED.sub(finished(workplace), command), workplace)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.real
@pytest.mark.parametrize("command", commands("own") + commands("groups"))
def test_commands_for_own_models_work(command: str, workplace: Path) -> None:
    if "/path/to/llama.cpp" in command:
        done = shell(command, workplace)

        assert done.returncode == 2  # nobody has it there: the refusal says what to do
        assert "/path/to/llama.cpp" in done.stderr
        return
    few = " prompts.limit=2" if "prompts=" in command else ""
    done = shell(command if "init" in command else f"{command} {SMALL}{few}", workplace)

    assert done.returncode == 0, done.stdout + done.stderr
    if "init" in command:
        assert (workplace / "bench" / "conf").is_dir()
        shutil.rmtree(workplace / "bench")


@pytest.mark.real
def test_the_commands_that_the_readme_begins_with_work(workplace: Path) -> None:
    install, listing, best, preset, serve = (line.partition("#")[0].strip() for line in commands("best"))
    assert install == "python -m venv .venv && .venv/bin/pip install -e . && source .venv/bin/activate"
    assert shell(listing, workplace).returncode == 0
    done = shell(f"{best.replace('10min', '3s')} engine=embedded n_predict=16 prompts.limit=1", workplace)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "draft.gguf" in done.stdout
    assert shell(preset, workplace).returncode == 0
    assert (workplace / "models.ini").read_text().startswith("version = 1")

    refused = shell(serve, workplace)

    assert refused.returncode == 2  # the embedded llama.cpp is no program to start
    assert "velosweep serve --llama-server PATH" in refused.stderr


@pytest.mark.real
@pytest.mark.parametrize("command", commands("tune"))
def test_the_command_that_finds_the_best_works(command: str, workplace: Path) -> None:
    done = shell(f"{command.replace('10min', '3s')} engine=embedded n_predict=16", workplace)

    assert done.returncode == 0, done.stdout + done.stderr
    assert " sure)" in done.stdout or "another setting may be faster" in done.stdout


@pytest.mark.real
@pytest.mark.parametrize("example", blocks("python"), ids=lambda text: text.split()[1])
def test_analysis_examples_run(example: str, workplace: Path) -> None:
    source = DATED.sub(finished(workplace), example)
    done = subprocess.run([sys.executable, "-c", source], cwd=workplace, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


@pytest.mark.real
def test_the_sql_example_runs(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import duckdb

    monkeypatch.chdir(workplace)
    (query,) = blocks("sql")
    rows = duckdb.connect().execute(query).fetchall()

    assert {0, 4, 8} <= {n_draft for _, _, n_draft, _, _ in rows}
    assert all(rate > 0 and runs > 0 for *_, rate, runs in rows)


def test_linked_files_exist() -> None:
    linked = [target for target in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in target]

    assert [target for target in linked if not (README.parent / target).exists()] == []
