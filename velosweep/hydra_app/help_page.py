"""The page of `velosweep --help`, made from the schema and the files of conf/."""

import textwrap
from collections.abc import Mapping, Sequence

from velosweep.config.composing import own_conf, package_conf
from velosweep.config.schema import KEYS

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
    ("-v, -q", "say more, or results only"),
    ("--cfg job", "show the configuration instead of running (--resolve fills in ${…})"),
    ("--config-dir DIR", "a folder of YAML files, plus conf/ in the current folder"),
    ("--info searchpath", "where configuration is searched"),
    ("-sc install=SHELL", 'completion: eval "$(velosweep -sc install=bash)"'),
    ("--hydra-help", "all flags of Hydra, which reads the command line"),
    ("--version", "version"),
)
_WIDTH = 80
_KEY_COLUMN = 36
_GROUPS = ("model_pair", "prompts", "engine", "protocol", "speculation", "experiment")


def help_page(commands: Mapping[str, str]) -> str:
    """The whole page, plain text."""
    keys = [  # of a section without a type: its name and explanation
        (f"{name}={key.default_word}", f"{key.type_word}: {key.text}") if key.type_word else (name, key.text)
        for name, key in KEYS.items()
    ]
    folders = [folder for folder in (own_conf(), package_conf()) if folder]
    groups = []
    for group in _GROUPS:
        choices = {file.stem for folder in folders for file in (folder / group).glob("*.yaml")}
        if choices:
            groups.append((group, ", ".join(sorted(choices))))
    groups += [("hydra/launcher", "gpu_lanes, basic, slurm, dask"), ("hydra/sweeper", "grid, tune, basic")]
    parts = [
        "velosweep: which draft model and n_draft should I run here, is the speedup real?\n"
        "Measures llama.cpp with and without speculative decoding, over every combination\nyou name.\n",
        "  velosweep [-m] [KEY=VALUE ...]        measure\n  velosweep COMMAND ...                 see below\n",
        "Examples\n" + "".join(f"  {command}\n      {what}\n" for command, what in _EXAMPLES),
        "Commands (velosweep COMMAND --help)\n" + _columns(tuple(commands.items())),
        "Groups: GROUP=NAME takes conf/GROUP/NAME.yaml (+experiment=NAME)\n" + _columns(groups),
        "Keys, with their defaults and types (a group's file may set another default:\n"
        "velosweep --cfg job shows what holds)\n" + _columns(keys, width=_KEY_COLUMN),
        "Flags\n" + _columns(_FLAGS),
        "Exit status: 0 all measured, 1 some jobs failed, 2 refused before anything ran,\n"
        "3 nothing measured, 130 interrupted (velosweep resume DIR goes on).\n",
    ]
    return "\n".join(parts)


def _columns(rows: Sequence[tuple[str, str]], *, width: int | None = None) -> str:
    """Two columns within 80, the first `width` wide, or as its longest text; a longer one has a line of its own."""
    width = width or max(len(left) for left, _ in rows) + 2
    lines = []
    for left, right in rows:
        wrapped = textwrap.wrap(right, _WIDTH - 2 - width, break_on_hyphens=False)
        lines.append(f"  {left}" if len(left) + 2 > width else f"  {left:<{width}}{wrapped.pop(0)}")
        lines += [f"  {'':<{width}}{line}" for line in wrapped]
    return "".join(f"{line}\n" for line in lines)
