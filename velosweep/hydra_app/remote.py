"""What launchers on other machines have in common: share out, run, bring together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from velosweep.config.settings import Job, RunSettings
from velosweep.errors import ConfigError
from velosweep.hydra_app.groups import Group, conclude, group_folder, is_done, merge, share_out
from velosweep.hydra_app.launcher import LaneLauncher
from velosweep.results.sweep_outcome import SweepOutcome


class RemoteLauncher(LaneLauncher):
    """A launcher that measures groups of jobs elsewhere."""

    @abstractmethod
    def tasks(self, settings: RunSettings) -> int | None:
        """How many groups are wanted; None: one for each vanilla series."""

    @abstractmethod
    def run_groups(self, groups: Sequence[Group], root: Path, settings: RunSettings) -> dict[str, str]:
        """Measure all groups and leave each in its folder; returns failures by group name, in words."""

    def run(self, jobs: Sequence[Job], *, root: Path, command: Sequence[str], settings: RunSettings) -> SweepOutcome:
        """As `LaneLauncher.run`. Groups that an earlier run of this folder has finished are not run again."""
        if settings.dry_run:
            return super().run(jobs, root=root, command=command, settings=replace(settings, elsewhere=True))
        if settings.tuner is not None:
            raise ConfigError(
                "hydra/sweeper=tune needs all candidates on one machine", remedy="leave hydra/launcher at gpu_lanes"
            )
        groups = share_out(jobs, self.tasks(settings), settings=settings, command=command)
        todo = [group for group in groups if not is_done(group_folder(root, group))]
        failures = self.run_groups(todo, root, settings) if todo else {}
        merge(root, jobs, groups, failures)
        return conclude(root, settings)
