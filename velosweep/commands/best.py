"""`velosweep best MODEL`: find what speeds a model up on this machine, search it, and say what to run."""

import argparse
import os
import shlex
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from velosweep.commands.run import (
    DEFAULTS,
    add_flags,
    flag_values,
    hydra_arguments,
    parsed,
    split_numbers,
    split_overrides,
)
from velosweep.config.command_words import quoted
from velosweep.config.keys import expanded, seconds
from velosweep.config.settings import EngineSettings, RunSettings
from velosweep.errors import ConfigError, ExitStatus, ModelFileError
from velosweep.models.candidates import Candidate, Misfit, find_candidates
from velosweep.models.found_models import FoundModel, list_files, read_models
from velosweep.models.hub_models import resolve_model
from velosweep.models.model_checks import check_model, did_you_mean
from velosweep.models.model_stores import StoredFile, gguf_files, home_folder
from velosweep.tuning.candidate_plan import FEW_LENGTHS, LENGTHS, CandidatePlan, RunCost, plan_candidates
from velosweep.units import plural

if TYPE_CHECKING:
    from rich.console import Console

# What --for takes, and the categories of the prompts that come with velosweep which stand for it.
_USES = {"code": ("code",), "chat": ("explanation", "writing"), "edit": ("editing",), "reason": ("reasoning",)}
_PROMPTS = 3  # fewer where the budget asks for it
_TOKENS = 100
_TOLERANCE = "0.03"  # of the best: less is not felt, and telling it takes most of a search's time


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    from velosweep.reporting.console import make_console, say

    flags, overrides = split_overrides(argv)
    arguments = parsed(_parser(), flags)
    console = make_console()

    def tell(text: str) -> None:
        if not arguments.quiet:
            say(console, text)

    if arguments.uses and arguments.prompt:
        raise ConfigError("--for chooses among prompts, and --prompt gives one", remedy="leave one of them out")
    folders = [expanded(folder) for folder in arguments.models or ()]
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"--models: no folder {folder}", remedy="name folders that hold GGUF files")
    if arguments.model is None:
        found, refused = read_models(_files([*folders, Path.cwd()]), on_progress=tell)
        return _list(found, refused, console)
    if (folder := expanded(arguments.model)).is_dir():
        folders.insert(0, folder)
        arguments.model = str(_largest_model(folder))
        tell(f"Of the models in {folder} the largest: {arguments.model} (for another: velosweep best FILE)")
    main_model = _main_model(arguments.model, folders)
    found, _ = read_models(_files([*folders, main_model.parent]), on_progress=tell)
    plan, misfits = _plan(main_model, found, arguments)
    if not arguments.quiet:
        _show_plan(plan, misfits, arguments, console)
    from velosweep.hydra_app.application import run

    return run(search_arguments(main_model, plan, arguments, overrides), typed=("velosweep", "best", *argv))


def _files(folders: Sequence[Path]) -> list[StoredFile]:
    return list(list_files(folders, home_folder(), os.environ))


def _largest_model(folder: Path) -> Path:
    """The file of the largest model in a folder and those in it. Raises ModelFileError where there is none."""
    found, refused = read_models(list(gguf_files(folder, str(folder))))
    complete = [model for model in found if model.header.head is None or not model.header.head.heads_only]
    if not complete:
        raise ModelFileError(
            "; ".join((f"There is no GGUF model in {folder}", *refused)),
            remedy="name a model's file; velosweep best lists the models that it finds",
        )
    return max(complete, key=lambda model: model.header.size_bytes).file.path


