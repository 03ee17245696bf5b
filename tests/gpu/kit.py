"""velosweep on a GPU that nobody of us has: pack here, run there.

    python tests/gpu/kit.py pack --out kit.tar.xz        where there is a network: one archive, under 60 MB
    tar xf kit.tar.xz && python3 velosweep-kit/kit/kit.py run --work DIR     there: NVIDIA driver, nvcc, CMake
    python tests/gpu/kit.py run --work DIR --cpu --bin FOLDER                the same steps, small, without a GPU

`run` can be stopped and called again: it goes on with what is not marked as done. It ends with table.md
and results.tar.xz, which holds it and all sweeps.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from frame import REAL, SMALL, Kit, Step, run_steps
from measuring import batch_cost, busy, conditions, doctor, equality, fidelity, residency, same_twice, sweep_steps, tune
from packing import WHEELS, pack
from preparing import build, calibrate, install, machine, write_speed
from table import collect, write_table


def steps(kit: Kit) -> list[Step]:
    """All steps in their order: the cheap and the revealing first."""
    return [
        Step(name="install", minutes=4, run=install),
        Step(name="machine", minutes=2, run=machine),
        Step(name="build", minutes=45, run=build),
        Step(name="write", minutes=5, run=write_speed),
        Step(name="doctor", minutes=3, run=doctor),
        Step(name="fidelity", minutes=10, run=fidelity),
        Step(name="calibrate", minutes=15, run=calibrate),
        *sweep_steps(kit),
        Step(name="batch_cost", minutes=10, run=batch_cost),
        Step(name="equality", minutes=1, run=equality),
        Step(name="same_twice", minutes=8, run=same_twice),
        Step(name="residency", minutes=3, run=residency),
        Step(name="busy", minutes=5, run=busy),
        Step(name="tune", minutes=10, run=tune),
        Step(name="conditions", minutes=1, run=conditions),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0: everything done; 1: a step failed, or time ran out."""
    options = _parser().parse_args(argv)
    if options.command == "pack":
        size = pack(
            options.out,
            sdist=options.sdist,
            python_version=options.python_version,
            wheels=(*WHEELS, *options.wheel),
            pip=options.pip.split(),
        )
        print(f"{options.out}: {size / 1e6:.1f} MB")
        return 0
    kit = Kit(
        work=options.work.resolve(),
        scale=SMALL if options.cpu else REAL,
        cpu=options.cpu,
        architecture=options.architecture,
        deadline=time.monotonic() + options.minutes * 60 if options.minutes else float("inf"),
        **({"bin": options.bin.resolve()} if options.bin else {}),
        **({"sources": options.sources.resolve()} if options.sources else {}),
    )
    kit.work.mkdir(parents=True, exist_ok=True)
    if (kit.work / "site").is_dir():
        sys.path.insert(0, str(kit.work / "site"))
    chosen = [step for step in steps(kit) if not options.only or step.name in options.only]
    complete = run_steps(kit, chosen, again=options.again)
    print(write_table(kit, steps(kit)))
    print(f"To carry away: {collect(kit)}")
    return 0 if complete else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="write the archive")
    packing.add_argument("--out", type=Path, default=Path("velosweep-kit.tar.xz"))
    packing.add_argument("--sdist", type=Path, help="llama-cpp-python's sdist; fetched where not given")
    packing.add_argument("--python-version", default="3.12", help="of the machine it is for")
    packing.add_argument("--wheel", action="append", default=[], help="a further package that is missing there")
    packing.add_argument("--pip", default=f"{sys.executable} -m pip", help="how pip is called")
    running = commands.add_parser("run", help="build and measure")
    running.add_argument("--work", type=Path, default=Path("velosweep-kit-work"))
    running.add_argument("--cpu", action="store_true", help="small shapes, no GPU")
    running.add_argument("--bin", type=Path, help="folder of a llama.cpp that is built already")
    running.add_argument("--sources", type=Path, help="llama.cpp's sources, where not carried along")
    running.add_argument("--architecture", help="CUDA architecture to build for, as 90; else the GPU's own")
    running.add_argument("--minutes", type=float, help="stop after this long; the next call goes on")
    running.add_argument("--only", action="append", default=[], help="only this step")
    running.add_argument("--again", action="append", default=[], help="this step even if it is done")
    return parser


if __name__ == "__main__":
    sys.exit(main())
