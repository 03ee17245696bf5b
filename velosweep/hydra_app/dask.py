"""Launcher `dask`: each group of jobs is a future on a Dask worker. Needs velosweep[dask].

No file system needs to be shared: each sample travels back as an event when it is taken, and the driver journals it.
A lost worker's group goes on where it was on another one of the same host and device; elsewhere it begins anew,
because a vanilla series belongs to one machine.
"""

from __future__ import annotations

import os
import queue
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from velosweep.config.settings import RunSettings
from velosweep.errors import ConfigError, StorageError, install_extra
from velosweep.hydra_app.gathering import Gathering
from velosweep.hydra_app.groups import Gathered, Group, RunGroup, in_words
from velosweep.hydra_app.remote import RemoteLauncher
from velosweep.hydra_app.remote_journal import ResumeState

ANSWER_TIMEOUT_S = 60
"""How long a worker waits for its driver, which answers as soon as it has journalled what came before."""

Arrival = Any
"""An event's message (a dict), or a future that is done."""


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
        nonce = secrets.token_hex(8)  # a scheduler outlives sweeps: no other one's tasks and events are ours
        failures: dict[str, str] = {}
        inbox: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        with self._client(settings) as client, Gathering(groups, root, settings) as gathering:
            client.subscribe_topic(nonce, lambda event: inbox.put(event[1]))
            futures = self._submit(client, groups, nonce, settings)
            for future in futures:
                future.add_done_callback(inbox.put)
            while futures:
                arrival = inbox.get()
                if isinstance(arrival, dict):
                    gathering.take(arrival, lambda name, carried: answer(client, name, carried))
                    continue
                group = futures.pop(arrival)
                error = arrival.exception()
                if error is None:
                    gathering.complete(group, arrival.result())
                else:
                    failures[group.name] = in_words(error)
                arrival.release()
            client.unsubscribe_topic(nonce)
        return failures

    def _submit(self, client: Any, groups: Sequence[Group], nonce: str, settings: RunSettings) -> dict[Any, Group]:
        asked = self._settings["gpu_resource"]
        resources = _resources(asked if asked is not None else (1 if settings.gpus else 0))
        return {
            client.submit(RunOnWorker(nonce), group, key=f"velosweep-{nonce}-{group.name}", resources=resources): group
            for group in groups
        }

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

        dask.config.set(
            {
                "distributed.scheduler.allowed-failures": self._settings["allowed_failures"],
                # a worker sets up its logging as it is imported, before its own environment reaches it
                "distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED": "error",
            }
        )
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


# ---------------------------------------------------------------- on the worker


@dataclass(frozen=True)
class RunOnWorker:
    """A group's task. `topic`: of the events that the driver listens to."""

    topic: str

    def __call__(self, group: Group) -> Gathered:
        """As `RunGroup`."""
        return RunGroup()(group, None, DaskChannel(self.topic, group.name))


class DaskChannel:
    """A worker's way to its driver: events of a topic there, a queue of one answer back."""

    def __init__(self, topic: str, group: str) -> None:
        self._distributed = _distributed()
        self._worker = self._distributed.get_worker()
        self._topic = topic
        self._about = {"group": group, "attempt": secrets.token_hex(8)}

    def _tell(self, kind: str, content: str | bytes = "") -> None:
        self._worker.log_event(self._topic, {**self._about, "kind": kind, "content": content})

    def carried(self) -> ResumeState:
        """As `JournalChannel.carried`."""
        answers = self._distributed.Queue(self._about["attempt"], client=self._distributed.get_client())
        self._tell("begin")
        try:
            answer = answers.get(timeout=ANSWER_TIMEOUT_S)
        except self._distributed.TimeoutError as error:
            raise StorageError("The driver of this sweep does not answer", remedy="run the command again") from error
        finally:
            answers.close()
        return ResumeState(record=answer["record"], journal=answer["journal"])

    def afresh(self) -> None:
        """As `JournalChannel.afresh`."""
        self._tell("afresh")

    def record(self, text: str) -> None:
        """As `JournalChannel.record`."""
        self._tell("record", text)

    def line(self, line: bytes) -> None:
        """As `JournalChannel.line`."""
        self._tell("line", line)


def answer(client: Any, attempt: str, carried: ResumeState) -> None:
    """Tell a worker that begins what it can go on with."""
    _distributed().Queue(attempt, client=client).put({"record": carried.record, "journal": carried.journal})


def _resources(gpus: int) -> dict[str, float] | None:
    return {"GPU": gpus} if gpus else None


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise ConfigError("hydra/launcher=dask needs the package distributed", remedy=install_extra("dask")) from error
    return distributed
