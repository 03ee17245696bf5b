"""llama-server's flags, where keys are expected, are answered with the command that was meant."""

from __future__ import annotations

import pytest

from velosweep.config.flag_habits import run_command


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("-m main.gguf -md draft.gguf", "velosweep run --main main.gguf --draft draft.gguf"),
        (
            "--main-model=a.gguf --draft-model b.gguf --n-draft 10",
            "velosweep run --main a.gguf --draft b.gguf --n-draft 10",
        ),
        ("-m a.gguf -c 8192 -ngl 99", "velosweep run --main a.gguf engine.context=8192 engine.gpu_layers=99"),
        ("a.gguf -md b.gguf", "velosweep run --draft b.gguf --main a.gguf"),
        ("-m a.gguf --jinja -np 4", "velosweep run --main a.gguf --streams 4 'engine.args=[\"--jinja\"]'"),
        ("-p hello iterations=1", "velosweep run --prompt hello iterations=1"),
        ("-i 3 n_draft=4", "velosweep run --iterations 3 n_draft=4"),
        ("-m n_draft=4 --n-predict 9", "velosweep run --n-predict 9 n_draft=4"),
        ("--main a.gguf --draft b.gguf", "velosweep run --main a.gguf --draft b.gguf"),
        ("-m a.gguf --draft 8", "velosweep run --main a.gguf --n-draft 8"),
        ("-hf owner/repo:Q4_K_M", "velosweep run --main owner/repo:Q4_K_M"),
    ],
)
def test_what_was_meant_is_said(said: str, meant: str) -> None:
    assert run_command(said.split()) == meant


@pytest.mark.parametrize(
    "said", ["-m n_draft=4,8", "-c job -p sampling", "-i searchpath", "n_draft=4", "--cfg job", "-m"]
)
def test_hydras_own_grammar_is_left_alone(said: str) -> None:
    assert run_command(said.split()) is None
