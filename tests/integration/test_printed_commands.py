"""Every command that velosweep prints is run by a real llama-server: it starts, answers, and drafts."""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from tests import forked, real_models
from tests.real_models import timings_of
from velosweep import load
from velosweep.config.settings import SyntheticShape
from velosweep.models.synthetic.pair import ensure_files, write_files
from velosweep.reporting.printed_command import command_line, vanilla_command
from velosweep.reporting.wording import whole_jobs
from velosweep.results.derived_files import analyse

pytestmark = pytest.mark.real

TINY = SyntheticShape(layers=2, kept_layers=1, width=64, feed_forward=64, heads=2, kv_heads=1, vocabulary=320, eps=0.1)
KINDS = (
    "draft",
    "draft-mtp",
    "draft-eagle3",
    "draft-dflash",
    "draft-dspark",
    "ngram-simple",
    "ngram-map-k",
    "ngram-map-k4v",
    "ngram-mod",
    "ngram-cache",
)


def velosweep(*arguments: str, cwd: Path, **variables: str) -> str:
    environment = {**os.environ, "NO_COLOR": "1", "VELOSWEEP_LOCK_DIR": str(cwd / "locks"), **variables}
    environment.pop("LLAMA_CPP_PATH", None)
    done = forked.velosweep(*arguments, cwd=cwd, env=environment)

    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


SMALL = ["n_draft=12", "n_predict=16", "iterations=1", "engine.context=1024", "hydra.sweep.dir=out"]


@pytest.mark.parametrize("native", [False, True], ids=["embedded", "native"])
def test_every_command_of_a_sweep_over_all_kinds_runs_and_drafts(native: bool, tmp_path: Path) -> None:
    engine = f"llama_cpp.path={real_models.llama_server()}" if native else "engine=embedded"
    shape = [f"model_pair.synthetic.{name}={value}" for name, value in asdict(TINY).items()]
    sweep = ["-m", f"speculation={','.join(KINDS)}", *SMALL, *shape, engine]
    velosweep(*sweep, cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path / "a cache"))
    found = analyse(tmp_path / "out")
    jobs = list(whole_jobs(found.comparisons))
    said = {job.speculation: timings_of(command_line(job, found.record), tmp_path / "log") for job in jobs}

    assert set(said) == set(KINDS)
    assert {kind for kind, run in said.items() if not run.get("draft_n")} == set()
    assert {run["predicted_n"] for run in said.values()} == {64}
    assert "draft_n" not in timings_of(vanilla_command(jobs[0], found.record), tmp_path / "log")


@pytest.mark.parametrize("kinds", ["[draft-mtp]", "[draft-mtp,ngram-mod]"])
def test_the_commands_of_heads_in_a_file_of_their_own_and_of_two_kinds_run_and_draft(
    kinds: str, tmp_path: Path
) -> None:
    main, heads = ensure_files(TINY, "draft-mtp", tmp_path, lambda _: None)
    models = [f"model_pair.main_model={main}", f"model_pair.draft_model={heads}"]
    velosweep("-m", f"speculation.kinds={kinds}", *SMALL, *models, "engine=embedded", cwd=tmp_path)
    found = analyse(tmp_path / "out")
    (job,) = whole_jobs(found.comparisons)
    command = command_line(job, found.record)

    assert f"-md {heads}" in command
    assert timings_of(command, tmp_path / "log")["draft_n"] > 0


def test_the_command_of_the_answer_is_the_shortest_that_does_it(tmp_path: Path) -> None:
    native = real_models.llama_server()
    main, draft = tmp_path / "a main.gguf", tmp_path / "a draft.gguf"
    write_files(TINY, "draft", (main, draft))
    models = [f"model_pair.main_model={main}", f"model_pair.draft_model={draft}", f"llama_cpp.path={native}"]
    velosweep("n_draft=4", "n_predict=16", "iterations=1", "hydra.run.dir=out", *models, cwd=tmp_path)
    found = analyse(tmp_path / "out")
    (job,) = whole_jobs(found.comparisons)
    threads = re.search(r"-t (\d+)", command_line(job, found.record))

    assert threads is not None
    assert command_line(job, found.record) == (
        f"{native} -m '{main}' -md '{draft}' -c 4096 -t {threads[1]} --spec-type draft-simple --spec-draft-n-max 4"
    )
    assert timings_of(velosweep("command", "out", cwd=tmp_path).strip(), tmp_path / "log")["predicted_n"] == 64


@pytest.mark.parametrize("kind", ["ngram-map-k", "ngram-map-k4v"])
def test_what_a_kind_learned_in_one_iteration_does_not_help_the_next(kind: str, tmp_path: Path) -> None:
    shorter = f"+speculation.parameters.{kind.replace('-', '_')}.size_n=3"
    counting = f"prompt={' '.join(['one two three four five'] * 4)}"
    sweep = [f"speculation={kind}", shorter, "n_draft=8", "n_predict=32", "iterations=2", "engine=embedded", counting]
    model = [f"model_pair.main_model={real_models.model('f16')}", "engine.context=1024", "hydra.run.dir=out"]
    velosweep(*sweep, *model, cwd=tmp_path)
    runs = [row for row in load(tmp_path / "out").to_pylist() if row["mode"] == "Speculative" and not row["warmup"]]

    assert len(runs) == 2
    assert runs[0]["draft_tokens"] > runs[0]["accepted_tokens"]  # from a rejected draft it would learn
    assert len({(row["draft_tokens"], row["accepted_tokens"]) for row in runs}) == 1
