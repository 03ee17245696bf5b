"""`velosweep bisect BUILD…`: which build of llama.cpp, of a list in their order, is the first that is slower."""

import argparse
import math
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
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
from velosweep.statistics.intervals import Interval

_ROUNDS = (4, 4, 8)  # of each look at a comparison, on servers started anew: two starts of one build differ, too
_ERROR = 0.05  # of a wrong verdict on any build, over all looks at all comparisons


class BuildVerdict(Enum):
    """Whether a build is slower than the first by more than is allowed, as the screen has it."""

    SLOWER = "slower"
    NOT_SLOWER = "not slower"
    UNCLEAR = "these runs can't tell"
    FAILED = "could not be measured"


Judge = Callable[[str], BuildVerdict]


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
    if arguments.draft and not arguments.main:
        raise ConfigError("--draft is given without --main", remedy="add --main MAIN.gguf")
    bisection = _Bisection(
        builds=builds,
        share=_share(arguments.slower_by),
        root=expanded(arguments.out or datetime.now().astimezone().strftime("outputs/%Y-%m-%d/%H-%M-%S")).absolute(),
        words=_words(arguments, overrides),
        argv=argv,
    )
    for build in builds:  # before any is measured
        choose_engine(EngineSettings(program=str(expanded(build))), os.environ)
    if arguments.dry_run:
        bisection.measure(builds[-1], look=0)
        return int(ExitStatus.OK)
    suspects = first_slower(builds, bisection.judge)
    for line in bisection.answer(suspects):
        bisection.tell(line, style="bold", whole=line.startswith(" "))
    bisection.tell(f"Sweeps:     {bisection.root}")
    failed = BuildVerdict.FAILED in bisection.verdicts.values()
    return int(ExitStatus.SOME_FAILED if failed else ExitStatus.OK)


