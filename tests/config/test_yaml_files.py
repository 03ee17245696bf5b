"""YAML files of one's own that are broken: which, in which line, and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from velosweep.cli import main
from velosweep.config.composing import compose, package_conf
from velosweep.config.load import JobLoader
from velosweep.errors import ConfigError


def refused(folder: Path, group: str, content: str | bytes) -> str:
    """What is said of conf/<group>/own.yaml with this content, its path shortened."""
    file = folder / "conf" / group / "own.yaml"
    file.parent.mkdir(parents=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    plus = "+" if group == "experiment" else ""
    with pytest.raises(ConfigError) as caught:
        JobLoader().load(compose([f"{plus}{group}=own"], config_dir=str(folder / "conf")))
    assert caught.value.remedy
    said = str(caught.value)
    return said.replace(str(file.resolve()), "FILE")


@pytest.mark.parametrize("group", ["model_pair", "prompts", "experiment"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "name: p\nfile: /a.txt\n  limit: 3\n",
            "FILE, line 3 is not YAML: mapping values are not allowed here; indent all keys",
        ),
        (
            "name: p\n\tfile: a\n",
            "FILE, line 2 is not YAML: found character '\\t' that cannot start any token; indent with spaces",
        ),
        (
            "name: p\nitems: {a: b\n\n",
            "FILE, line 2 is not YAML: expected ',' or '}', but got '<stream end>'; close the bracket",
        ),
        ("name: {a: b\nlimit: 3\n", "FILE, line 1 is not YAML: expected ',' or '}', but got ':'; close the bracket"),
        (
            "name: p\nitems: [a, b\n",
            "FILE, line 2 is not YAML: expected ',' or ']', but got '<stream end>'; close the bracket",
        ),
        ('name: "p\nfile: a\n', "FILE, line 1 is not YAML: found unexpected end of stream; close the quote"),
        ("name: p\nname: q\n", "FILE, line 2 is not YAML: found duplicate key name; keep one of them"),
        (
            "name: @p\n",
            "FILE, line 1 is not YAML: found character '@' that cannot start any token; put the value in quotes",
        ),
        ("name: *p\n", "FILE, line 1 is not YAML: found undefined alias 'p'; put the value in quotes"),
        ('name: "C:\\models"\n', "FILE, line 1 is not YAML: found unknown escape character 'm'; use single quotes"),
        ("items:\n  - a: b\n   c: d\n", "FILE, line 3 is not YAML: expected <block end>, but found"),
        ("name: p\nfile\nlimit: 3\n", "FILE, line 2 is not YAML: could not find expected ':'; write `key: value`"),
        (b"name: p\nfile: \xff\n", "FILE, line 2 is not UTF-8 text; save the file as UTF-8"),
        ("name: p\nfile: ${oc.env:HOME\n", "FILE, file: a ${ can't be read; close it with }"),
        ("- a\n- b\n", "FILE holds a list instead of keys with values; in it write"),
        ("hello\n", "FILE holds a text instead of keys with values; in it write"),
        ("12\n", "FILE holds a value instead of keys with values; in it write"),
        ("", "FILE is empty; in it write"),
        ("# later\n", "FILE is empty; in it write"),
    ],
)
def test_a_broken_file_is_named_with_its_line_and_the_mistake(
    group: str, content: str | bytes, said: str, tmp_path: Path
) -> None:
    assert said in refused(tmp_path, group, content)


def test_several_values_in_an_experiment_are_told_how_they_are_written(tmp_path: Path) -> None:
    said = refused(tmp_path, "experiment", "# @package _global_\nn_draft: 4,8\n")

    assert said == "FILE, n_draft: '4,8' is not a whole number; write a list in it: `n_draft: [4, 8]`"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("n_drafts: 4\n", "FILE: there is no key 'n_drafts'; did you mean n_draft?"),
        (
            "model_pair:\n  - main_model: a.gguf\n",
            "this is a section of keys, which takes no value; write its keys with",
        ),
        ("engine:\n  context: many\n", "FILE, engine.context: 'many' is not a whole number"),
        ("n_draft: ${oc.env:NOWHERE}\n", "FILE, n_draft: the environment variable NOWHERE is not set; set NOWHERE, or"),
        ("output: ${nothing}.json\n", "FILE, output: ${nothing} refers to a key that does not exist"),
        ("defaults:\n  - override /model_pair: nope\n", "FILE: there is no model_pair=nope; There are: "),
    ],
)
def test_a_wrong_key_or_value_is_told_with_its_file(
    content: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)

    assert said in refused(tmp_path, "experiment", f"# @package _global_\n{content}")


def test_a_defaults_list_that_is_none_is_told_its_form(tmp_path: Path) -> None:
    said = refused(tmp_path, "experiment", "# @package _global_\ndefaults:\n  override /model_pair: synthetic\n")

    assert "`defaults:` in experiment/own.yaml is not a list; write each entry on a line of its own" in said


def test_a_key_without_a_value_is_no_mere_text(tmp_path: Path) -> None:
    file = tmp_path / "conf" / "prompts" / "own.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("file:\n")

    assert compose(["prompts=own"], config_dir=str(tmp_path / "conf")).prompts.file is None


def several(folder: Path, group: str, content: str, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a dry run shows with conf/<group>/own.yaml of this content."""
    file = folder / "conf" / group / "own.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    plus = "+" if group == "experiment" else ""

    assert main([f"{plus}{group}=own", "--config-dir", str(folder / "conf"), "dry_run=true", *words]) == 0
    return capsys.readouterr().out


