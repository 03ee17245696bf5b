"""`velosweep bisect BUILD…`: which build of llama.cpp, of a list in their order, is the first that is slower."""

import argparse
import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from velosweep.commands import more
from velosweep.commands.run import (
    add_measuring_flags,
    chat_template_by_default,
    file_names,
    files,
    joined,
    numbers,
    parsed,
    prompt_values,
    run_values,
    split_overrides,
)
from velosweep.config.command_words import quoted
from velosweep.config.keys import expanded
from velosweep.errors import ConfigError, ExitStatus, Interrupted, NothingMeasured
from velosweep.reporting.console import make_console, say
from velosweep.reporting.wording import interval
from velosweep.results.derived_files import analyse
from velosweep.statistics.intervals import Interval, log_ratio_interval

if TYPE_CHECKING:
    from velosweep.hydra_app.task import RunSweep

_ROUNDS = 6  # of a comparison at first, each on servers started anew: two starts of one build differ, too
_LOOKS = 3  # at a comparison, each after as many further rounds
_ERROR = 0.05  # of a wrong verdict on any build, over all looks at all comparisons

Judge = Callable[[str], bool | None]
"""Whether a build is slower than the first by more than is allowed; None where that can't be told."""


def main(argv: Sequence[str], *, run_sweep: "RunSweep | None" = None) -> int:
    """Run the command; returns the exit status. `run_sweep`: as `application.run` takes it.

    Raises ConfigError for flags that make no sense, Interrupted, and NothingMeasured where two builds could not be
    compared.
    """
    flags, overrides = split_overrides(argv)
    arguments = parsed(_parser(), flags)
    builds = list(dict.fromkeys(file_names(arguments.llama_cpp_path)))
    if len(builds) < 2:
        raise ConfigError("bisect compares two builds or more", remedy="name them from old to new: -l OLD NEW")
    if arguments.draft and not arguments.main:
        raise ConfigError("--draft is given without --main", remedy="add --main MAIN.gguf")
    bisection = _Bisection(
        builds=builds,
        share=_share(arguments.slower_by),
        root=expanded(arguments.out or datetime.now().astimezone().strftime("outputs/%Y-%m-%d/%H-%M-%S")).absolute(),
        words=[*_words(arguments, overrides), *overrides],
        argv=argv,
        run_sweep=run_sweep,
    )
    if arguments.dry_run:
        bisection.measure(builds[-1], again=False)
        return int(ExitStatus.OK)
    suspects = first_slower(builds, bisection.judge)
    tell = partial(say, make_console())
    tell()
    for build, ratio in bisection.ratios.items():
        tell(f"{build}: {ratio.ratio:.3f}× {interval(ratio.low, ratio.high)} of {builds[0]}")
    tell(bisection.answer(suspects), style="bold")
    tell(f"Sweeps:     {bisection.root}")
    return int(ExitStatus.OK)


