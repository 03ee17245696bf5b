"""What a real sweep on the embedded llama.cpp costs beside its decoding, and whether watching it disturbs it.

    python -m tests.benchmarks.bench_sweep [--repeats 3] [--only share|disturbance|streams|startup]

share        Σ total_time_ms of samples that count over the wall-clock of the whole command; the driver's CPU time
             while lanes measure, as a share of one core; seconds until the first token; whether warm-ups are long
             enough.
disturbance  tokens per second of one server, asked in turn by a lane of ours and by a bare HTTP loop: paired ratios.
streams      the same at 8 streams, beside as many bare threads: requests a second by their clients' clocks.
startup      seconds of --version and --help beside a Python that does nothing.

Medians and spreads; machine and load are printed with them. Nothing here asserts a time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.figures import Figure, machine, of_runs, show

PYTHON = sys.executable
PAIRS = 70  # a repeat: single pairs vary by several %, and 1 % is asked of their mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=("share", "disturbance", "streams", "startup"))
    options = parser.parse_args()
    print(machine())
    parts = {"share": share, "disturbance": disturbance, "streams": partial(disturbance, streams=8), "startup": startup}
    for name, part in parts.items():
        if options.only in (None, name):
            for figure in part(options.repeats):
                show(figure)


# ---------------------------------------------------------------- share of decoding


def share(repeats: int) -> Iterator[Figure]:
    """The share of decoding, and the driver's CPU while lanes measure."""
    grid = "n_draft=1,2,3,4,6,8,10,12"
    for label, least, arguments in (
        ("default: 3 n_draft x 5 x 100", None, ["n_draft=4,8,12"]),
        ("8 n_draft x 5 x 100", 0.90, [grid]),
        ("8 n_draft x 10 x 256", 0.95, [grid, "iterations=10", "n_predict=256"]),
    ):
        runs = [timed_sweep(arguments) for _ in range(repeats)]
        waited_most = 2.5 if least is None else None
        yield of_runs(f"{label}: share of decoding", [run["share"] for run in runs], least=least)
        yield of_runs(f"{label}: wall-clock", [run["wall_s"] for run in runs], " s")
        yield of_runs(f"{label}: driver's CPU of one core", [run["driver_cpu"] for run in runs], most=0.01)
        yield of_runs(f"{label}: first token", [run["first_token_s"] for run in runs], " s", most=waited_most)
        yield of_runs(f"{label}: first counted run over the others", [run["first_run"] for run in runs])


