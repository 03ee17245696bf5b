"""The same answer as others get it, in one run.

    python -m tests.benchmarks.bench_rivals --llama-cpp DIR [--repeats 3] [--optimum PYTHON]

The answer: the speedup of n_draft 4, 8 and 12 over vanilla, five iterations of 100 tokens, one thread, the default
synthetic pair, every program of the llama.cpp built in DIR (a source tree with build/bin).

velosweep    one command.
process      a process per iteration and a baseline per job, as the specification's program does it.
speed-bench  llama.cpp's own client (tools/server/bench/speed-bench), its servers started by hand, one after another.
             Its data set is a download: a module named `datasets` hands it our prompt instead, five times.
llama-bench  vanilla alone, at depth 0.
optimum      optimum-benchmark's llama_cpp backend, vanilla alone, by a PYTHON that has it and llama-cpp-python
             (which is told to use the same llama.cpp). Its 0.6.0 wants 'transformers<5' and 'datasets<5' beside it.

Wall-clocks are medians with their spreads; tokens per second are told arm by arm, as a ratio to ours of the same run.
One that fails here is told on stderr and left out.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.bench_sweep import environment, samples
from tests.benchmarks.figures import Figure, machine, of_runs, show
from velosweep.models.synthetic.pair import DEFAULT_SHAPE, ensure_files

N_DRAFTS = (4, 8, 12)
ITERATIONS = 5
PROMPT = "Explain quantum computing in simple terms"
MAIN, DRAFT = map(str, ensure_files(DEFAULT_SHAPE))
# Alike for all: tokens, context, one thread, greedy, no end before the 100th token.
PLAIN = ["-m", MAIN, "-t", "1", "-tb", "1", "-c", "4096"]
RUN = ["-p", PROMPT, "-n", "100", "--temp", "0", "--ignore-eos"]
DRAFTING = [
    "-md",
    DRAFT,
    "-td",
    "1",
    "--spec-type",
    "draft-simple",
    "--spec-draft-n-min",
    "0",
    "--spec-draft-p-min",
    "0",
]
Rates = dict[int, list[float]]  # tokens per second by n_draft, 0 for vanilla


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-cpp", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--optimum", metavar="PYTHON")
    options = parser.parse_args()
    print(machine())
    for figure in rivals(options.llama_cpp, options.repeats, options.optimum):
        show(figure)


def rivals(llama_cpp: Path, repeats: int, optimum_python: str | None) -> Iterator[Figure]:
    """Wall-clocks of all ways, in turn, and how far each one's tokens per second are from ours."""
    ways: dict[str, Callable[[Path], Rates]] = {
        "velosweep": velosweep,
        "process": process_per_iteration,
        "speed-bench": speed_bench,
        "llama-bench": llama_bench,
    }
    if optimum_python:
        ways["optimum"] = lambda llama_cpp: optimum(optimum_python, llama_cpp)
    walls: dict[str, list[float]] = defaultdict(list)
    rates: dict[str, list[Rates]] = defaultdict(list)
    for repeat in range(repeats):
        for name in list(ways)[:: 1 if repeat % 2 == 0 else -1]:
            began = time.perf_counter()
            try:
                rates[name].append(ways[name](llama_cpp))
            except Exception:  # one that does not run here: the others still tell
                if name == "velosweep":
                    raise
                traceback.print_exc()
                del ways[name]
                continue
            walls[name].append(time.perf_counter() - began)
    for name in ways:
        yield of_runs(f"{name}: wall-clock", walls[name], " s")
        if name in ("process", "speed-bench"):
            over = [theirs / ours for theirs, ours in zip(walls[name], walls["velosweep"], strict=True)]
            yield of_runs(f"{name}: wall-clock over ours", over)
    for name in list(ways)[1:]:
        for n_draft in rates[name][0]:
            ratios = [
                middle(theirs[n_draft]) / middle(ours[n_draft])
                for theirs, ours in zip(rates[name], rates["velosweep"], strict=True)
            ]
            arm = f"n_draft {n_draft}" if n_draft else "vanilla"
            yield of_runs(f"{name}, {arm}: {middle(rates[name][-1][n_draft]):.1f} tok/s, over ours", ratios)


def middle(values: Sequence[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))