def first_slower(builds: Sequence[str], judge: Judge) -> list[str]:
    """The builds of which one is the first that is slower: a single one where all could be told.

    Empty where the last is not slower; all but the first where that can't be told. Each is judged against the first,
    the last one before all others, these by halves; what can't be told is left aside.
    """
    last = judge(builds[-1])
    if last is not True:
        return [] if last is False else list(builds[1:])
    good, bad, unclear = 0, len(builds) - 1, set[int]()
    while untold := [place for place in range(good + 1, bad) if place not in unclear]:
        middle = untold[len(untold) // 2]
        verdict = judge(builds[middle])
        if verdict is None:
            unclear.add(middle)
        elif verdict:
            bad = middle
        else:
            good = middle
    return list(builds[good + 1 : bad + 1])


@dataclass(kw_only=True)
class _Bisection:
    """Comparisons of builds with the first, each a sweep in a folder of its own.

    `ratios`: what each build reached over the first, with an interval so wide that all looks hold together.
    """

    builds: Sequence[str]
    share: float
    root: Path
    words: Sequence[str]
    argv: Sequence[str]
    run_sweep: "RunSweep | None"
    ratios: dict[str, Interval] = field(default_factory=dict)

    def judge(self, build: str) -> bool | None:
        for look in range(_LOOKS):
            self.measure(build, again=look > 0)
            self.ratios[build] = ratio = self._ratio(build)
            if ratio.high < 1 - self.share:
                return True
            if ratio.low >= 1 - self.share:
                return False
        return None

    def measure(self, build: str, *, again: bool) -> None:
        """The first build and this one in turns, or `again` some more rounds of them."""
        from velosweep.hydra_app.application import run

        folder = self._folder(build)
        if again:
            status = more.main([str(folder), "--iterations", str(_ROUNDS), "--quiet"])
        else:
            own = [f"llama_cpp.path={quoted(self.builds[0])},{quoted(build)}", f"hydra.sweep.dir={quoted(str(folder))}"]
            status = run([*self.words, *own], run_sweep=self.run_sweep, command=("velosweep", "bisect", *self.argv))
        if status == ExitStatus.INTERRUPTED:
            named = any(word.partition("=")[0] == "--out" for word in self.argv)
            same = [*self.argv, *(() if named else ("--out", str(self.root)))]
            raise Interrupted(
                "Interrupted; what was measured stays", remedy=f"go on with: velosweep bisect {shlex.join(same)}"
            )

    def _folder(self, build: str) -> Path:
        return self.root / str(self.builds.index(build))

    def _ratio(self, build: str) -> Interval:
        """With speculation where that was measured. Raises NothingMeasured."""
        compared = [
            job.beside_first for job in analyse(self._folder(build)).comparisons if job.beside_first is not None
        ]
        found = [ratio for one in compared if (ratio := one.speculative or one.vanilla) is not None]
        if not found:
            raise NothingMeasured(
                f"{build} could not be compared with {self.builds[0]}", remedy="the reason stands above; leave it out"
            )
        looks = _LOOKS * (len(self.builds) - 1)
        return log_ratio_interval(
            math.log(found[0].ratio),
            found[0].standard_error,
            df=found[0].df,
            n=found[0].n,
            confidence=1 - _ERROR / looks,
            method=found[0].method,
        )

    def answer(self, suspects: Sequence[str]) -> str:
        """The sentence for what `first_slower` returned."""
        slower = f"slower than {self.builds[0]} by more than {self.share:.1%}"
        if not suspects:
            return f"{self.builds[-1]} is not {slower}."
        if self.ratios[self.builds[-1]].high >= 1 - self.share:
            return f"These runs can't tell whether {self.builds[-1]} is {slower}."
        if len(suspects) > 1:
            return f"The first build that is {slower} is one of these: {', '.join(suspects)}."
        return f"The first build that is {slower}: {suspects[0]}."


def _words(arguments: argparse.Namespace, overrides: Sequence[str]) -> list[str]:
    """What all comparisons have in common, in Hydra's grammar."""
    values = {
        "model_pair.main_model": files(arguments.main),
        "model_pair.draft_model": files(arguments.draft),
        "speculation": [] if arguments.draft or arguments.n_draft else ["none"],
        "n_draft": numbers(arguments.n_draft),
        "n_predict": numbers(arguments.n_predict),
        "iterations": [str(_ROUNDS)],
        "protocol.launches": [str(_ROUNDS)],
        **prompt_values(arguments.prompt, arguments.prompts),
        **chat_template_by_default(overrides),
        **run_values(arguments),
    }
    given = {override.lstrip("+~").partition("=")[0] for override in overrides}
    return ["-m", *joined({key: of_key for key, of_key in values.items() if key not in given})]


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
        "them by more than a share. Two builds at a time take turns, each round on servers started anew; what can't be "
        "told after three looks is named. With --draft or --n-draft speculative decoding is compared, else decoding "
        "without it.",
        epilog="Any other setting: KEY=VALUE, as `velosweep --help` lists them, e.g. engine.threads=8",
    )
    parser.add_argument("-m", "--main", "--main-model", "--model", nargs=1, metavar="FILE", help="main model")
    parser.add_argument("-d", "-md", "--draft", "--draft-model", nargs=1, metavar="FILE", help="draft model")
    add_measuring_flags(parser)
    parser.add_argument("--n-draft", nargs=1, metavar="N", help="tokens drafted at a time")
    parser.add_argument("--slower-by", default="5%", metavar="SHARE", help="what counts as slower (default: 5%%)")
    return parser
