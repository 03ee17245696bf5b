"""The long fuzzing of the parsers: `python -m tests.fuzz.campaign gguf --runs 1000000`, not part of the tests.

Damages sound inputs at random and counts them; with `--atheris` (`pip install atheris` first) it is guided by
coverage, at a tenth of the speed. Ends with an error and the input in a file at the first exception that isn't
ours, the first input that takes 5 seconds, and the first that needs 1 GiB.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

LIMIT_S = 5
LIMIT_MIB = 1024


def main() -> int:
    """Fuzz one parser until an error or the given number of inputs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "target", help="one of tests.fuzz.targets: gguf, heads, stores, rows, conversations, record, journal, yaml …"
    )
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--atheris", action="store_true")
    arguments = parser.parse_args()
    run = guided if arguments.atheris else plain
    return run(arguments.target, arguments.runs, arguments.seed)


def plain(name: str, runs: int, seed: int) -> int:
    """Random damage. Prints how many inputs, how fast, the slowest and the memory's peak."""
    import resource

    from tests.fuzz.targets import TARGETS

    target, generator = TARGETS[name], random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix=f"velosweep-fuzz-{name}-"))
    signal.signal(signal.SIGALRM, _took_too_long)
    began = time.perf_counter()
    slowest = 0.0
    for number in range(runs):
        data = damaged(generator.choice(target.seeds), generator)
        signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
        start = time.perf_counter()
        try:
            target.run(data)
        except BaseException:
            (folder / f"found-{number}").write_bytes(data)
            print(f"{name}: input {number} is in {folder}", file=sys.stderr)
            raise
        slowest = max(slowest, time.perf_counter() - start)
    signal.setitimer(signal.ITIMER_REAL, 0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    took = time.perf_counter() - began
    print(f"{name}: {runs} inputs in {took:.0f} s, slowest {slowest * 1000:.0f} ms, peak memory {peak:.0f} MiB")
    return int(peak > LIMIT_MIB)


def _took_too_long(*_: object) -> None:
    raise TimeoutError(f"an input took more than {LIMIT_S} s")


def damaged(sound: bytes, generator: random.Random) -> bytes:
    """`sound`, changed at one to five places."""
    from tests.fuzz.targets import WORDS

    data = bytearray(sound)
    for _ in range(generator.randint(1, 5)):
        at = generator.randint(0, len(data))
        piece = generator.choice(WORDS) if generator.random() < 0.3 else generator.randbytes(generator.randint(1, 4))
        kind = generator.random()
        if kind < 0.4:
            data[at : at + len(piece)] = piece
        elif kind < 0.6:
            data[at:at] = piece
        elif kind < 0.8:
            del data[at : at + generator.randint(1, 32)]
        elif kind < 0.95:
            other = generator.randint(0, len(data))
            data[at:at] = data[other : other + generator.randint(1, 64)]
        else:
            del data[at:]
    return bytes(data)


def guided(name: str, runs: int, seed: int) -> int:
    """By coverage; atheris ends the process itself."""
    import atheris

    with atheris.instrument_imports(include=["velosweep"]):
        from tests.fuzz.targets import TARGETS

    corpus = Path(tempfile.mkdtemp(prefix=f"velosweep-fuzz-{name}-"))
    for number, sound in enumerate(TARGETS[name].seeds):
        (corpus / f"seed{number}").write_bytes(sound)
    limits = [f"-timeout={LIMIT_S}", f"-rss_limit_mb={LIMIT_MIB}", "-max_len=2048"]
    options = [f"-runs={runs}", f"-seed={seed}", "-print_final_stats=1", f"-artifact_prefix={corpus}/found-", *limits]
    atheris.Setup([sys.argv[0], *options, str(corpus)], TARGETS[name].run)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
