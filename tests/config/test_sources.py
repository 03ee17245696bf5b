"""YAML files of one's own that are broken: which, in which line, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from velosweep.config.composing import compose
from velosweep.errors import ConfigError

# Words of the parsers' own, which no message may show.
THEIRS = ("while parsing", "while scanning", "block mapping", "<block end>", "expected", "no viable", "Merge error")


def refused(folder: Path, group: str, content: str | bytes) -> str:
    """What is said of conf/<group>/own.yaml with this content, its path shortened."""
    file = folder / "conf" / group / "own.yaml"
    file.parent.mkdir(parents=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    plus = "+" if group == "experiment" else ""
    with pytest.raises(ConfigError) as caught:
        compose([f"{plus}{group}=own"], config_dir=str(folder / "conf"))
    assert caught.value.remedy
    said = str(caught.value)
    assert not any(word in said for word in THEIRS), said
    return said.replace(str(file.resolve()), "FILE")


@pytest.mark.parametrize("group", ["model_pair", "prompts", "experiment"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name: p\nfile: /a.txt\n  limit: 3\n", "FILE, line 3 is not YAML: a colon where none can be"),
        ("name: p\n\tfile: a\n", "FILE, line 2 is not YAML: a tab, where YAML wants spaces; indent with spaces"),
        ("name: p\nitems: {a: b\n\n", "FILE, line 2 is not YAML: a bracket is never closed: } is missing; close it"),
        ("name: {a: b\nlimit: 3\n", "FILE, line 1 is not YAML: in the brackets that open here a comma or } is missing"),
        ("name: p\nitems: [a, b\n", "FILE, line 2 is not YAML: a bracket is never closed: ] is missing; close it"),
        ('name: "p\nfile: a\n', "FILE, line 1 is not YAML: a quote is never closed; close it"),
        ("name: p\nname: q\n", "FILE, line 2 is not YAML: the key name stands twice; leave one of them"),
        ("name: @p\n", "FILE, line 1 is not YAML: a value can't start with @; put the value in quotes"),
        ("name: *p\n", "FILE, line 1 is not YAML: a value can't start with *; put the value in quotes"),
        ('name: "C:\\models"\n', "FILE, line 1 is not YAML: a backslash before m in double quotes; use single quotes"),
        ("items:\n  - a: b\n   c: d\n", "FILE, line 3 is not YAML: something follows the end of a value, or a line is"),
        ("name: p\nfile\nlimit: 3\n", "FILE, line 2 is not YAML: this is no key: value; write `key: value`"),
        (b"name: p\nfile: \xff\n", "FILE, line 2 is not UTF-8 text; save the file as UTF-8"),
        ("name: p\nfile: ${oc.env:HOME\n", "FILE, file: a ${ can't be read; close it with }"),
        ("- a\n- b\n", "FILE holds a list, and no keys with values; in it write"),
        ("hello\n", "FILE holds a mere text, and no keys with values; in it write"),
        ("12\n", "FILE holds a mere value, and no keys with values; in it write"),
        ("", "FILE is empty; in it write"),
        ("# later\n", "FILE is empty; in it write"),
    ],
)
def test_a_broken_file_is_named_with_its_line_and_the_mistake(
    group: str, content: str | bytes, said: str, tmp_path: Path
) -> None:
    assert said in refused(tmp_path, group, content)


def test_several_values_in_an_experiment_are_told_their_place(tmp_path: Path) -> None:
    said = refused(tmp_path, "experiment", "# @package _global_\nn_draft: 4,8\n")

    assert "several values belong below hydra.sweeper.params" in said
    assert "-m n_draft=4,8" in said


def test_a_defaults_list_that_is_none_is_told_its_form(tmp_path: Path) -> None:
    said = refused(tmp_path, "experiment", "# @package _global_\ndefaults:\n  override /model_pair: synthetic\n")

    assert "below `defaults:` in experiment/own.yaml is no list; write each on a line of its own behind a dash" in said


def test_a_key_without_a_value_is_no_mere_text(tmp_path: Path) -> None:
    file = tmp_path / "conf" / "prompts" / "own.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("file:\n")

    assert compose(["prompts=own"], config_dir=str(tmp_path / "conf")).prompts.file is None
