"""The page of `velosweep --help`, made from the schema and the files of conf/."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from velosweep.config.schema import walk_keys
from velosweep.config.search_path import own_conf, package_conf

_EXAMPLES = (
    ("velosweep", "one job: the synthetic pair, vanilla against speculative"),
    ("velosweep -m n_draft=4,8,12", "a sweep, sharing one vanilla series"),
    ("velosweep -m 'n_draft=range(2,17,2)' model_pair=llama8b_1b", "over a pair of your own"),
    ("velosweep model_pair.main_model=BIG.gguf model_pair.draft_model=SMALL.gguf", "two files, no YAML"),
    ("velosweep 'prompt=\"Tell me, briefly, of Ada\"'", "a text with commas: quotes within quotes"),
    ("velosweep -m +experiment=ndraft_grid", "a whole sweep from one YAML file"),
    ("velosweep -m n_draft=4,8 dry_run=true", "print the plan, run nothing"),
    ("velosweep llama_cpp.path=/path/to/llama.cpp", "your own build of llama.cpp"),
)
_FLAGS = (
    ("-m, --multirun", "measure every combination of the values named"),
    ("--cfg job", "show the configuration instead of running (--resolve fills in ${…})"),
    ("--config-dir DIR", "a folder of YAML files, beside conf/ in the current folder"),
    ("--info searchpath", "where configuration is looked for"),
    ("-sc install=SHELL", 'completion: eval "$(velosweep -sc install=bash)"'),
    ("--hydra-help", "all flags of Hydra, which reads the command line"),
    ("--version", "version"),
)
_GROUPS = ("model_pair", "prompts", "engine", "protocol", "speculation", "experiment")


def help_page(verbs: Mapping[str, str]) -> str:
    """The whole page, plain text."""
    parts = [
        "velosweep: which draft model and n_draft should I run here, and is the speedup real?\n"
        "Measures llama.cpp with and without speculative decoding, over every combination you name.\n",
        "  velosweep [-m] [KEY=VALUE ...]        measure\n  velosweep COMMAND ...                 see below\n",
        "Examples\n" + _columns(_EXAMPLES, apart=True),
        "Commands (velosweep COMMAND --help)\n" + _columns(tuple(verbs.items())),
        "Groups: GROUP=NAME takes conf/GROUP/NAME.yaml (+experiment=NAME)\n" + _columns(tuple(_groups())),
        "Keys\n" + _columns(tuple(walk_keys())),
        "Flags\n" + _columns(_FLAGS),
        "Exit status: 0 all measured, 1 some jobs failed, 2 refused before anything ran, 3 nothing measured,\n"
        "130 interrupted (velosweep resume DIR goes on).\n",
    ]
    return "\n".join(parts)


def _columns(rows: tuple[tuple[str, str], ...], *, apart: bool = False) -> str:
    """Two columns; `apart` puts the explanation on a line of its own, for long first columns."""
    if apart:
        return "".join(f"  {left}\n      {right}\n" for left, right in rows)
    width = max(len(left) for left, _ in rows) + 2
    return "".join(f"  {left:<{width}}{right}\n" for left, right in rows)


def _groups() -> list[tuple[str, str]]:
    """Each group with its choices, the person's own included."""
    folders = [folder for folder in (own_conf(), package_conf()) if folder]
    found = [(group, ", ".join(_choices(folders, group))) for group in _GROUPS]
    return [
        *((group, choices) for group, choices in found if choices),
        ("hydra/launcher", "gpu_lanes, basic, joblib, slurm, dask"),
        ("hydra/sweeper", "grid, tune, basic"),
    ]


def _choices(folders: list[Path], group: str) -> list[str]:
    return sorted({file.stem for folder in folders for file in (folder / group).glob("*.yaml")})
