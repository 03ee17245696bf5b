"""The command line: commands, help, version, and words for every mistake."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.recorded import Recorded, recorded  # noqa: F401
from velosweep import __version__
from velosweep.cli import COMMANDS, main
from velosweep.config.schema import KEYS
from velosweep.config.settings import Adaptive, EngineSettings, SyntheticShape


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "velosweep", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("moment", ["atexit.register(send)", "sys.last = type('Last', (), {'__del__': send})()"])
def test_a_signal_that_comes_as_python_ends_changes_nothing(number: signal.Signals, moment: str) -> None:
    code = (
        "import atexit, os, sys; from velosweep.cli import main;"
        f"send = lambda *_, kill=os.kill, own=os.getpid(): kill(own, {int(number)}); {moment};"
        "sys.argv = ['velosweep', '--version']; sys.exit(main())"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, f"velosweep {__version__}\n", "")


def test_a_plan_leaves_no_folder_also_without_hydras_own(tmp_path: Path) -> None:
    done = run("hydra.output_subdir=null", "dry_run=true", cwd=tmp_path)

    assert (done.returncode, list(tmp_path.iterdir())) == (0, []), done.stderr


def test_the_version_is_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0

    assert capsys.readouterr().out == f"velosweep {__version__}\n"


@pytest.mark.parametrize(
    ("command_lines", "left_out"),
    [
        ([["--version"], ["--help"]], ["hydra", "omegaconf", "pyarrow", "numpy", "scipy", "gguf", "xllamacpp"]),
        ([["n_drafts=3"], ["--cfg", "job"]], ["pyarrow", "numpy", "scipy", "jinja2", "rich", "xllamacpp"]),
    ],
    ids=["version and help", "a refusal and the configuration"],
)
def test_nothing_heavy_is_imported_that_is_not_needed(command_lines: list[list[str]], left_out: list[str]) -> None:
    code = (
        f"import sys; from velosweep.cli import main; [main(words) for words in {command_lines}];"
        f"heavy = set({left_out}) & set(sys.modules); assert not heavy, heavy"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [["-m", "n_draft=2,4", "--help"], ["n_draft=2", "-h"], ["-m", "--version"]])
def test_help_and_the_version_are_told_wherever_asked_for_and_nothing_is_measured(
    recorded: Recorded,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:
    assert recorded.main(words) == 0

    assert capsys.readouterr().out.startswith("velosweep")
    assert recorded.calls == []


def test_help_names_every_verb_group_and_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0

    page = capsys.readouterr().out
    for word in (*COMMANDS, "llama8b_1b", "ndraft_grid", "n_draft", "protocol.adaptive.target", "--hydra-help"):
        assert word in page


def test_help_gives_each_key_its_type_and_default_within_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0

    page = capsys.readouterr().out
    told = dict(re.findall(r"^  ([\w.]+=\S*)\s+(\w+): ", page, re.MULTILINE))
    assert told[f"engine.context={EngineSettings().context}"] == "int"
    assert told[f"model_pair.synthetic.feed_forward={SyntheticShape().feed_forward}"] == "int"
    assert told[f"protocol.adaptive.target={Adaptive().target}"] == "number"
    assert (told["speculation.kinds=[draft]"], told["speculation.parameters={}"]) == ("list", "map")
    assert (told["prompts.categories=null"], told["engine.mmap=true"]) == ("list", "bool")
    assert [name for name, kind in told.items() if kind == "any"] == ["prompts.chat=false", "gpus=null"]
    assert {name for name, key in KEYS.items() if key.type_word} == {name.partition("=")[0] for name in told}
    assert max(map(len, page.splitlines())) <= 80


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("verb", COMMANDS)
def test_each_command_shows_its_own_help(verb: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main([verb, flag])
    except SystemExit as left:  # argparse's way
        status = int(left.code or 0)

    assert status == 0
    assert f"usage: velosweep {verb} " in capsys.readouterr().out


@pytest.mark.parametrize("group", ["hydra/launcher", "hydra/sweeper"])
def test_help_names_the_choices_that_hydra_has(
    recorded: Recorded,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    group: str,
) -> None:
    assert recorded.main(["-m", f"{group}=nothing-like-it"]) == 2
    there = set(capsys.readouterr().err.partition("There are: ")[2].strip().split(", "))
    recorded.main(["--help"])

    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith(f"  {group} "))
    assert set(line.removeprefix(f"  {group} ").strip().split(", ")) == there


def test_the_configuration_can_be_shown(recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    assert recorded.main(["--cfg", "job", "n_draft=5"]) == 0

    assert "\nn_draft: 5\n" in capsys.readouterr().out
    assert recorded.calls == []


@pytest.mark.parametrize(("flag", "said"), [("-v", "verbose: true"), ("--quiet", "quiet: true")])
def test_how_much_is_said_has_the_commands_flags(
    flag: str,
    said: str,
    recorded: Recorded,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert recorded.main(["--cfg", "job", "n_draft=5", flag]) == 0

    assert f"\n  {said}\n" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--cfg", "job", "-p", "sampling"], ["--info", "searchpath"], ["-i", "searchpath"]])
def test_hydras_own_flags_are_left_to_it(words: list[str], tmp_path: Path) -> None:
    done = run(*words, cwd=tmp_path)  # by itself: --info leaves Hydra's logging behind

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["doctr"], "did you mean: velosweep doctor?"),
        (["bset", "main.gguf"], "did you mean: velosweep best?"),
        (["best", "--main", "main.gguf"], "the model needs no flag: velosweep best MODEL.gguf"),
        (["best", "main.gguf", "--budget", "10", "min"], "write the time as one word, such as 10min"),
        (["n_draft=3", "resume"], "must be the first word"),
        (["--n-draft", "4"], "write: velosweep run --n-draft 4\n"),
        (["-d", "x.gguf"], "write: velosweep run -d x.gguf\n"),
        (["-p", "hello", "iterations=1"], "write: velosweep run -p hello iterations=1\n"),
        (["-i", "3", "n_draft=4"], "write: velosweep run -i 3 n_draft=4\n"),
        (["-m", "main.gguf", "-md", "draft.gguf"], "write: velosweep run -m main.gguf -md draft.gguf\n"),
        (["main.gguf", "draft.gguf"], "write: velosweep run --main main.gguf --draft DRAFT.gguf (or "),
        (["--jinja"], "settings are written key=value"),
        (["n_draft=", "4"], "The space is the mistake in 'n_draft= 4'\n  write it without: n_draft=4\n"),
        (["-m", "n_draft", "=", "4,8"], "write it without: n_draft=4,8\n"),
        (["n_draft", "=4"], "write it without: n_draft=4\n"),
        (["hydra/sweeper=tune", "n_draft=range(1,9)"], "add -m: velosweep -m hydra/sweeper=tune 'n_draft=range(1,9)'"),
        (["tuner.budget=soon"], "write a time and its unit: 90s, 10min or 2h"),
        (["-m", "hydra/sweeper=tune", "n_draft=4,8", "tuner.budget=5"], "tuner.budget is '5'"),
        (["--experimental-rerun", "x"], "velosweep rerun DIR"),
        (["--resolve"], "--resolve is for --cfg"),
        (["--package", "engine"], "--package is for --cfg"),
        (["--info", "nothing"], "argument --info/-i: invalid choice: 'nothing'"),
        (["-m", "--cfg", "job"], "exclude each other"),
        (["--cfg", "nothing"], "can't be read"),
        (["--config-dir", "nowhere"], "nowhere"),
        (["prompt=Hello", "world"], "'world' is neither"),
        (["prompt=Hello", "big", "world", "n_draft=4"], "quote it: 'prompt=Hello big world'\n"),
        (["model_pair.main_model=my", "models/main.gguf"], "quote it: 'model_pair.main_model=my models/main.gguf'"),
        (["model_pair.main_model=a.gguf", "b.gguf"], "the draft model as model_pair.draft_model="),
        (["n_draft = 4"], "write it as n_draft=4\n"),
        (["n_draft==4"], "write it as n_draft=4\n"),
        (["n_draft@=4"], "write it as n_draft=4\n"),
        (["-m", "n_draft@lane=4,8"], "write it as n_draft=4,8\n"),
        (["N_DRAFT=4"], "did you mean n_draft?"),
        (["dry_run"], "write dry_run=true"),
        (["bench", "n_draft=4", "prompt=a b"], "leave the word out: velosweep n_draft=4 'prompt=a b'\n"),
        (["-m", "bench", "n_draft=4,8"], "leave the word out: velosweep -m n_draft=4,8\n"),
        (["-m", "bench", "+experiment=mine"], "leave the word out: velosweep -m +experiment=mine\n"),
        (["bench", "n_draft=range(1,9)"], "leave the word out: velosweep -m 'n_draft=range(1,9)'\n"),
        (["bench", "prompt=a,b"], "leave the word out: velosweep prompt=a,b\n"),
        (["sweep", "n_draft=4"], "a sweep is: velosweep -m n_draft=4\n"),
        (["sweep"], "a sweep is: velosweep -m n_draft=4,8,12\n"),
        (["n_draft=range(1,9)"], "velosweep -m 'n_draft=range(1,9)'"),
        (["n_draft=choice(1,2)", "n_draft=3"], "velosweep -m 'n_draft=choice(1,2),3'"),
        (["prompt=hi", "prompts.file=q.txt"], "one would be ignored"),
        (["prompts.file=p.csv"], "write it as .txt (a prompt a line), .jsonl, .json or .yaml"),
        (["tune", "-m", "n_draft=4,8"], "-m hydra/sweeper=tune"),
        (["-m", "sweep", "n_draft=4,8"], "a sweep is: velosweep -m"),
        (["doctor", "-z"], "can't read '-z'"),
        (["-m", "n_draft=4..8"], "-m 'n_draft=range(4,9)'"),
        (["-m", "n_draft=[4,8]"], "-m n_draft=4,8"),
        (["engine.args=--foo"], "write a list: 'engine.args=[--foo]'"),
        (["+model_pair.colour=red"], "model_pair has name, main_model"),
        (["model_pair=conf/model_pair/llama8b_1b.yaml"], "did you mean model_pair=llama8b_1b?"),
        (["gpus=0,1"], "gpus=[0,1]"),
        (["report", "x", "--format", "md", "--format", "csv"], "--format is given twice, as md and as csv"),
        (["-m", "n_draft=4", "n_draft=8"], "-m n_draft=4,8"),
        (["doctor", "engine=server", "engine=embedded"], "engine is given twice"),
        (["rerun", "some/sweep", "iterations=2", "iterations=3"], "iterations is given twice"),
        (["rerun", "some/sweep", "hydra.sweep.dir=x"], "name the new folder with --out"),
    ],
)
def test_a_mistake_gets_one_message_with_a_remedy(
    recorded: Recorded,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    named: str,
) -> None:
    assert recorded.main(arguments) == 2

    said = capsys.readouterr()
    assert named in said.err
    assert len(said.err.splitlines()) == 2
    assert said.out == ""


def test_a_traceback_comes_only_when_asked_for(
    recorded: Recorded,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorded.main(["n_drafts=3"])
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    recorded.main(["n_drafts=3"])
    assert "Traceback" in capsys.readouterr().err


def test_mistakes_exit_with_2_as_a_process(tmp_path: Path) -> None:
    done = run("n_drafts=3", cwd=tmp_path)

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "velosweep: There is no key 'n_drafts'\n  did you mean n_draft?\n"


def test_completion_can_be_installed(tmp_path: Path) -> None:
    assert "hydra_bash_completion" in run("-sc", "install=bash", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("velosweep model_pair=llama8", "model_pair=llama8b_1b"),
        ("velosweep n_dr", "n_draft="),
        ("velosweep -m protocol=q", "protocol=quick"),
        ("velosweep doc", "doctor"),
        ("velosweep resume ", ""),
    ],
)
def test_completion_offers_groups_keys_and_verbs(
    line: str, offered: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))

    assert main(["-sc", "query=bash"]) == 0

    assert capsys.readouterr().out.split() == ([offered] if offered else [])