def _main_model(name: str, folders: Sequence[Path]) -> Path:
    """The file of MODEL: a path, a reference, or a model's name in a folder or a store. Raises ModelFileError."""
    if not expanded(name).exists() and "://" not in name:
        wanted = name.lower().removesuffix(".gguf")
        for file in _files(folders):
            last = file.name.lower().removesuffix(".gguf")
            if wanted in (last, last.rpartition("/")[2]):
                return file.path
    path = Path(resolve_model(name, key="MODEL"))
    if not path.exists():
        there = [file.path for file in _files([*folders, path.parent] if path.parent.is_dir() else folders)]
        meant = did_you_mean(path, there)
        raise ModelFileError(f"No model at {path}", remedy=f"{meant}velosweep best lists the models that it finds")
    return path


def _plan(
    main_model: Path, found: Sequence[FoundModel], arguments: argparse.Namespace
) -> tuple[CandidatePlan, list[Misfit]]:
    """What to search. Raises ModelFileError and ProgramError for what can't run, ConfigError for nothing to search."""
    from velosweep.llama_cpp.selection import choose_engine
    from velosweep.measuring.prepare import open_lanes

    header = check_model(main_model, key="MODEL")
    program = str(expanded(arguments.llama_server[0])) if arguments.llama_server else None
    engine = EngineSettings(program=program)
    known = choose_engine(engine, os.environ).engine.capabilities_for(None)
    candidates, misfits = find_candidates(header, found, known.kinds if known else ())
    lanes, _ = open_lanes(engine, RunSettings())
    if not candidates:
        raise ConfigError(
            f"Nothing here can speed {main_model.name} up: no draft model fits, and this llama.cpp knows no other kind",
            remedy="name folders with smaller models of its family: --models DIR",
        )
    budget_s = _budget_s(arguments)
    tokens = max((int(text) for text in split_numbers(arguments.n_predict) if text.isdigit()), default=_TOKENS)
    on_gpu = any(not lane.on_cpu for lane in lanes)
    chosen_by_person = len(arguments.prompt or ()) or (_PROMPTS if arguments.prompts else 0)
    least = max(len(_categories(arguments.uses)), 1)  # a prompt of each
    tried = [chosen_by_person] if chosen_by_person else range(max(_PROMPTS, least), least - 1, -1)
    plans = []
    for lengths, prompts in product((LENGTHS, FEW_LENGTHS), tried):
        cost = RunCost(main_model_bytes=header.size_bytes, prompts=prompts, tokens=tokens, on_gpu=on_gpu)
        plans.append(plan_candidates(candidates, cost, budget_s, lengths))

    def missing(plan: CandidatePlan) -> tuple[int, float]:
        left_out = sum(not one.p_min and one.candidate.draft is not None for one in plan.left_out)
        return left_out, max(plan.seconds, budget_s)

    return min(plans, key=missing), misfits  # the first of those within the budget that leave no more files out


def _searches(arguments: argparse.Namespace) -> int:
    """Searches that share the budget: one for each number of streams and each depth."""
    return len(split_numbers(arguments.streams) or [1]) * len(split_numbers(arguments.depth) or [0])


def _budget_s(arguments: argparse.Namespace) -> float:
    """The time of each search. Raises ConfigError for what is no time."""
    return (seconds("--budget", arguments.budget) or 0.0) / _searches(arguments)


def search_arguments(
    main_model: Path, plan: CandidatePlan, arguments: argparse.Namespace, overrides: Sequence[str]
) -> list[str]:
    """The command line of Hydra's grammar that searches the plan."""
    categories = _categories(arguments.uses)
    values = {
        **flag_values(arguments, "best"),
        "prompts.categories": [f"[{','.join(categories)}]"] if categories else [],
    }
    del values["tuner.budget"]  # of all searches
    defaults = {
        "hydra/sweeper": ["tune"],
        "tuner.budget": [f"{_budget_s(arguments):g}s"],
        "tuner.tolerance": [_TOLERANCE],
        "model_pair.main_model": [quoted(str(main_model))],
        "model_pair.name": [quoted(main_model.stem)],  # else rows were told apart by it, and not by their drafts
        "model_pair.synthetic": ["null"],  # the default pair's, beside which names of files would not count
        "n_predict": [str(_TOKENS)],
        **DEFAULTS,
        "hydra.sweeper.grids": [plan.grids],
    }
    if not (arguments.prompt or arguments.prompts):
        defaults |= {"prompts": ["mixed"], "prompts.limit": [str(plan.prompts)]}
    return ["-m", *hydra_arguments(values, defaults, overrides)]


