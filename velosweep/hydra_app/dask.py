"""Launcher `dask`: each group of jobs is a future on a Dask worker. Needs velosweep[dask].

No shared file system is needed: each line of the group's journal is sent to the driver as an event when it is written.
When a worker is lost, its group continues on another worker of the same host and device. On any other machine the group
starts over, because a vanilla series belongs to one machine.
"""

import logging
import os
import queue
import secrets
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from velosweep.config.settings import RunSettings
from velosweep.errors import ConfigError, MismatchError, StorageError, VelosweepError
from velosweep.hydra_app.remote import RemoteGroup, RemoteLauncher, import_extra, measure_group, sayer
from velosweep.hydra_app.remote_journal import JournalReplica, display_of, line_sender, sweep_files, write_sweep_files
from velosweep.values import Sample

_LOOK_S = 5.0
"""After so long without news, workers are looked for."""


class DaskLanes(RemoteLauncher):
    """Hydra's launcher contract; settings as `DaskConf` of our Hydra plugins has them."""

    def tasks(self, settings: RunSettings) -> int | None:
        if self._settings["tasks"] is not None:
            return int(self._settings["tasks"])
        if self._settings["address"] is None:
            return max(1, len(self._environments(settings)))
        with self._client(settings) as client:
            return max(1, len(_workers(client)))

    def run_groups(self, groups: Sequence[RemoteGroup], root: Path, settings: RunSettings) -> dict[str, str]:
        """Run all groups and store their samples as they arrive; returns failures by group name, in words."""
        with ExitStack() as stack:
            replicas = {g.name: stack.enter_context(closing(JournalReplica(g.folder(root)))) for g in groups}
            earlier = [sample for replica in replicas.values() for sample in replica.samples()]
            asked = self._settings["gpu_resource"]
            runs = GroupRuns(
                replicas=replicas,
                show=stack.enter_context(display_of(groups, root, settings, earlier)),
                say=sayer(settings),
                client=stack.enter_context(self._client(settings)),
                resources=_resources(asked if asked is not None else (1 if settings.gpus else 0)),
                allowed_failures=int(self._settings["allowed_failures"]),
            )
            return runs.run_all(groups)

    @contextmanager
    def _client(self, settings: RunSettings) -> Iterator[Any]:
        """A client of the scheduler at `address`, or of workers on this machine that are stopped with it."""
        distributed = import_extra("distributed", "dask")
        with ExitStack() as stack:
            scheduler = self._settings["address"] or stack.enter_context(self._cluster(distributed, settings))
            logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what it logs is told in sentences
            try:
                client = distributed.Client(scheduler, timeout="10s", set_as_default=False)
            except OSError as error:
                raise ConfigError(
                    f"No Dask scheduler answers at {self._settings['address']}",
                    remedy="set hydra.launcher.address to one that runs, or to null for workers on this machine",
                ) from error
            yield stack.enter_context(client)

    def _cluster(self, distributed: Any, settings: RunSettings) -> Any:
        """A process for each worker, with one thread and the GPUs of its lane; a worker that dies is restarted."""
        import dask

        # a worker configures its logging on import, before the environment given below is set
        dask.config.set({"distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED": "error"})
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
        """The environment of each worker on this machine: its visible GPUs, and errors only in its log."""
        quiet = {"DASK_LOGGING__DISTRIBUTED": "error"}
        gpus, step = [str(gpu) for gpu in settings.gpus or ()], settings.gpus_per_lane
        lanes = [gpus[at : at + step] for at in range(0, len(gpus) - step + 1, step)]
        order = {"CUDA_DEVICE_ORDER": os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")}
        named: list[Mapping[str, str]] = [{**quiet, **order, "CUDA_VISIBLE_DEVICES": ",".join(lane)} for lane in lanes]
        return named or [quiet] * int(self._settings["workers"])


@dataclass(kw_only=True)
class GroupRuns:
    """Runs groups on Dask's workers and submits a group again when its worker is lost.

    Each attempt has a key and an event topic of its own, so that events of a worker that Dask has given up, but that
    still runs, are ignored. `show` displays a sample, `say` a sentence; `allowed_failures`: lost workers after which a
    group has failed.
    """

    client: Any
    replicas: Mapping[str, JournalReplica]
    show: Callable[[RemoteGroup, Sample], None]
    say: Callable[[str], None]
    resources: Mapping[str, float] | None
    allowed_failures: int
    _told: bool = False  # that no worker is there
    _lost: Counter[str] = field(default_factory=Counter)
    _attempts: dict[str, RemoteGroup] = field(default_factory=dict)  # running attempts by topic
    _arrivals: queue.SimpleQueue[tuple[str, Any]] = field(default_factory=queue.SimpleQueue)

    def run_all(self, groups: Sequence[RemoteGroup]) -> dict[str, str]:
        """Run the groups to their ends; returns failures by group name, in words."""
        failures: dict[str, str] = {}
        for one in groups:
            self._submit(one)
        while self._attempts:
            try:
                topic, arrival = self._arrivals.get(timeout=_LOOK_S)
            except queue.Empty:
                self._tell_of_missing_workers()
                continue
            group = self._attempts.get(topic)
            if group is None:  # a late event of an earlier attempt
                continue
            if isinstance(arrival, (str, bytes)):
                sample = self.replicas[group.name].take(arrival)
                if sample is not None:
                    self.show(group, sample)
                continue
            del self._attempts[topic]
            if arrival.cancelled():
                failures[group.name] = "the Dask scheduler was lost; start it again, then run the same command to go on"
                continue
            self.client.unsubscribe_topic(topic)
            error = arrival.exception()
            if error is None:
                write_sweep_files(self.replicas[group.name].folder, arrival.result())
            elif not self._try_again(group, error):
                failures[group.name] = _error_text(error)
            arrival.release()
        return failures

    def _tell_of_missing_workers(self) -> None:
        """Say so where no worker can take a group: Dask waits for one for ever."""
        wanted = self.resources or {}
        able = [
            one
            for one in _workers(self.client)
            if all(one["resources"].get(name, 0) >= n for name, n in wanted.items())
        ]
        lacking = not able and self.client.status == "running"
        if lacking and not self._told:
            what = " with the resource GPU (`--resources GPU=1`)" if wanted else ""
            address = self.client.scheduler.address
            self.say(f"No Dask worker{what} is connected to {address}: waiting for one (`dask worker {address}`)")
        self._told = lacking

    def _submit(self, group: RemoteGroup) -> None:
        # random, because a scheduler may outlive this sweep and keeps the keys and events of others
        topic = f"velosweep-{group.name}-{secrets.token_hex(8)}"
        self._attempts[topic] = group
        self.client.subscribe_topic(topic, lambda event: self._arrivals.put((topic, event[1]["content"])))
        future = self.client.submit(
            run_on_worker, group, topic, self.replicas[group.name].files(), key=topic, resources=self.resources
        )
        future.add_done_callback(lambda done: self._arrivals.put((topic, done)))

    def _try_again(self, group: RemoteGroup, error: BaseException) -> bool:
        """Submit the group again where a worker was lost or can't continue earlier results; else False."""
        replica = self.replicas[group.name]
        if isinstance(error, MismatchError) and replica.files() is not None:
            replica.put_aside()  # measured on another host, device or program, which results must not mix
        elif isinstance(error, (LostWorkerError, import_extra("distributed", "dask").KilledWorker)):
            self._lost[group.name] += 1
            if self._lost[group.name] > self.allowed_failures:
                return False
        else:
            return False
        self._submit(group)
        return True


class LostWorkerError(StorageError):
    """The worker that ran an attempt was lost."""


def run_on_worker(group: RemoteGroup, topic: str, earlier: Mapping[str, bytes] | None) -> dict[str, bytes]:
    """On the worker: measure a group, continuing from what `earlier` attempts sent; returns its record and journal.

    The journal's lines are sent as events of `topic` as they are written. Raises MismatchError where the earlier
    results are another machine's. Raises LostWorkerError where the topic has events already: then Dask is repeating the
    task of a lost worker, and the driver must submit it again with the results which that worker had sent.
    """
    distributed = import_extra("distributed", "dask")
    if distributed.get_client().get_events(topic):
        raise LostWorkerError("The worker was lost")
    worker = distributed.get_worker()
    with (
        tempfile.TemporaryDirectory(prefix="velosweep-") as own,
        (Path(own) / "screen.log").open("w", encoding="utf-8") as screen,
        redirect_stdout(screen),  # nobody reads a worker's output
    ):
        folder = Path(own) / "group"
        if earlier is not None:
            write_sweep_files(folder, earlier)
        measure_group(group, folder, line_sender(folder, lambda content: worker.log_event(topic, {"content": content})))
        return sweep_files(folder)


def _workers(client: Any) -> list[Mapping[str, Any]]:
    """What the scheduler says of each worker; unasked, versions of 2025 tell of five."""
    return list(client.scheduler_info(n_workers=-1)["workers"].values())


def _resources(gpus: int) -> dict[str, float] | None:
    return {"GPU": gpus} if gpus else None


def _error_text(error: BaseException) -> str:
    """A task's error as a job's record keeps it."""
    return str(error) if isinstance(error, VelosweepError) else f"{type(error).__name__}: {str(error).strip()[-500:]}"
