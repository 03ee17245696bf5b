"""`velosweep bisect` on stand-in servers, of which two builds are slower."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

from tests.faults.harness import Bench


def test_the_first_slower_build_is_found_and_each_comparison_is_a_sweep(bench: Bench) -> None:
    builds = [str(made(bench, number, ms_per_token=2.0 if number < 2 else 4.0)) for number in range(4)]
    words = ["-m", str(bench.main_model), "-l", *builds, "-n", "20", "-p", "Why?", "--out", str(bench.root)]

    drive = bench.run("bisect", *words, "prompts.chat=false")

    assert drive.process.returncode == 0, drive.said
    assert re.search(rf"The first build that is slower than {builds[0]} by more than \d+%: {builds[2]}\.\n", drive.said)
    assert "  Iteration 1/4  🔹 vanilla" in drive.said
    assert "Build " not in drive.said  # one interval for each look, wide enough for all verdicts
    assert (
        len(re.findall(rf"{builds[3]}: 0\.\d+× \[0\.\d+, 0\.\d+] after 4 rounds, slower by more than 5%\n", drive.said))
        == 1
    )
    assert "Looking for the first that is slower by more than 2" in drive.said
    assert sum(bench.taken(bench.root / "3").values()) == 8


def test_a_build_that_does_not_start_is_passed_over_and_the_last_one_is_left_out_by_a_command(bench: Bench) -> None:
    builds = [made(bench, number, ms_per_token=2.0 if number < 2 else 4.0) for number in range(4)]
    words = ["-m", str(bench.main_model), "-l", *map(str, builds), "-n", "20", "-p", "Why?", "prompts.chat=false"]
    fails = json.dumps({**bench.control, "faults": [{"kind": "junk", "at": "load"}]})

    (builds[2].parent / "control.json").write_text(fails)
    drive = bench.run("bisect", *words, "--out", str(bench.root))
    assert drive.process.returncode == 1, drive.said
    assert f"{builds[2]}: could not be measured" in drive.said
    assert re.search(
        rf"surely slower than {builds[0]} by more than \d+%: {builds[3]}\. Unclear: {builds[2]}\.\n", drive.said
    )

    (builds[3].parent / "control.json").write_text(fails)
    several = [
        word.replace(str(builds[0]), ",".join(map(str, builds))) for word in words if word not in map(str, builds[1:])
    ]
    drive = bench.run("bisect", *several, "--out", f"{bench.root}2")

    assert drive.process.returncode == 3
    assert f"{builds[3]} could not be measured, for the reason above" in drive.said
    assert f"leave it out: velosweep bisect -m {bench.main_model} -l {' '.join(map(str, builds[:3]))} -n" in drive.said

    drive = bench.run("bisect", *words[:3], *map(str, builds[::3]), *words[7:], "--out", f"{bench.root}3")

    assert drive.process.returncode == 3
    assert drive.said.endswith("name another build\n")


def test_an_interrupted_bisection_goes_on_by_the_command_it_prints(bench: Bench) -> None:
    builds = [made(bench, number, hold=3) for number in range(2)]
    words = ["-m", str(bench.main_model), "-l", *map(str, builds), "-n", "20", "-p", "Why?", "prompts.chat=false"]
    drive = bench.start("bisect", *words, f"--out={bench.root}")
    bench.wait_for(lambda: bench.events("held") and len(bench.taken(bench.root / "1")) >= 3)
    drive.send(signal.SIGINT)
    for build in builds:
        control(bench, build.parent)
    drive.wait()
    assert drive.process.returncode == 130
    assert f"go on with: velosweep bisect -m {bench.main_model}" in drive.said

    assert bench.run("bisect", *words, f"--out={bench.root}").process.returncode == 0

    assert set(bench.taken(bench.root / "1").values()) == {1}


def made(bench: Bench, number: int, **values: float) -> Path:
    """A build in a folder of its own: the stand-in with another speed, or held."""
    folder = bench.folder / f"build{number}"
    folder.mkdir()
    control(bench, folder, **values)
    program = folder / "llama-server"
    program.write_text(f'#!/bin/sh\nSTANDIN={folder / "control.json"} exec {bench.program} "$@"\n')
    program.chmod(0o755)
    return program


def control(bench: Bench, folder: Path, **values: float) -> None:
    """Say what the servers of this build do, from their next run on."""
    beside = folder / "control.new"
    beside.write_text(json.dumps({**bench.control, **values}))
    beside.replace(folder / "control.json")
