"""Stands in for `run_sweep` where only the way to it is tested: keeps what it was given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from velosweep import cli, sweep
from velosweep.commands import rerun, resume  # noqa: F401 (first imported under the stand-in they would keep it)
from velosweep.config.settings import Job, RunSettings
from velosweep.results.sweep_record import SweepOutcome


@dataclass
class Recorded:
    """Every call of run_sweep; `failing`: numbers of jobs that fail; `raises`: refuses the whole sweep; `interrupted`:
    each call is, once its jobs are measured."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    failing: set[int] = field(default_factory=set)
    raises: Exception | None = None
    interrupted: bool = False

    def run_sweep(
        self, jobs: Sequence[Job], *, root: Path, single: bool, command: Sequence[str], settings: RunSettings
    ) -> SweepOutcome:
        if self.raises is not None:
            raise self.raises
        self.calls.append({"jobs": jobs, "root": root, "single": single, "command": command, "settings": settings})
        errors = tuple("no model" if job.num in self.failing else None for job in jobs)
        return SweepOutcome(
            exit_status=130 if self.interrupted else 1 if any(errors) else 0,
            summaries=tuple(
                None if error else {"n_draft": job.n_draft} for job, error in zip(jobs, errors, strict=True)
            ),
            errors=errors,
        )

    def main(self, arguments: Sequence[str]) -> int:
        """velosweep's command line with this in place of measuring."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sweep, "run_sweep", self.run_sweep)
            return cli.main(arguments)

    @property
    def jobs(self) -> list[Job]:
        return [job for call in self.calls for job in call["jobs"]]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Recorded:
    """A `run_sweep` that only remembers, and an empty folder to stand in."""
    monkeypatch.delenv("LLAMA_CPP_PATH", raising=False)
    monkeypatch.delenv("VELOSWEEP_MODELS", raising=False)
    monkeypatch.chdir(tmp_path)
    return Recorded()
