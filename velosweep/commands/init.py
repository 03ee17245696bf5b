"""`velosweep init [DIR]`: a conf/ folder of one's own, to fill in."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from velosweep.config.search_path import package_conf
from velosweep.errors import ConfigError, ExitStatus


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit status. Writes nothing where a file would be overwritten."""
    parser = argparse.ArgumentParser(
        prog="velosweep init",
        description="Write conf/ with a model pair, prompts and an experiment of your own, to fill in. "
        "velosweep finds conf/ in the folder where it is started.",
    )
    parser.add_argument("directory", nargs="?", type=Path, default=Path(), help="where conf/ is made (default: here)")
    parser.add_argument("--all", action="store_true", help="also copy velosweep's own files, to change them")
    parser.add_argument("--force", action="store_true", help="overwrite files that are there")
    arguments = parser.parse_args(argv)
    target = arguments.directory / "conf"
    if target.resolve() == package_conf().resolve():
        raise ConfigError(
            f"{target} here is velosweep's own configuration, which every folder sees",
            remedy="make a folder of your own: velosweep init bench",
        )
    files = starter_files(everything=arguments.all)
    there = [name for name in files if (target / name).exists()]
    if there and not arguments.force:
        raise ConfigError(
            f"{target} has {', '.join(there)} already", remedy="name another folder, or overwrite with --force"
        )
    for name, text in files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    sys.stdout.write(_next_steps(arguments.directory, sorted(files)))
    return int(ExitStatus.OK)


def starter_files(*, everything: bool) -> dict[str, str]:
    """Texts by path below conf/: the starter's, and with `everything` also velosweep's own."""
    folders = [package_conf()] if everything else []
    folders.append(Path(__file__).parent / "starter")
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for folder in folders
        for path in sorted(folder.rglob("*.yaml"))
    }


def _next_steps(directory: Path, names: Sequence[str]) -> str:
    lines = [f"Wrote {directory / 'conf' / name}" for name in names]
    here = "" if directory == Path() else f"cd {shlex.quote(str(directory))} && "
    lines += [
        "",
        "Next: put your models' paths into conf/model_pair/mine.yaml, then",
        f"  {here}velosweep +experiment=mine dry_run=true   # what it would do",
        f"  {here}velosweep +experiment=mine                # measure",
    ]
    return "\n".join(lines) + "\n"
