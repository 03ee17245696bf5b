"""`velosweep synth`: write a synthetic model pair of any shape and say how to use it."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from velosweep.config.settings import SyntheticShape
from velosweep.errors import ConfigError, ExitStatus
from velosweep.models.synthetic.pair import DEFAULT_SHAPE, PRESETS, ensure_pair, shape_from
from velosweep.units import bytes_words


def main(argv: Sequence[str]) -> int:
    """Write the pair (nothing is written where it is already) and print its paths; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="velosweep synth",
        description="Write a synthetic model pair: random weights, real times, acceptance as you choose it by eps.",
        epilog="fields: " + ", ".join(asdict(DEFAULT_SHAPE)) + "; shapes: " + ", ".join(PRESETS),
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write to; default: your cache folder")
    parser.add_argument("overrides", nargs="*", metavar="FIELD=VALUE", help="e.g. layers=32 eps=0.1 shape=8b_1b")
    arguments = parser.parse_args(argv)
    main_path, draft_path = ensure_pair(
        shape_of(arguments.overrides),
        arguments.out and arguments.out.absolute(),
        on_progress=lambda message: print(message, file=sys.stderr),  # noqa: T201
    )
    use = shlex.join(["velosweep", f"model_pair.main_model={main_path}", f"model_pair.draft_model={draft_path}"])
    sizes = [bytes_words(path.stat().st_size) for path in (main_path, draft_path)]
    sys.stdout.write(f"main model   {main_path}  ({sizes[0]})\ndraft model  {draft_path}  ({sizes[1]})\n")
    sys.stdout.write(f"\nuse them with\n  {use}\n")
    return int(ExitStatus.OK)


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
