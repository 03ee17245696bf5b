"""`velosweep bisect BUILD…`: which build of llama.cpp, of a list in their order, is the first that is slower."""

import argparse
import math
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

from velosweep.commands.resume import saved_sweep
from velosweep.commands.run import (
    DEFAULTS,
    add_flags,
    file_names,
    flag_values,
    hydra_arguments,
    is_several,
    parsed,
    refuse_lone_draft,
    split_overrides,
)
from velosweep.config.command_words import quoted
from velosweep.config.keys import expanded
from velosweep.config.settings import EngineSettings
from velosweep.errors import ConfigError, ExitStatus, Interrupted, NothingMeasured
from velosweep.llama_cpp.selection import choose_engine
from velosweep.reporting.console import SILENT, make_console, say
from velosweep.reporting.wording import interval
from velosweep.results.derived_files import analyse
from velosweep.statistics.bisection import LOOKS, Bisection, BuildVerdict, Look
from velosweep.statistics.intervals import Interval

_ROUNDS = LOOKS[0]  # at a time, each on servers started anew: two starts of one build differ, too


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status.

    Raises ConfigError for flags that make no sense, ProgramError for what is no llama.cpp, Interrupted, and
    NothingMeasured where the first or the last build could not be measured.
    """
    flags, overrides = split_overrides(argv)
    arguments = parsed(_parser(), flags)
    builds = list(dict.fromkeys(file_names(arguments.llama_server)))
    if len(builds) < 2:
        raise ConfigError("bisect compares two builds or more", remedy="name them from old to new: -l OLD NEW")
    refuse_lone_draft(arguments, overrides)
    sweeps = _BuildSweeps(
        builds=builds,
        root=expanded(arguments.out or datetime.now().astimezone().strftime("outputs/%Y-%m-%d/%H-%M-%S")).absolute(),
        words=_words(arguments, overrides),
        argv=argv,
    )
    share = None if arguments.slower_by is None else _share(arguments.slower_by)
    for build in builds:  # before any is measured
        choose_engine(EngineSettings(program=str(expanded(build))), os.environ)
    if arguments.dry_run:
        sweeps.measure(builds[-1], LOOKS[0])
        return int(ExitStatus.OK)
    tell = partial(say, make_console())
    bisection = Bisection(builds=builds, compare=sweeps.compare, share=share)
    bisection.on_look = lambda look: _tell_look(look, bisection, tell, quiet=arguments.quiet)
    suspects = bisection.suspects()
    for line in _answer(bisection, suspects, sweeps):
        tell(line, style="bold", whole=line.startswith(" "))
    tell(f"Sweeps:     {sweeps.root}")
    failed = any(look.verdict is BuildVerdict.FAILED for look in bisection.looks.values())
    return int(ExitStatus.SOME_FAILED if failed else ExitStatus.OK)


@dataclass(frozen=True, kw_only=True)
class _BuildSweeps:
    """Comparisons of builds with the first, each a sweep in a folder of its own."""

    builds: Sequence[str]
    root: Path
    words: Sequence[str]
    argv: Sequence[str]

    def compare(self, build: str, rounds: int) -> Interval | None:
        """The ratio of a build to the first after so many rounds, with speculation where that was measured.

        None where the build could not be measured. Raises NothingMeasured where bisecting can't go on without it.
        """
        self.measure(build, rounds)
        results = analyse(self._folder(build))
        compared = [job.beside_first for job in results.comparisons if job.beside_first is not None]
        found = [ratio for one in compared if (ratio := one.speculative or one.vanilla) is not None]
        if found:
            return found[0]
        measured = {job.job_id for job in results.comparisons if job.vanilla or job.speculative}
        culprit = build if results.record.jobs[0].id in measured else self.builds[0]
        if culprit in (self.builds[0], self.builds[-1]):
            rest = f"leave it out: {self.again(without=culprit)}" if len(self.builds) > 2 else "name another build"
            raise NothingMeasured(f"{culprit} could not be measured, for the reason above", remedy=rest)
        return None

    def measure(self, build: str, rounds: int) -> None:
        """The first build and this one in turns, until there are so many rounds of both."""
        from velosweep.hydra_app.application import run

        folder, shown = self._folder(build), build == self.builds[-1]
        if rounds == LOOKS[0]:
            own = [f"llama_cpp.path={quoted(self.builds[0])},{quoted(build)}", f"hydra.sweep.dir={quoted(str(folder))}"]
            changes = {"tells_results": False} if shown else {"verbosity": SILENT}
            self._go_on(run([*self.words, *own], typed=("velosweep", "bisect", *self.argv), changes=changes))
            return
        begun = len(saved_sweep(folder).jobs[0].added)
        for times in range(max(begun, 1), rounds // _ROUNDS):
            saved = saved_sweep(folder)
            jobs = [replace(job, added=(_ROUNDS,) * times) for job in saved.jobs]
            self._go_on(saved.measure_rest(jobs, verbosity=SILENT))

    def again(self, *, share: float | None = None, without: str | None = None) -> str:
        """The command that goes on in the same folders, with another share or `without` a build."""
        words = [one for word in self.argv for one in self._builds_of(word) or [word] if one != without]
        if share and "--slower-by" in words:
            del words[(place := words.index("--slower-by")) : place + 2]
        named = any(word.partition("=")[0] == "--out" for word in words)
        words += [] if named or without else ["--out", str(self.root)]
        return f"velosweep bisect {shlex.join([*words, *(['--slower-by', f'{share:.0%}'] if share else [])])}"

    def _folder(self, build: str) -> Path:
        return self.root / str(self.builds.index(build))

    def _go_on(self, status: int) -> None:
        if status == ExitStatus.INTERRUPTED:
            raise Interrupted("Interrupted; what was measured stays", remedy=f"go on with: {self.again()}")

    def _builds_of(self, word: str) -> list[str]:
        """The builds that a word of the command line stands for: a path, several with commas, or a pattern."""
        try:
            found = file_names([word])
        except ConfigError:  # a pattern without a match: a prompt, say
            return []
        return found if set(found) <= set(self.builds) else []


def _tell_look(look: Look, bisection: Bisection, tell: Callable[..., None], *, quiet: bool) -> None:
    """A line of a look at a build, and where the search among those before it begins."""
    if quiet and not look.last:
        return
    said = look.verdict.value if look.last else "not clear yet"
    if look.verdict in (BuildVerdict.SLOWER, BuildVerdict.NOT_SLOWER):
        said += f" by more than {_percent(look.share)}"
    if look.ratio is not None:
        limits = interval(look.ratio.low, look.ratio.high)
        said = f"{look.ratio.ratio:.3f}× {limits} after {look.ratio.n} rounds, {said}"
    tell(f"{look.build}: {said}")
    if bisection.slower_by > look.share and not quiet:
        by = _percent(bisection.slower_by)
        tell(f"Looking for the first that is slower by more than {by}, at most half of that (--slower-by sets it)")


def _answer(bisection: Bisection, suspects: Sequence[str], sweeps: _BuildSweeps) -> Iterator[str]:
    """The sentences for what a bisection found."""
    first, last = bisection.builds[0], bisection.builds[-1]
    slower = f"slower than {first} by more than {_percent(bisection.slower_by)}"
    if not suspects:
        between = ", and those between were not measured" if len(bisection.builds) > 2 else ""
        yield f"{last} is not {slower}{between}."
        return
    if bisection.looks[last].verdict is BuildVerdict.UNCLEAR:
        yield f"These runs can't tell whether {last} is {slower}."
    elif len(suspects) == 1:
        yield f"The first build that is {slower}: {suspects[0]}."
    else:
        before = suspects[0] if len(suspects) == 2 else f"{suspects[0]} to {suspects[-2]}"
        yield f"The first build that is surely {slower}: {suspects[-1]}. Unclear: {before}."
    if any(look.verdict is BuildVerdict.UNCLEAR for build, look in bisection.looks.items() if build in suspects):
        share = bisection.clear_share(suspects)
        surer = "Surer:      close other programs, take longer runs (-n 300)"
        yield f"{surer}, or raise --slower-by, same runs:" if share else surer
        if share:
            yield f"            {sweeps.again(share=share)}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _words(arguments: argparse.Namespace, overrides: Sequence[str]) -> list[str]:
    """What all comparisons have in common, in Hydra's grammar. Raises ConfigError for several values of a key."""
    values = flag_values(arguments, "bisect")
    for key in ("llama_cpp.path", "hydra.sweep.dir"):  # of each comparison its own
        values.pop(key, None)
    several = [key for key, of_key in values.items() if len(of_key) > 1]
    if several := several + [word.partition("=")[0] for word in overrides if is_several(word)]:
        raise ConfigError(f"{several[0]} has several values, and bisect compares builds at one", remedy="give one")
    defaults = {
        "speculation": [] if arguments.draft or arguments.n_draft else ["none"],
        "iterations": [str(_ROUNDS)],
        "protocol.launches": [str(_ROUNDS)],
        **DEFAULTS,
    }
    return ["-m", *hydra_arguments(values, defaults, overrides)]


def _share(text: str) -> float:
    """`5%` or `0.05`. Raises ConfigError."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 < share < 1:
        raise ConfigError(f"--slower-by is {text}", remedy="give a share such as 5%")
    return share


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="velosweep bisect",
        usage="velosweep bisect --main MODEL.gguf -l OLD … NEW [--slower-by 5%%] …",
        description="Find the first build of llama.cpp, of a list from old to new, that is slower than the first of "
        "them by more than a share. Two builds at a time take turns for 4 to 32 rounds, each on servers started anew; "
        "what is unclear then is named. With --draft or --n-draft speculative decoding is compared, else decoding "
        "without it.",
        epilog="Any other setting: KEY=VALUE, as `velosweep --help` lists them, e.g. engine.threads=8",
    )
    add_flags(parser, "bisect")
    parser.add_argument(
        "--slower-by",
        metavar="SHARE",
        help="what counts as slower (default: 5%% for the last build, about half of its loss for those between)",
    )
    return parser
