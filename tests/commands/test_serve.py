"""`velosweep serve`: what it starts, and where."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.reporting import sweeps
from tests.strategies import samples_to_table
from velosweep.commands.serve import main
from velosweep.errors import ConfigError
from velosweep.results.parquet_files import write_samples
from velosweep.results.sweep_record import write_record


@pytest.mark.skipif(sys.platform == "win32", reason="programs there are no scripts")
def test_the_server_runs_beside_its_program_which_is_never_one_of_the_current_folder(tmp_path: Path) -> None:
    made = sweeps.default_sweep()
    ours = {"server_program": "llama-server", "server_arguments": ("-m", "/m"), "vanilla_arguments": ("-m", "/m")}
    here, own, sweep = tmp_path / "here", tmp_path / "own", tmp_path / "sweep"
    for folder in (here, own, sweep):
        folder.mkdir()
        (folder / "llama-server").write_text('#!/bin/sh\necho "$(pwd)" "$@"\n')
        (folder / "llama-server").chmod(0o755)
    (here / "lora.gguf").touch()
    write_record(
        sweep / "sweep.json", replace(made.record, jobs=tuple(replace(job, **ours) for job in made.record.jobs))
    )
    write_samples(sweep / "samples.parquet", samples_to_table(made.runs))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "velosweep", "serve", str(sweep), "--", "--lora", "lora.gguf"],
        cwd=here, env={**os.environ, "PATH": f".:{own}:{os.environ['PATH']}"}, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip

    assert done.stdout == f"{own} -m /m --lora {here}/lora.gguf\n"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["sweep", "--port", "8080"], "velosweep serve sweep -- --port 8080"),
        (["--port", "8080", "--", "-np", "2"], "velosweep serve -- --port 8080 -np 2"),
    ],
)
def test_flags_of_llama_server_without_a_separator_are_refused_with_the_command_that_was_meant(
    given: list[str], meant: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        main(given)

    assert caught.value.remedy is not None
    assert caught.value.remedy.endswith(meant)
