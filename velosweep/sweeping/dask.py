"""Launcher `dask`: each group of jobs is a future on a Dask worker. Needs velosweep[dask].

No file system needs to be shared: samples travel back with a group's end and are journalled by the driver at once.
A lost worker's group is done again on another one, from its start: a vanilla series belongs to one host.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from velosweep.errors import ConfigError
from velosweep.model import RunSettings
from velosweep.sweeping.groups import Group, RunGroup, group_folder, in_words, keep
from velosweep.sweeping.remote import RemoteLauncher


@dataclass
class DaskConf:
    """Settings of hydra/launcher=dask."""

    _target_: str = "???"
    address: str | None = None  # of a scheduler; null: workers on this machine, one for each of gpus=[...]
    tasks: int | None = None  # groups to share the jobs out over; null: as many as there are workers
    workers: int = 1  # workers on this machine where no GPUs are named
    gpu_resource: int | None = None  # resource GPU that a group asks of a worker; null: 1 where GPUs are named, else 0
    allowed_failures: int = 3  # workers that a group may lose before it is given up


class DaskLanes(RemoteLauncher):
    """Hydra's launcher contract; settings as in DaskConf."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def tasks(self, settings: RunSettings) -> int | None:
        """How many groups are wanted."""
        if self._settings["tasks"] is not None:
            return int(self._settings["tasks"])
        if self._settings["address"] is None:
            return max(1, len(self._environments(settings)))
        with self._client(settings) as client:
            return max(1, len(client.scheduler_info()["workers"]))

    def run_groups(self, groups: Sequence[Group], root: Path, settings: RunSettings) -> dict[str, str]:
        """Run all groups, keep each when it arrives; returns failures by group name, in words."""
        as_completed = _distributed().as_completed
        asked = self._settings["gpu_resource"]
        share = asked if asked is not None else (1 if settings.gpus else 0)
        failures: dict[str, str] = {}
        with self._client(settings) as client:
            futures = {
                client.submit(
                    RunGroup(), group, None, key=f"velosweep-{group.name}", resources=_resources(share)
                ): group
                for group in groups
            }
            for future in as_completed(futures, loop=client.loop):
                group = futures[future]
                error = future.exception()
                if error is not None:
                    failures[group.name] = in_words(error)
                else:
                    keep(group_folder(root, group), future.result())
                future.release()
        return failures

    @contextmanager
    def _client(self, settings: RunSettings) -> Iterator[Any]:
        """A client of the scheduler at `address`, or of workers on this machine, which end with it."""
        distributed = _distributed()
        if self._settings["address"] is not None:
            try:
                client = distributed.Client(self._settings["address"], timeout="30s", set_as_default=False)
            except OSError as error:
                raise ConfigError(
                    f"No Dask scheduler answers at {self._settings['address']}",
                    remedy="set hydra.launcher.address to one that runs, or to null for workers on this machine",
                ) from error
            with client:
                yield client
            return
        with (
            self._cluster(distributed, settings) as cluster,
            distributed.Client(cluster, set_as_default=False) as client,
        ):
            yield client

    def _cluster(self, distributed: Any, settings: RunSettings) -> Any:
        """A process for each worker, with one thread and the GPUs of its lane; a worker that dies is started anew."""
        import dask

        dask.config.set({"distributed.scheduler.allowed-failures": self._settings["allowed_failures"]})
        workers = {
            number: {
                "cls": distributed.Nanny,
                "options": {"nthreads": 1, "env": env, "resources": _resources(1 if settings.gpus else 0) or None},
            }
            for number, env in enumerate(self._environments(settings))
        }
        scheduler = {"cls": distributed.Scheduler, "options": {"dashboard": False, "port": 0, "host": "127.0.0.1"}}
        return distributed.SpecCluster(workers=workers, scheduler=scheduler, silence_logs=40)

    def _environments(self, settings: RunSettings) -> list[Mapping[str, str]]:
        """The environment of each worker on this machine: the GPUs that it sees, and no chatter."""
        quiet = {"DASK_LOGGING__DISTRIBUTED": "error"}
        gpus = [str(gpu) for gpu in settings.gpus or ()]
        step = settings.gpus_per_lane
        lanes = [gpus[at : at + step] for at in range(0, len(gpus) - step + 1, step)]
        order = os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        named: list[Mapping[str, str]] = [
            {**quiet, "CUDA_VISIBLE_DEVICES": ",".join(lane), "CUDA_DEVICE_ORDER": order} for lane in lanes
        ]
        return named or [quiet for _ in range(int(self._settings["workers"]))]


def _resources(gpus: int) -> dict[str, float] | None:
    return {"GPU": gpus} if gpus else None


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise ConfigError(
            "hydra/launcher=dask needs the package distributed", remedy="pip install 'velosweep[dask]'"
        ) from error
    return distributed
