"""What SLURM is asked for, and what is said where it can't do it; its programs are stand-ins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from submitit.core.utils import JobPaths

from tests.recorded import Recorded, recorded  # noqa: F401
from velosweep.hydra_app.slurm import TaskQueue, why_failed

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


AGAIN = "run the same command again to go on"
TRACE = """Job (task=0) failed during processing with trace:
----------------------
Traceback (most recent call last):
  File "groups.py", line 158
RuntimeError: {raised}

----------------------
You can check full logs with 'job.stderr(0)'
"""


@dataclass
class EndedTask:
    """A task of SLURM's that has ended, as submitit shows it; `raised`: by its function."""

    folder: Path
    returned: str | None = None
    raised: str = ""
    job_id: str = "7_1"

    @property
    def paths(self) -> JobPaths:
        return JobPaths(self.folder, job_id=self.job_id, task_id=0)

    def exception(self) -> Exception | None:
        return RuntimeError(TRACE.format(raised=self.raised)) if self.raised else None

    def result(self) -> str | None:
        return self.returned


@pytest.mark.parametrize(
    ("state", "task", "said"),
    [
        ("COMPLETED", {}, None),
        ("COMPLETED", {"returned": "No model at /m"}, "task 7_1: No model at /m"),
        ("FAILED", {"raised": "no room"}, "task 7_1: RuntimeError: no room; its log is {log}"),
        (
            "FAILED",
            {"raised": "timed-out too many times."},
            "task 7_1 ran out of time (hydra.launcher.timeout_min); {again}",
        ),
        ("CANCELLED", {"returned": "asked to end"}, "task 7_1 was cancelled; {again}"),
        ("NODE_FAIL", None, "task 7_1 lost its node; {again}"),
        ("GONE", None, "task 7_1: it ended without a result; its log is {log}"),
    ],
)
def test_a_task_that_brought_nothing_is_explained_in_words(
    tmp_path: Path, state: str, task: dict[str, Any] | None, said: str | None
) -> None:
    ended = EndedTask(tmp_path, **(task or {}))
    if task is not None:
        ended.paths.result_pickle.touch()

    assert why_failed(ended, lambda _: state) == (
        said and said.format(log=ended.paths.stderr, again="run the same command again to go on")
    )


QUEUE = {
    "squeue": 'printf "%s" "$QUEUE"; case "$QUEUE" in "") echo "$REFUSED" >&2; exit 1;; esac',
    "sacct": 'printf "%s" "$ACCOUNTS"; echo "Slurm accounting storage is disabled" >&2',
}
"""SLURM's programs as they answer, by what stands in the environment."""


@pytest.mark.parametrize(
    ("answers", "state"),
    [
        ({"QUEUE": "7_1|RUNNING|None\n7_2|PENDING|Priority\n"}, ("RUNNING", "None")),
        ({"QUEUE": "Maintenance on Monday\n\n7_1|RUNNING|None\n"}, ("RUNNING", "None")),
        ({"REFUSED": "slurm_load_jobs error: Invalid job id specified"}, ("GONE", "")),
        (
            {"REFUSED": "slurm_load_jobs error: Invalid job id specified", "ACCOUNTS": "7_1|CANCELLED by 0|None\n"},
            ("CANCELLED", "None"),
        ),
        ({"REFUSED": "Unable to contact slurm controller"}, ("UNKNOWN", "Unable to contact slurm controller")),
    ],
)
def test_the_state_of_a_task_is_the_queue_s_or_that_of_the_accounts_and_known_to_be_unknown(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    answers: dict[str, str],
    state: tuple[str, str],
) -> None:
    for name, script in QUEUE.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    for name in ("QUEUE", "REFUSED", "ACCOUNTS"):
        monkeypatch.setenv(name, answers.get(name, ""))
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")

    assert TaskQueue("7", print).states()["7_1"] == state
    assert capfd.readouterr() == ("", "")
