"""What several streams cost the driver: `python -m tests.benchmarks.bench_streams [--runs N] [--soak N]`.

Real runs of the default pair at 8 streams, vanilla and drafting, by the embedded llama.cpp: the driver's CPU seconds in
a second of a run, beside the tokens a second that it took in. The soak asks a tiny model N times at 4 streams and says
by how much the driver's memory grew over the last nine tenths.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil

from tests.benchmarks.figures import Figure, of_runs
from tests.llama_cpp.servers import CPU, request, speculative, vanilla
from velosweep.config.settings import SyntheticShape
from velosweep.errors import RunFailed
from velosweep.llama_cpp.embedded import EmbeddedEngine
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.models.synthetic.pair import ensure_files

TOKENS = 100
TINY = SyntheticShape(layers=2, kept_layers=1, width=64, feed_forward=64, heads=2, kv_heads=1, vocabulary=320, eps=0.1)


def driver_share(server: ServerConfig, runs: int, log_path: Path) -> tuple[list[float], float]:
    """Per cent of a core in each run, and the tokens a second of the last."""
    session = EmbeddedEngine().launch(server, lane=CPU, log_path=log_path)
    shares = []
    try:
        session.wait_ready(120)
        for _ in range(runs + 1):
            before, began = time.process_time(), time.perf_counter()
            run = session.generate(request(n_predict=TOKENS), timeout_s=600)
            shares.append((time.process_time() - before) / (time.perf_counter() - began) * 100)
    finally:
        session.close()
    return shares[1:], sum(run.stream_tokens_per_second or ())  # the first loads code


def resident_mb(runs: int, folder: Path) -> list[float]:
    """The driver's resident memory after each tenth of the runs."""
    main, draft = ensure_files(TINY, "draft", on_progress=lambda text: None)
    server = replace(speculative(4, main_model=str(main), draft_model=str(draft), context=256), concurrency=4)
    session = EmbeddedEngine().launch(server, lane=CPU, log_path=folder / "soak.log")
    own, seen, failed = psutil.Process(), [], 0
    try:
        session.wait_ready(120)
        for number in range(1, runs + 1):
            try:
                session.generate(request(n_predict=16), timeout_s=60)
            except RunFailed:  # on a busy machine streams of so few tokens may never run at once
                failed += 1
            if number % -(-runs // 10) == 0 or number == runs:
                seen.append(own.memory_info().rss / 1e6)
                print(f"{number:,} runs, {failed} failed: {seen[-1]:.1f} MB", flush=True)
    finally:
        session.close()
    return seen


def streams(runs: int, soak: int) -> Iterator[Figure]:
    """All figures."""
    with tempfile.TemporaryDirectory() as folder:
        main, draft = map(str, ensure_files(SyntheticShape()))
        servers = {"vanilla": vanilla(main), "drafting": speculative(4, main_model=main, draft_model=draft)}
        for name, server in servers.items() if runs else ():
            shares, rate = driver_share(replace(server, concurrency=8), runs, Path(folder) / f"{name}.log")
            yield of_runs(f"driver at 8 streams, {name}, {rate:.0f} tok/s, of a core", shares, " %", most=2)
        if soak:
            seen = resident_mb(soak, Path(folder))
            what = f"memory grown over the last nine tenths of {soak:,} runs"
            yield of_runs(what, [seen[-1] - seen[0]], " MB", most=5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="0: the soak alone")
    parser.add_argument("--soak", type=int, default=0)
    asked = parser.parse_args()
    for figure in streams(asked.runs, asked.soak):
        limits = f"{figure.low:.2f} to {figure.high:.2f}"
        print(f"{figure.what}: {figure.value:.2f}{figure.unit} ({limits}), asked {figure.asked}")


if __name__ == "__main__":
    main()
