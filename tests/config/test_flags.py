"""Flags where keys are expected are answered with the command that takes them."""

from __future__ import annotations

import pytest

from velosweep.config.flags import run_command


@pytest.mark.parametrize(
    "said",
    [
        "-m main.gguf -md draft.gguf",
        "--main-model=a.gguf --draft-model b.gguf --n-draft 10",
        "-m a.gguf -c 8192 -ngl 99",
        "a.gguf -md b.gguf",
        "-p hello iterations=1",
        "-i 3 n_draft=4",
        "n_draft=4,8 --n-predict 9",
        "-hf owner/repo:Q4_K_M",
    ],
)
def test_flags_of_run_are_answered_with_run(said: str) -> None:
    assert run_command(said.split()) == f"velosweep run {said}"
    assert run_command(["-m", "--n-draft", "4"]) == run_command(["--n-draft", "4", "-m"]) == "velosweep run --n-draft 4"


@pytest.mark.parametrize(
    "said", ["-m n_draft=4,8", "-c job -p sampling", "-i searchpath", "n_draft=4", "--cfg job", "-m"]
)
def test_hydras_own_grammar_is_left_alone(said: str) -> None:
    assert run_command(said.split()) is None
