"""What reading a lane's conditions costs around each run: `python -m tests.benchmarks.bench_conditions [TIMES]`.

Prints the median and the 99th percentile of `begin` and `end` in microseconds, with as many own processes as a lane
of eight servers has; on the GPUs too where NVML answers.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from velosweep.machine.conditions import Monitor
from velosweep.machine.nvml import open_nvml
from velosweep.values import Device, Lane

SERVERS = 8


def timed(monitor: Monitor, times: int) -> dict[str, list[float]]:
    """Microseconds of each call."""
    taken: dict[str, list[float]] = {"begin": [], "end": []}
    for _ in range(times):
        for name, call in (("begin", monitor.begin), ("end", monitor.end)):
            start = time.perf_counter()
            call()
            taken[name].append((time.perf_counter() - start) * 1e6)
    return taken


def main() -> None:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    nvml = open_nvml()
    gpus = nvml.gpus() if nvml else ()
    devices = [Device(kind="cpu", name="CPU")] + [Device(kind="cuda", name=gpu.name, uuid=gpu.uuid) for gpu in gpus]
    sleepers = [subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(SERVERS)]
    try:
        for device in devices:
            lane = Lane(number=0, devices=(device,))
            monitor = Monitor(lane, nvml=nvml, own_pids={process.pid for process in sleepers})
            for name, taken in timed(monitor, times).items():
                worst = statistics.quantiles(taken, n=100)[98]
                print(f"{device.name} {name}: median {statistics.median(taken):.0f} µs, 99th {worst:.0f} µs")
    finally:
        for process in sleepers:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