def _categories(uses: str | None) -> tuple[str, ...]:
    """The categories of prompts for what --for says, each once. Raises ConfigError for an unknown use."""
    named = [use.strip() for use in uses.split(",")] if uses else []
    if unknown := [use for use in named if use not in _USES]:
        raise ConfigError(f"--for has {unknown[0]!r}", remedy=f"choose from {', '.join(_USES)}, or give --prompts FILE")
    return tuple(dict.fromkeys(category for use in named for category in _USES[use]))


def _show_plan(
    plan: CandidatePlan, misfits: Sequence[Misfit], arguments: argparse.Namespace, console: "Console"
) -> None:
    from velosweep.reporting.candidate_tables import plan_remarks, plan_table, short_names
    from velosweep.reporting.console import say
    from velosweep.reporting.table import print_table

    drafts = [one.candidate.draft for one in (*plan.families, *plan.left_out) if one.candidate.draft is not None]
    names = short_names([*drafts, *(misfit.model for misfit in misfits)])
    say(console, f"What may speed {Path(arguments.model).name} up, the most promising first:", style="bold")
    print_table(plan_table(plan, names), console)
    budget_s, searches = seconds("--budget", arguments.budget), _searches(arguments)
    for remark in plan_remarks(plan, misfits, names, budget_s=budget_s, searches=searches):
        say(console, remark, indent=2)
    say(console)


def _list(found: Sequence[FoundModel], refused: Sequence[str], console: "Console") -> int:
    """Print the models and which pairs fit."""
    from velosweep.reporting.candidate_tables import models_table
    from velosweep.reporting.console import say
    from velosweep.reporting.table import print_table

    if not found:
        say(console, "No GGUF model was found in this folder or in the stores of llama.cpp, Hugging Face, LM Studio")
        say(console, "and Ollama. Name a folder: velosweep best --models DIR")
        return int(ExitStatus.NOTHING_MEASURED)
    by_size = sorted(found, key=lambda model: -model.header.size_bytes)
    fits: dict[str, list[Candidate]] = {}
    for model in by_size:
        if model.header.head is None or not model.header.head.heads_only:
            fits[model.path], _ = find_candidates(model.header, found, ())
    print_table(models_table(fits, by_size), console)
    for message in refused:
        say(console, f"⚠️ {message}", style="yellow")
    say(console)
    example = next((path for path, drafts in fits.items() if any(one.draft for one in drafts)), by_size[0].path)
    say(
        console,
        f"{plural(len(found), 'model')}. To find what speeds one up: velosweep best {shlex.quote(example)}",
        whole=True,
    )
    return int(ExitStatus.OK)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="velosweep best",
        description="Find what speeds a model up here: draft models and heads that fit it, among the models of its "
        "folder and of llama.cpp's, Hugging Face's, LM Studio's and Ollama's, and the kinds of speculation that need "
        "none. Vanilla competes too. It measures for 10 minutes unless --budget says otherwise. Without MODEL: list "
        "the models found and which fit each other.",
        epilog="Any other setting: KEY=VALUE, as `velosweep --help` lists them, e.g. engine.context=8192",
    )
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="a GGUF file, a folder (its largest model), or a model's name in one of the stores",
    )
    parser.add_argument("--for", dest="uses", metavar="USE", help=f"what it is for: {', '.join(_USES)}, or several")
    parser.add_argument("--models", nargs="+", action="extend", metavar="DIR", help="further folders with models")
    add_flags(parser, "best")
    parser.set_defaults(budget="10min")
    return parser
