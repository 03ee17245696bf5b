"""`velosweep synth`: write a synthetic model pair of any shape and say how to use it."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from velosweep.config.settings import SyntheticShape
from velosweep.errors import ConfigError, ExitStatus
from velosweep.models.synthetic.pair import DEFAULT_SHAPE, FILES, PRESETS, ensure_files, shape_from
from velosweep.units import bytes_words


def main(argv: Sequence[str]) -> int:
    """Write the models (existing files are kept) and print their paths; returns the exit status."""
    heads = [kind for kind in FILES if kind != "draft"]
    parser = argparse.ArgumentParser(
        prog="velosweep synth",
        description="Write a synthetic model pair: random weights, real times, acceptance set by eps.",
        epilog="fields: " + ", ".join(asdict(DEFAULT_SHAPE)) + "; shapes: " + ", ".join(PRESETS),
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write to; default: your cache folder")
    parser.add_argument(
        "--heads",
        action="append",
        choices=[*heads, "all"],
        default=[],
        metavar="KIND",
        help=f"also the heads of a kind of speculation: {', '.join(heads)}, or all",
    )
    parser.add_argument("overrides", nargs="*", metavar="FIELD=VALUE", help="e.g. layers=32 eps=0.1 shape=8b_1b")
    arguments = parser.parse_args(argv)
    shape, folder = shape_of(arguments.overrides), arguments.out and arguments.out.absolute()

    def ensure(kind: str) -> tuple[Path, ...]:
        return ensure_files(shape, kind, folder, lambda message: print(message, file=sys.stderr))  # noqa: T201

    main_path, draft_path = ensure("draft")
    _say_file("main model", main_path)
    _say_file("draft model", draft_path)
    uses = [_use("draft", main_path, draft_path)]
    for kind in heads if "all" in arguments.heads else dict.fromkeys(arguments.heads):
        paths = ensure(kind)
        if kind == "draft-mtp":
            _say_file("MTP main model", paths[0])
            uses += [_use(kind, paths[0]), _use(kind, *paths)]
        else:
            uses.append(_use(kind, main_path, paths[0]))
        _say_file(kind, paths[-1])
    sys.stdout.write("\nuse them with\n" + "".join(f"  {use}\n" for use in uses))
    return int(ExitStatus.OK)


def _say_file(what: str, path: Path) -> None:
    sys.stdout.write(f"{what:15}{path}  ({bytes_words(path.stat().st_size)})\n")


def _use(kind: str, main_path: Path, draft_path: Path | None = None) -> str:
    words = ["velosweep", *([] if kind == "draft" else [f"speculation={kind}"]), f"model_pair.main_model={main_path}"]
    return shlex.join([*words, *([f"model_pair.draft_model={draft_path}"] if draft_path else [])])


def shape_of(overrides: Sequence[str]) -> SyntheticShape:
    """The shape that `field=value` texts ask for, from `shape=PRESET` on. Raises ConfigError."""
    values: dict[str, str] = {}
    for override in overrides:
        name, equals, value = override.partition("=")
        if not equals:
            raise ConfigError(f"velosweep synth can't read {override!r}", remedy="write field=value, e.g. layers=8")
        values[name.removeprefix("model_pair.synthetic.")] = value
    preset = values.pop("shape", "default")
    if preset not in PRESETS:
        raise ConfigError(f"There is no shape {preset!r}", remedy="choose one of " + ", ".join(PRESETS))
    return shape_from(values, PRESETS[preset])
