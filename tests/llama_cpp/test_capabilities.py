"""What a program can do, found by asking it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.llama_cpp import standin
from velosweep.errors import ProgramError
from velosweep.llama_cpp import capabilities
from velosweep.llama_cpp.capabilities import Capabilities, capabilities_of, parse_help, parse_version
from velosweep.llama_cpp.setting_table import SETTINGS


def recorded(name: str) -> Capabilities:
    """Capabilities by a recorded --help."""
    text = (standin.HELP / f"{name}.txt").read_text()
    flags = parse_help(text)
    return Capabilities(
        program=name,
        build="",
        flags=flags,
        spec_types=capabilities.parse_spec_types(flags),
        defaults=capabilities.parse_defaults(text),
    )


def test_removed_flags_that_help_still_lists_are_not_supported() -> None:
    known = recorded("2026-10-llama-server")

    assert "--draft-max" in (standin.HELP / "2026-10-llama-server.txt").read_text()
    assert not {"--draft", "--draft-n", "--draft-max", "--draft-min", "--spec-ngram-size-n"} & known.flags.keys()
    assert known.name("n_draft") == "--spec-draft-n-max"


def test_each_generation_gets_its_own_words() -> None:
    old, new = recorded("2024-12-llama-server"), recorded("2026-10-llama-server")

    assert (old.name("n_draft"), new.name("n_draft")) == ("--draft-max", "--spec-draft-n-max")
    assert (old.name("draft_model"), new.name("draft_model")) == ("--model-draft", "--spec-draft-model")
    assert (old.name("draft_gpu_layers"), new.name("draft_gpu_layers")) == ("--gpu-layers-draft", "--spec-draft-ngl")
    assert (old.name("spec_type"), new.name("spec_type")) == (None, "--spec-type")


def test_a_switch_and_a_flag_with_a_value_are_told_apart() -> None:
    old, new = recorded("2024-12-llama-server"), recorded("2026-10-llama-server")

    assert old.flags["--flash-attn"] == new.flags["--metrics"] == ""
    assert new.flags["--flash-attn"] == "[on|off|auto]"


def test_speculation_kinds_are_read_from_help() -> None:
    assert "draft-dspark" in recorded("2026-10-llama-server").spec_types
    assert "ngram-mod" in recorded("2026-10-llama-server").spec_types
    assert recorded("2024-12-llama-server").spec_types == ()


def test_a_draft_model_is_a_kind_of_every_build() -> None:
    early_2026 = replace(recorded("2024-12-llama-server"), spec_types=("none", "ngram-mod"))

    assert recorded("2024-12-llama-server").kinds == ("draft-simple",)
    assert early_2026.kinds == ("draft-simple", "none", "ngram-mod")
    assert recorded("2026-10-llama-server").kinds == recorded("2026-10-llama-server").spec_types


def test_spec_types_are_read_with_bars_too() -> None:
    flags = parse_help("--spec-type [none|ngram-cache|ngram-mod]  type of speculative decoding\n")

    assert capabilities.parse_spec_types(flags) == ("none", "ngram-cache", "ngram-mod")


def test_every_setting_is_known_to_some_generation_of_the_server_or_the_programs() -> None:
    texts = [recorded(file.stem) for file in standin.HELP.glob("*.txt")]
    unknown = [setting for setting in SETTINGS if not any(known.name(setting) for known in texts)]
    # named before and after the recorded generations
    assert set(unknown) <= {"mmap", "no_conversation"}


def test_a_program_is_asked_once(tmp_path: Path) -> None:
    folder = standin.write(tmp_path / "llama", "2024-12")
    program = folder / "build/bin/llama-server"
    first = capabilities_of(str(program))
    program.unlink()

    assert capabilities_of(str(program)) == first
    assert first.build == "4291 (26a8406b)"


def test_a_program_that_is_no_llama_cpp_is_refused_with_what_it_said(tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\necho 'libcudart.so.12: cannot open shared object file' >&2\nexit 127\n")
    program.chmod(0o755)

    with pytest.raises(ProgramError, match=r"exit status 127.*libcudart"):
        capabilities_of(str(program))


def test_a_program_for_another_machine_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_bytes(b"\x7fELF not for here")
    program.chmod(0o755)

    with pytest.raises(ProgramError, match="can't be run"):
        capabilities_of(str(program))


@pytest.mark.parametrize(
    ("text", "build"),
    [
        ("version: 4191 (0bbd2262)\nbuilt with cc", "4191 (0bbd2262)"),
        ("ggml_cuda_init: found\nversion: 0.5.0-dev (build 1, commit 0c)\n", "0.5.0-dev (build 1, commit 0c)"),
        ("", "unknown"),
    ],
)  # fmt: skip
def test_the_version_is_what_the_program_says(text: str, build: str) -> None:
    assert build == parse_version(text)


@given(st.text(alphabet="-abc ,N\n[]|", max_size=300))
def test_no_help_text_breaks_the_parser(text: str) -> None:
    assert all(flag.startswith("-") for flag in parse_help(text))
