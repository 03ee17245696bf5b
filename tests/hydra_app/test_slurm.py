"""What SLURM is asked for, and what is said where it can't do it; its programs are stand-ins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.recorded import Recorded, recorded  # noqa: F401
from velosweep.hydra_app.slurm import why_failed

SWEEP = ["-m", "n_draft=4,8", "hydra/launcher=slurm", "hydra.sweep.dir=out"]
PROGRAMS = {
    "srun": "",
    "sinfo": 'echo "$NODES_HAVE"',
    "sbatch": 'cat "$1" > submitted.sh; echo "sbatch: error: Batch job submission failed: no room" >&2; exit 1',
}


@pytest.fixture
def cluster(recorded: Recorded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:  # noqa: F811
    """Programs of a SLURM that takes no task; where the task that it was given lies then."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, script in PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/sh\nPATH=/bin:/usr/bin\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("NODES_HAVE", "gpu:a100:4(S:0-1)")
    return tmp_path / "submitted.sh"


@pytest.mark.parametrize(
    ("nodes_have", "overrides", "asked"),
    [
        ("gpu:a100:4(S:0-1)", [], "--gpus-per-node=1"),
        ("gpu:a100:4(S:0-1)", ["gpus_per_lane=2"], "--gpus-per-node=2"),
        ("gpu:a100:4(S:0-1)", ["gpus=[]"], None),
        ("(null)", [], None),
        ("(null)", ["hydra.launcher.gpus_per_node=3"], "--gpus-per-node=3"),
    ],
)
def test_a_task_asks_for_the_gpus_of_its_lane_and_a_cpu_lane_for_none(
    recorded: Recorded,  # noqa: F811
    cluster: Path,
    monkeypatch: pytest.MonkeyPatch,
    nodes_have: str,
    overrides: list[str],
    asked: str | None,
) -> None:
    monkeypatch.setenv("NODES_HAVE", nodes_have)

    assert recorded.main([*SWEEP, *overrides]) == 2

    gpu_lines = [line for line in cluster.read_text().splitlines() if "gpus-per-node" in line]
    assert gpu_lines == ([f"#SBATCH {asked}"] if asked else [])


def test_what_slurm_refuses_is_said_in_its_words(
    recorded: Recorded,  # noqa: F811
    cluster: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert recorded.main(SWEEP) == 2

    said = capsys.readouterr().err
    assert said.startswith("velosweep: SLURM refused the tasks: Batch job submission failed: no room\n")
    assert "hydra.launcher.partition" in said


def test_a_machine_without_slurm_is_refused_with_what_to_do(
    recorded: Recorded,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    assert recorded.main(SWEEP) == 2

    assert capsys.readouterr().err.splitlines() == [
        "velosweep: hydra/launcher=slurm needs SLURM's programs, and there is no srun on this machine",
        "  start velosweep on a login node of the cluster, or leave hydra/launcher at gpu_lanes",
    ]


@dataclass
class EndedTask:
    """A task of SLURM's that has ended, as submitit shows it."""

    state: str = "COMPLETED"
    returned: str | None = None
    error: Exception | None = None
    job_id: str = "7_1"

    def wait(self) -> None:
        pass

    def exception(self) -> Exception | None:
        return self.error

    def result(self) -> str | None:
        return self.returned


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (EndedTask(), None),
        (EndedTask(returned="No model at /m"), "task 7_1: No model at /m"),
        (EndedTask(state="CANCELLED by 0", returned="It was asked to end"), "task 7_1 was cancelled; run"),
        (
            EndedTask(state="TIMEOUT", error=RuntimeError("no result")),
            "task 7_1 ran out of time (hydra.launcher.timeout_min",
        ),
        (EndedTask(state="UNKNOWN", error=RuntimeError("no result")), "task 7_1: RuntimeError: no result"),
    ],
)
def test_a_task_that_brought_nothing_is_explained_in_words(task: EndedTask, said: str | None) -> None:
    why = why_failed(task)

    assert why is None if said is None else why is not None and why.startswith(said)