def first_slower(builds: Sequence[str], judge: Judge) -> list[str]:
    """The builds among which is the first slower one (the last is surely slower); just one where all was clear.

    Empty where the last is not slower; all but the first where that can't be told. Each is judged against the first,
    the last one before all others, these by halves. After an unclear one only later ones are judged: runs
    that can't tell it can hardly tell those before it. One that failed is passed over.
    """
    last = judge(builds[-1])
    if last is not BuildVerdict.SLOWER:
        return [] if last is BuildVerdict.NOT_SLOWER else list(builds[1:])
    good, low, bad, failed = 0, 0, len(builds) - 1, set[int]()
    while left := [place for place in range(low + 1, bad) if place not in failed]:
        middle = left[len(left) // 2]
        verdict = judge(builds[middle])
        if verdict is BuildVerdict.FAILED:
            failed.add(middle)
        elif verdict is BuildVerdict.SLOWER:
            bad = middle
        else:
            low = middle
            good = middle if verdict is BuildVerdict.NOT_SLOWER else good
    return list(builds[good + 1 : bad + 1])


@dataclass(kw_only=True)
class _Bisection:
    """Comparisons of builds with the first, each a sweep in a folder of its own.

    `ratios`: what each build reached over the first, with an interval so wide that all verdicts hold together.
    """

    builds: Sequence[str]
    share: float
    root: Path
    words: Sequence[str]
    argv: Sequence[str]
    ratios: dict[str, Interval] = field(default_factory=dict)
    verdicts: dict[str, BuildVerdict] = field(default_factory=dict)
    tell: Callable[..., None] = field(default_factory=lambda: partial(say, make_console()))

    def judge(self, build: str) -> BuildVerdict:
        """Look at a build until it can be told, and say so. Raises NothingMeasured, Interrupted."""
        if self.verdicts:
            self.tell(f"{build} against {self.builds[0]} …")
        verdict = BuildVerdict.UNCLEAR
        for look in range(len(_ROUNDS)):
            self.measure(build, look=look)
            verdict = self._verdict(build)
            if verdict is not BuildVerdict.UNCLEAR:
                break
        self.verdicts[build] = verdict
        ratio = self.ratios.get(build)
        told = f"{ratio.ratio:.3f}× {interval(ratio.low, ratio.high)}, " if ratio else ""
        self.tell(f"{build}: {told}{verdict.value}")
        return verdict

    def measure(self, build: str, *, look: int) -> None:
        """The first build and this one in turns, or at a further look some more rounds of them."""
        from velosweep.hydra_app.application import run

        folder = self.root / str(self.builds.index(build))
        if look:
            saved = saved_sweep(folder)
            jobs = [replace(job, added=_ROUNDS[1 : look + 1]) for job in saved.jobs]
            status = saved.measure_rest(jobs, verbosity=SILENT)
        else:
            own = [f"llama_cpp.path={quoted(self.builds[0])},{quoted(build)}", f"hydra.sweep.dir={quoted(str(folder))}"]
            verbosity = SILENT if self.verdicts else None  # the results are told here
            status = run([*self.words, *own], verbosity=verbosity, typed=("velosweep", "bisect", *self.argv))
        if status == ExitStatus.INTERRUPTED:
            raise Interrupted("Interrupted; what was measured stays", remedy=f"go on with: {self._again()}")

    def _again(self, *, share: float | None = None, without: str | None = None) -> str:
        """The command that goes on in the same folders, with another share or `without` a build."""
        words = [one for word in self.argv for one in self._builds_of(word) or [word] if one != without]
        if share and "--slower-by" in words:
            del words[(place := words.index("--slower-by")) : place + 2]
        named = any(word.partition("=")[0] == "--out" for word in words)
        words += [] if named or without else ["--out", str(self.root)]
        return f"velosweep bisect {shlex.join([*words, *(['--slower-by', f'{share:.0%}'] if share else [])])}"

    def _builds_of(self, word: str) -> list[str]:
        """The builds that a word of the command line stands for: a path, several with commas, or a pattern."""
        try:
            found = file_names([word])
        except ConfigError:  # a pattern without a match: a prompt, say
            return []
        return found if set(found) <= set(self.builds) else []

    def _verdict(self, build: str) -> BuildVerdict:
        """With speculation where that was measured. Raises NothingMeasured."""
        results = analyse(self.root / str(self.builds.index(build)))
        compared = [job.beside_first for job in results.comparisons if job.beside_first is not None]
        found = [ratio for one in compared if (ratio := one.speculative or one.vanilla) is not None]
        if not found:
            measured = {job.job_id for job in results.comparisons if job.vanilla or job.speculative}
            culprit = build if results.record.jobs[0].id in measured else self.builds[0]
            if culprit in (self.builds[0], self.builds[-1]):
                rest = f"leave it out: {self._again(without=culprit)}" if len(self.builds) > 2 else "name another build"
                raise NothingMeasured(f"{culprit} could not be measured, for the reason above", remedy=rest)
            return BuildVerdict.FAILED
        # Of both limits only one can mislead about a build. As many are judged as halving takes.
        most = len(_ROUNDS) * (1 + math.ceil(math.log2(len(self.builds) - 1)))
        self.ratios[build] = ratio = found[0].at(1 - 2 * _ERROR / most)
        if ratio.high < 1 - self.share:
            return BuildVerdict.SLOWER
        return BuildVerdict.NOT_SLOWER if ratio.low >= 1 - self.share else BuildVerdict.UNCLEAR

    def answer(self, suspects: Sequence[str]) -> Iterator[str]:
        """The sentences for what `first_slower` returned."""
        first, last = self.builds[0], self.builds[-1]
        slower = f"slower than {first} by more than {100 * self.share:.3g}%"
        if not suspects:
            between = ", and those between were not measured" if len(self.builds) > 2 else ""
            yield f"{last} is not {slower}{between}."
            return
        unclear = [build for build in self.builds if self.verdicts.get(build) is BuildVerdict.UNCLEAR]
        if last in unclear:
            yield f"These runs can't tell whether {last} is {slower}."
        elif len(suspects) == 1:
            yield f"The first build that is {slower}: {suspects[0]}."
        else:
            before = suspects[0] if len(suspects) == 2 else f"{suspects[0]} to {suspects[-2]}"
            yield f"The first build that is surely {slower}: {suspects[-1]}. Unclear: {before}."
        if unclear:
            share = math.ceil(100 * (1 - min(self.ratios[build].low for build in unclear)) + 0.5) / 100
            surer = "Surer:      close other programs, take longer runs (-n 300)"
            yield f"{surer}, or raise --slower-by, same runs:" if share < 1 else surer
            if share < 1:
                yield f"            {self._again(share=share)}"


def _words(arguments: argparse.Namespace, overrides: Sequence[str]) -> list[str]:
    """What all comparisons have in common, in Hydra's grammar."""
    values = flag_values(arguments, "bisect")
    for key in ("llama_cpp.path", "hydra.sweep.dir"):  # of each comparison its own
        values.pop(key, None)
    several = [key for key, of_key in values.items() if len(of_key) > 1]
    if several := several + [word.partition("=")[0] for word in overrides if is_several(word)]:
        raise ConfigError(f"{several[0]} has several values, and bisect compares builds at one", remedy="give one")
    defaults = {
        "speculation": [] if arguments.draft or arguments.n_draft else ["none"],
        "iterations": [str(_ROUNDS[0])],
        "protocol.launches": [str(_ROUNDS[0])],
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
        "them by more than a share. Two builds at a time take turns, each round on servers started anew; what is "
        "unclear after three looks is named. With --draft or --n-draft speculative decoding is compared, else decoding "
        "without it.",
        epilog="Any other setting: KEY=VALUE, as `velosweep --help` lists them, e.g. engine.threads=8",
    )
    add_flags(parser, "bisect")
    parser.add_argument("--slower-by", default="5%", metavar="SHARE", help="what counts as slower (default: 5%%)")
    return parser
