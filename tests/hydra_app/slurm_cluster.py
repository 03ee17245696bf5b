"""A SLURM of one node on loopback, from Debian's packages slurm-wlm and munge, as the user who runs the tests."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
PATH = f"{os.environ['PATH']}:/usr/sbin"
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmdSpoolDir={folder}/spool
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ReturnToService=2
KillWait=1
SchedulerParameters=sched_interval=1,sched_min_interval=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=2000
PartitionName=main Nodes={host} Default=YES State=UP
"""


@dataclass(frozen=True)
class SlurmCluster:
    """A cluster that runs; `environment` makes SLURM's programs use it."""

    folder: Path
    node: str

    @property
    def environment(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": PATH}

    def ask(self, *command: str) -> str:
        """What a program of SLURM's prints. Raises CalledProcessError."""
        environment = {**os.environ, **self.environment}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[SlurmCluster]:
    """Start it and end it. Skips the test where a program is missing."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if missing:
        pytest.skip(f"no {missing[0]} here: apt-get install slurm-wlm munge")
    for name in ("spool", "state"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    cluster = SlurmCluster(folder, socket.gethostname().partition(".")[0])
    ports = {"controller_port": free_port(), "node_port": free_port()}
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(folder=folder, host=cluster.node, user=getpass.getuser(), **ports)
    )
    own = [
        f"--{name}={folder}/munge{end}" for name, end in (("socket", ""), ("pid-file", ".pid"), ("log-file", ".log"))
    ]
    try:
        # --force: a folder of tests may be writable for others
        cluster.ask("munged", "--force", *own)
        cluster.ask("slurmctld")
        cluster.ask("slurmd")
        patiently(lambda: "idle" in cluster.ask("sinfo", "--noheader", "--format=%T"))
        yield cluster
    finally:
        for name in ("slurmd", "slurmctld", "munge"):
            with suppress(OSError, ValueError):
                os.kill(int((folder / f"{name}.pid").read_text()), signal.SIGTERM)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def patiently(condition: Callable[[], object]) -> None:
    """Wait up to half a minute until something is so."""
    deadline = time.monotonic() + 30
    while True:
        with suppress(subprocess.CalledProcessError):
            if condition():
                return
        assert time.monotonic() < deadline, "SLURM never came to that"
        time.sleep(0.1)
