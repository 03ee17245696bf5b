"""`velosweep init [DIR]`: a conf/ folder of one's own, to fill in."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from velosweep.config.composing import package_conf
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
            f"{target} is velosweep's own configuration, used by every folder",
            remedy="make a folder of your own: velosweep init bench",
        )
    folders = [*([package_conf()] if arguments.all else []), Path(__file__).parent / "starter"]
    files = {path.relative_to(folder).as_posix(): path for folder in folders for path in folder.rglob("*.yaml")}
    there = [name for name in sorted(files) if (target / name).exists()]
    if there and not arguments.force:
        raise ConfigError(
            f"{target} has {', '.join(there)} already", remedy="name another folder, or overwrite with --force"
        )
    for name, source in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(source.read_bytes())
    here = "" if arguments.directory == Path() else f"cd {shlex.quote(str(arguments.directory))} && "
    sys.stdout.write("".join(f"Wrote {target / name}\n" for name in sorted(files)))
    sys.stdout.write(
        f"\nNext: put your models' paths into {target / 'model_pair' / 'mine.yaml'}, then\n"
        f"  {here}velosweep +experiment=mine dry_run=true   # what it would do\n"
        f"  {here}velosweep +experiment=mine                # measure\n"
    )
    return int(ExitStatus.OK)
