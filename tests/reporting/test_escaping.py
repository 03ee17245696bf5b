from __future__ import annotations

import csv
import io
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velosweep.reporting import escaping
from velosweep.reporting.escaping import (
    clip,
    csv_text,
    json_for_script,
    look_alikes,
    markdown_text,
    shorten_homes,
    terminal_text,
)


@given(st.text())
def test_nothing_a_terminal_obeys_is_left(text: str) -> None:
    shown = terminal_text(text)

    assert not [char for char in shown if unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"}]
    assert "\u202e" not in shown


def test_an_escape_sequence_is_shown_as_text() -> None:
    assert terminal_text("a\x1b[2Jb\x9bc\nd") == "a\\x1b[2Jb\\x9bc⏎d"


@given(st.recursive(st.text() | st.integers() | st.none(), lambda inner: st.lists(inner), max_leaves=5))
def test_json_in_a_script_survives_and_can_not_end_it(value: object) -> None:
    text = json_for_script(value)

    assert json.loads(text) == value
    assert not set("<>&\u2028\u2029") & set(text)


@given(st.text())
def test_a_markdown_cell_stays_one_cell_and_holds_no_tag(text: str) -> None:
    cell = markdown_text(text)

    assert "\n" not in cell
    assert "<" not in cell.replace("\\<", "")
    assert "|" not in cell.replace("\\|", "")


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1", "-1+cmd", "@SUM(A1)", "\t=1"])
def test_a_spreadsheet_formula_becomes_text(text: str) -> None:
    out = io.StringIO()
    csv.writer(out).writerow([csv_text(text)])

    assert out.getvalue().lstrip('"').startswith("'")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/home/ada/models/x.gguf", "~/models/x.gguf"),
        ("/Users/ada l/x.gguf", "~ l/x.gguf"),
        ("C:\\Users\\ada\\x.gguf", "~\\x.gguf"),
        ("/root/x.gguf", "~/x.gguf"),
        ("/rooted/x.gguf", "/rooted/x.gguf"),
        ("server -m '/home/ada/my models/x.gguf' -md /home/ada/y", "server -m ~/'my models/x.gguf' -md ~/y"),
        ("-m '/home/ada/a(1).gguf'", "-m ~/'a(1).gguf'"),
        ("-m &#39;/home/ada/a b.gguf&#39;", "-m ~/&#39;a b.gguf&#39;"),
        ("'model_pair.main_model=/home/ada/a b.gguf'", "'model_pair.main_model=~/a b.gguf'"),
        ("No model at '/home/ada/x.gguf'", "No model at '~/x.gguf'"),
        ("velosweep llama_cpp.path=/home/ada/llama.cpp", "velosweep llama_cpp.path=~/llama.cpp"),
    ],
)
def test_homes_are_shortened(path: str, expected: str) -> None:
    assert shorten_homes(path) == expected


def test_signs_have_look_alikes_in_ascii() -> None:
    assert look_alikes("✅ 1.41× ± 0.02") == "[ok] 1.41x +/- 0.02"
    assert look_alikes("漢") == "?"


@given(st.text(), st.integers(min_value=1, max_value=20))
def test_clipped_text_fits(text: str, width: int) -> None:
    assert len(clip(text, width)) <= width


def test_every_sign_that_is_printed_has_a_look_alike() -> None:
    folder = Path(escaping.__file__).parent
    files = [file for file in (*folder.glob("*.py"), *folder.glob("*.yaml")) if file.name != "escaping.py"]
    signs = sorted({sign for file in files for sign in file.read_text("utf-8") if not sign.isascii()})

    assert [sign for sign in signs if "?" in look_alikes(sign)] == []