def timed_sweep(arguments: Sequence[str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        command = [PYTHON, "-m", "velosweep", "-m", *arguments, "engine=embedded", f"hydra.sweep.dir={folder}/out"]
        began, began_at = time.perf_counter(), datetime.now(timezone.utc)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment())
        marks: list[tuple[float, float]] = []
        watcher = threading.Thread(target=_watch, args=(psutil.Process(process.pid), marks))
        watcher.start()
        process.communicate()
        wall_s = time.perf_counter() - began
        watcher.join()
        assert process.returncode == 0, f"velosweep ended with {process.returncode}"
        rows = samples(Path(folder) / "out")
    counted = [row for row in rows if not row["warmup"] and row["status"] == "ok"]
    first = min(rows, key=lambda row: row["started_at"])
    waited_s = (first["started_at"] - began_at).total_seconds() + first["time_to_first_token_ms"] / 1000
    return {
        "wall_s": wall_s,
        "share": sum(row["total_time_ms"] for row in counted) / 1000 / wall_s,
        "driver_cpu": _cpu_share(marks, counted),
        "first_token_s": waited_s,
        "first_run": _first_over_others(counted),
    }


def _first_over_others(counted: Sequence[dict[str, Any]]) -> float:
    """Speed of the arms' first counted runs over the median of each one's later ones, on the mean: below 1 as far as
    warm-ups are too short."""
    arms: dict[int, list[float]] = defaultdict(list)
    for row in sorted(counted, key=lambda row: row["started_at"]):
        arms[row["n_draft"] or 0].append(row["tokens_per_second"])
    return statistics.fmean(speeds[0] / statistics.median(speeds[1:]) for speeds in arms.values())


def _watch(driver: psutil.Process, marks: list[tuple[float, float]]) -> None:
    """Note the driver's CPU seconds four times a second, until it ends."""
    while True:
        try:
            times = driver.cpu_times()
        except psutil.Error:
            return
        if driver.status() == psutil.STATUS_ZOMBIE:
            return
        marks.append((time.time(), times.user + times.system))
        time.sleep(0.25)


def _cpu_share(marks: Sequence[tuple[float, float]], counted: Sequence[dict[str, Any]]) -> float:
    """Of one core, between the first counted run's start and the last one's."""
    begins = [row["started_at"].timestamp() for row in counted]
    within = [mark for mark in marks if min(begins) <= mark[0] <= max(begins)]
    return (within[-1][1] - within[0][1]) / (within[-1][0] - within[0][0])


def samples(folder: Path) -> list[dict[str, Any]]:
    import velosweep

    rows: list[dict[str, Any]] = velosweep.load(folder).to_pylist()
    return rows


def environment() -> dict[str, str]:
    return {**os.environ, "NO_COLOR": "1", "VELOSWEEP_LOCK_DIR": tempfile.gettempdir() + "/velosweep-bench-locks"}


# ---------------------------------------------------------------- disturbance


def disturbance(repeats: int, streams: int = 1) -> Iterator[Figure]:
    """A lane's own way of asking (client, monitor, journal) and a bare loop, in turn, of the same server."""
    from scipy.special import stdtrit

    from tests.planning.jobs import job
    from tests.results.made import environment as made_environment
    from velosweep.config.settings import EngineSettings, ModelPair
    from velosweep.llama_cpp.embedded import EmbeddedEngine
    from velosweep.llama_cpp.engine import Request
    from velosweep.machine.conditions import Monitor
    from velosweep.measuring.cooldown import Cooldown
    from velosweep.measuring.events import Recorder
    from velosweep.measuring.interrupts import StopFlag
    from velosweep.measuring.lane_context import LaneContext, ModelWatch, Preload, ServerLogs
    from velosweep.measuring.prepare import Prepared, engine_key
    from velosweep.measuring.resident_servers import ResidentServers, run_once
    from velosweep.models.synthetic.pair import DEFAULT_SHAPE, ensure_files
    from velosweep.planning.identity import identify, vanilla_server
    from velosweep.planning.measurements import Measurement
    from velosweep.results.journal import Journal
    from velosweep.results.paths import SweepPaths
    from velosweep.values import Device, Lane

    main_model, draft_model = map(str, ensure_files(DEFAULT_SHAPE))
    (one,) = identify(
        [
            job(
                model_pair=ModelPair(name="synthetic", main_model=main_model, draft_model=draft_model),
                engine=EngineSettings(kind="embedded", threads=1, threads_batch=1),
                concurrency=streams,
                n_predict=100 if streams == 1 else 40,
            )
        ],
        {},
    )
    arm, lane = vanilla_server(one), Lane(number=0, devices=(Device(kind="cpu", name="CPU"),))
    prepared = Prepared(
        jobs=(one,),
        lanes=(lane,),
        environment=made_environment(),
        engines={engine_key(one.engine): EmbeddedEngine()},
        reasons=(),
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        Journal(Path(folder) / "journal.jsonl") as journal,
        ThreadPoolExecutor(streams) as pool,
    ):
        context = LaneContext(
            sweep_id="bench",
            lane=lane,
            outputs={},
            order=itertools.count(),
            monitor=(monitor := Monitor(lane)),
            cooldown=Cooldown(monitor, stop := StopFlag()),
            memory=prepared.memory_estimates(lane),
            prepared=prepared,
            recorder=Recorder(journal=journal, observe=lambda event: None, done={}),
            stop=stop,
            model_files=ModelWatch(()),
            logs=ServerLogs(SweepPaths(Path(folder))),
            preload=Preload(()),
        )
        servers = ResidentServers(context)
        failed = list(servers.open([arm], one.protocol))
        assert not failed, failed
        loaded = servers.get(arm)
        session: Any = loaded.session if loaded else None
        prompt = one.prompts.prompts[0]
        request = Request(prompt=prompt, n_predict=one.n_predict, sampling=one.sampling)
        ratios = []
        for number in range(-1, repeats * PAIRS):
            pair = {}
            for who in ("ours", "bare") if number % 2 else ("bare", "ours"):
                if who == "ours":
                    measurement = Measurement(server=arm, job=one, prompt=prompt, iteration=1, launch=0, group=0)
                    sample = run_once(context, servers, measurement)
                    assert sample is not None
                    speeds = (sample.tokens_per_second or 0.0, 1000 / (sample.total_time_ms or math.inf))
                    pair[who] = speeds[0] if streams == 1 else speeds[1]
                elif streams == 1:
                    pair[who] = bare_request(session, request)[0]
                else:
                    asked = pool.map(lambda _: bare_request(session, request)[1], range(streams))
                    pair[who] = 1 / statistics.fmean(asked)
            if number >= 0:  # the first pair warms up
                ratios.append(pair["ours"] / pair["bare"])
        servers.close(arm)
    logs = [math.log(ratio) for ratio in ratios]
    half = float(stdtrit(len(logs) - 1, 0.975)) * statistics.stdev(logs) / math.sqrt(len(logs))
    middle = statistics.mean(logs)
    what = "tokens per second over a bare HTTP loop's" if streams == 1 else f"speed over {streams} bare threads'"
    yield of_runs(f"{what}: single pairs", ratios)
    yield Figure(
        what=f"{what}: geometric mean",
        value=math.exp(middle),
        low=math.exp(middle - half),
        high=math.exp(middle + half),
        runs=len(ratios),
        spread="95 %",
        least=0.99,
        most=1.01,
    )


def bare_request(session: Any, request: Any) -> tuple[float, float]:
    """The same question in a plain request, as a script of one's own would ask it: tokens a second, seconds it took."""
    from velosweep.llama_cpp.completion import completion_payload

    address = session._client._http.address
    payload = {**completion_payload(request, prompt=request.prompt.text, cache_prompt=False), "stream": True}
    asked = urllib.request.Request(
        f"http://{address.host}:{address.port}/completion",
        data=json.dumps(payload).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {address.api_key}"},
    )
    began = time.perf_counter()
    with urllib.request.urlopen(asked, timeout=60) as response:
        lines = [line for line in response if line.startswith(b"data: {")]
    took_s = time.perf_counter() - began
    timings = json.loads(lines[-1][6:])["timings"]
    return float((timings["predicted_n"] - 1) / timings["predicted_ms"] * 1000), took_s


# ---------------------------------------------------------------- start-up


def startup(repeats: int) -> Iterator[Figure]:
    """A Python that does nothing, and the two quickest commands."""
    for label, most, command in (
        ("python -c pass", None, [PYTHON, "-c", "pass"]),
        ("velosweep --version", 0.25, [PYTHON, "-m", "velosweep", "--version"]),
        ("velosweep --help", 0.6, [PYTHON, "-m", "velosweep", "--help"]),
    ):
        yield of_runs(label, [timed(command) for _ in range(repeats * 3)], " s", most=most)


def timed(command: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=environment())
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