def velosweep(llama_cpp: Path) -> Rates:
    with tempfile.TemporaryDirectory() as folder:
        grid = f"n_draft={','.join(map(str, N_DRAFTS))}"
        settings = [f"llama_cpp.path={llama_cpp}", "engine.threads=1", f"hydra.sweep.dir={folder}/out"]
        command = [sys.executable, "-m", "velosweep", "-m", grid, *settings]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment())
        rows = [row for row in samples(Path(folder) / "out") if not row["warmup"]]
    return {
        n_draft: [row["tokens_per_second"] for row in rows if (row["n_draft"] or 0) == n_draft]
        for n_draft in (0, *N_DRAFTS)
    }


def process_per_iteration(llama_cpp: Path) -> Rates:
    """With today's programs and flags."""
    folder = llama_cpp / "build" / "bin"
    found: Rates = {n_draft: [] for n_draft in (0, *N_DRAFTS)}
    for n_draft in N_DRAFTS:
        for _ in range(ITERATIONS):
            text = said([str(folder / "llama-completion"), *PLAIN, *RUN, "-no-cnv"])
            found[0].append(figure(r"(?<!prompt )eval time =.*?([\d.]+) tokens per second", text))
        drafting = [*DRAFTING, "--spec-draft-n-max", str(n_draft)]
        for _ in range(ITERATIONS):
            text = said([str(folder / "llama-speculative-simple"), *PLAIN, *RUN, *drafting])
            found[n_draft].append(figure(r"decoded\s+\d+ tokens in\s+[\d.]+ seconds, speed:\s+([\d.]+) t/s", text))
    return found


def said(command: Sequence[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, check=True
    )
    return done.stderr + done.stdout


def figure(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found, text[-500:]
    return float(found[1])


_DATASETS = """
ROWS = [{{"category": "qa", "question_id": str(i), "turns": [{prompt!r}]}} for i in range({count})]

class Rows(list):
    def __getitem__(self, key):
        return [row[key] for row in self] if isinstance(key, str) else list.__getitem__(self, key)

def get_dataset_config_names(repo):
    return ["qualitative"]

def load_dataset(repo, name, split):
    return Rows(ROWS)
"""


def speed_bench(llama_cpp: Path) -> Rates:
    client = llama_cpp / "tools" / "server" / "bench" / "speed-bench" / "speed_bench.py"
    found: Rates = {}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "datasets.py").write_text(_DATASETS.format(prompt=PROMPT, count=ITERATIONS))
        for n_draft in (0, *N_DRAFTS):
            drafting = [*DRAFTING, "--spec-draft-n-max", str(n_draft)] if n_draft else []
            with server([str(llama_cpp / "build" / "bin" / "llama-server"), *PLAIN, "-np", "1", *drafting]) as url:
                result = Path(folder, f"{n_draft}.json")
                extra = json.dumps({"temperature": 0, "ignore_eos": True, "cache_prompt": False})
                arguments = ["--url", url, "--osl", "100", "--extra-inputs", extra, "--output", str(result)]
                done = subprocess.run(
                    [sys.executable, str(client), *arguments],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    env={**os.environ, "PYTHONPATH": folder},
                    check=False,
                )
                assert done.returncode == 0, done.stdout
                rows = json.loads(result.read_text())["results"]
                assert [row["ok"] for row in rows] == [True] * ITERATIONS, rows
                found[n_draft] = [row["predicted_per_second"] for row in rows]
    return found


@contextmanager
def server(command: Sequence[str], port: int = 18080) -> Iterator[str]:
    """A llama-server as a person starts it, ready."""
    with subprocess.Popen(
        [*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                    break
                except (urllib.error.URLError, ConnectionError):
                    time.sleep(0.05)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def llama_bench(llama_cpp: Path) -> Rates:
    command = [str(llama_cpp / "build" / "bin" / "llama-bench"), "-m", MAIN, "-t", "1"]
    command += ["-p", "0", "-n", "100", "-r", str(ITERATIONS), "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {0: [float(rate) for rate in json.loads(done.stdout)[0]["samples_ts"]]}


def optimum(python: str, llama_cpp: Path) -> Rates:
    script = Path(__file__).with_name("optimum_decode.py")
    with tempfile.TemporaryDirectory() as folder:
        command = [python, str(script), MAIN, "100", str(ITERATIONS)]
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            env={**os.environ, "LLAMA_CPP_LIB_PATH": str(llama_cpp / "build" / "bin")},
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return {0: [float(done.stdout.split()[-1])]}


if __name__ == "__main__":
    main()
