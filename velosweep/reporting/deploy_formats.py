"""A sweep's answer in the forms that servers read: a command, llama-server's router presets, llama-swap's models."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from velosweep.errors import ConfigError, NothingMeasured
from velosweep.records import SweepRecord
from velosweep.reporting.escaping import terminal_text
from velosweep.reporting.printed_command import vanilla_command
from velosweep.reporting.recommendation import recommend
from velosweep.reporting.wording import speedup_words, whole_jobs
from velosweep.statistics.comparison import Comparison

_UNBROKEN = 1 << 20  # columns: llama-swap would read a broken line as one, and people would not


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """What to run for one main model. `why`: in a line, on what ground."""

    name: str
    command: tuple[str, ...]
    why: str


def deployments(comparisons: Sequence[Comparison], record: SweepRecord) -> list[Deployment]:
    """One for each main model, by the first recommendation for it: without speculation where nothing is faster.

    The fastest comes first.

    Raises NothingMeasured where the sweep has no answer, ConfigError where no file could hold its command.
    """
    found: dict[str, tuple[float, Deployment]] = {}
    answers = [(answer.job, answer.command) for answer in recommend(comparisons, record)]
    for job, command in [*answers, *((job, None) for job in _drafted_nothing(comparisons))]:
        if job is None or job.main_model in found:
            continue
        if job.engine == "attached":
            raise ConfigError(
                "The servers were attached, and with which arguments they had been started is not known",
                remedy="start the one that is faster as it was started, or measure with engine=server",
            )
        best = "nothing was drafted" if job.drafted is False else f"the best setting was {speedup_words(job)}"
        what = speedup_words(job) if command else f"no speculation ({best})"
        where = f"{job.device}, {job.engine}, llama.cpp {job.llama_cpp_build}"
        found[job.main_model] = (
            (job.speculative_speed if command else job.vanilla_speed) or 0.0,
            Deployment(
                name=terminal_text(Path(job.main_model).stem).replace("[", "(").replace("]", ")"),
                command=_plain(tuple(shlex.split(command or vanilla_command(job, record)))),
                why=terminal_text(f"measured by velosweep: {what} on {where}"),
            ),
        )
    if not found:
        raise no_answer()
    return [deployment for _, deployment in sorted(found.values(), key=lambda entry: -entry[0])]


def _drafted_nothing(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Jobs of the main models with which no setting drafted anything: there, too, the answer is not to speculate."""
    speculating = [job for job in whole_jobs(comparisons) if job.speculation != "none"]
    others = {job.main_model for job in speculating if job.drafted is not False or job.vanilla is None}
    return [job for job in speculating if job.main_model not in others]


def no_answer() -> NothingMeasured:
    """What formats that state the answer say where there is none."""
    return NothingMeasured("The sweep has no answer: nothing could be compared", remedy="velosweep report says why")


def _plain(command: tuple[str, ...]) -> tuple[str, ...]:
    """A command whose words have no line breaks or other controls: a terminal or a server's file would act on them."""
    for word in command:
        if terminal_text(word) != word:
            raise ConfigError(
                f"The answer's command has a control character in {terminal_text(word)}", remedy="rename the file"
            )
    return command


def command_text(comparisons: Sequence[Comparison], record: SweepRecord) -> str:
    """One command a line."""
    return "".join(f"{shlex.join(one.command)}\n" for one in deployments(comparisons, record))


def preset_text(comparisons: Sequence[Comparison], record: SweepRecord) -> str:
    """An INI file for `llama-server --models-preset`: a section a model, an argument without its dashes a line."""
    lines = ["version = 1"]
    for one in deployments(comparisons, record):
        lines += ["", f"; {one.why}", f"[{one.name}]"]
        lines += [f"{flag.lstrip('-')} = {value}" for flag, value in _arguments(one.command[1:])]
    return "\n".join(lines) + "\n"


def _arguments(words: Sequence[str]) -> list[tuple[str, str]]:
    """Each flag with its value; `true` where it has none."""
    found: list[tuple[str, str]] = []
    for word in words:
        if re.match("-+[a-zA-Z]", word):  # and not a negative number
            found.append((word, "true"))
        else:
            found[-1] = (found[-1][0], word)
    return found


def llama_swap_text(comparisons: Sequence[Comparison], record: SweepRecord) -> str:
    """Entries of llama-swap's `models`, which puts its own port for ${PORT}."""
    text = "models:\n"
    for one in deployments(comparisons, record):
        program, *arguments = one.command
        entry = {one.name: {"cmd": f"{shlex.quote(program)} --port ${{PORT}} {shlex.join(arguments)}"}}
        dumped = yaml.safe_dump(entry, width=_UNBROKEN, allow_unicode=True)
        text += f"  # {one.why}\n" + "".join(f"  {line}\n" for line in dumped.splitlines())
    return text