EXPERIMENT = (
    "# @package _global_\ndefaults:\n  - override /protocol: quick\nn_draft: [2, 4]\nspeculation:\n  p_min: [0.5]\n"
)


def test_a_list_of_values_is_a_sweep_over_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = several(tmp_path, "experiment", EXPERIMENT, capsys)

    assert "2 settings" in shown
    assert "vanilla; n_draft 2; n_draft 4" in shown


@pytest.mark.parametrize(
    "content",
    ["speculation: [draft, ngram-mod]\nprotocol: quick\n",
     "defaults:\n  - override /protocol: quick\n  - override /speculation: [draft, ngram-mod]\n"],
)  # fmt: skip
def test_choices_of_a_group_are_named_as_other_values_are(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = several(tmp_path, "experiment", f"# @package _global_\n{content}", capsys)

    assert "2 settings, 3 servers, 3 loads, 9 runs" in shown
    assert "vanilla; draft model; ngram-mod" in shown


def test_the_command_line_wins_over_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "vanilla; n_draft 7\n" in several(tmp_path, "experiment", EXPERIMENT, capsys, "n_draft=7")


def test_a_groups_file_may_have_a_list_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = "launches: [1, 2]\niterations: 2\n"

    assert "2 settings" in several(tmp_path, "protocol", content, capsys)


TRAP = {"_target_": "velosweep.llama_cpp.process.ask", "argv": ["/usr/bin/touch", "trap"]}
CODE = {
    "named": {"callbacks": {"x": TRAP}},
    "by another key": {"callbacks": {"x": {**TRAP, "_target_": "${hydra.verbose}"}}},
    "by a plugin's import": {"callbacks": {"x": {**TRAP, "_target_": "hydra_plugins.velosweep_plugins.os.system"}}},
    "decoded": {"callbacks": {"x": "${oc.decode:'" + json.dumps(TRAP) + "'}"}},
    "decoded by a name put together": {"callbacks": {"x": "${oc.${hydra.verbose}:'{}'}"}},
    "a library": {"job": {"env_set": {"CUDA_VISIBLE_DEVICES": "0", "LD_PRELOAD": "trap.so"}}},
    "a back end": {"job": {"env_set": {"GGML_BACKEND_PATH": "trap.so"}}},
    "logging": {"job_logging": {"version": 1, "handlers": {"x": {"()": TRAP["_target_"], "argv": ["trap"]}}}},
    "logging of an import": {
        "job_logging": {"version": 1, "handlers": {"x": {"()": "ext://os.mkdir", "path": "trap"}}}
    },
    "logging to a file": {"hydra_logging": {"handlers": {"x": {"class": "logging.FileHandler", "filename": "trap"}}}},
}


def refuses_code(file: Path, content: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.parent.mkdir(parents=True)
    trap = folder / "trap"
    file.write_text("# @package _global_\n" + content.replace("trap", str(trap)), encoding="utf-8")

    assert main(["+experiment=own", "dry_run=true"]) == 2
    assert f"{file} names code to run (" in (said := capsys.readouterr().err)
    assert f"to have it run: --config-dir {file.parents[1]}" in said
    assert not trap.exists()


@pytest.mark.parametrize("place", CODE)
def test_a_conf_of_the_current_folder_calls_nothing(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    refuses_code(tmp_path / "conf/experiment/own.yaml", json.dumps({"hydra": CODE[place]}), tmp_path, capsys)


def test_nor_does_a_folder_that_it_has_hydra_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conf").mkdir()
    primary = (package_conf() / "sweep.yaml").read_text("utf-8")
    further = f"{primary.rstrip()}\n  searchpath: [file://{tmp_path / 'more'}]\n"
    (tmp_path / "conf/sweep.yaml").write_text(further, encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    refuses_code(
        tmp_path / "more/experiment/own.yaml", json.dumps({"hydra": {"callbacks": {"x": TRAP}}}), tmp_path, capsys
    )


@pytest.mark.parametrize(
    "text",
    [
        "${oc.env:HOME,${oc.env:USER,x}} at ${now:%H}",
        r"\${a:b}",
        "a.b",
        "n_draft ${oc.select:n_draft,8}",
        "job ${hydra:job.num}",
    ],
)
def test_texts_that_call_nothing_are_no_code(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "conf/prompts/own.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"items": [text]}), encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    assert main(["prompts=own", "dry_run=true"]) == 0, capsys.readouterr().err
