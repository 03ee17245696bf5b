"""What a person reads after a sweep, in the specification's words and layout; the recommendation."""

import shlex
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from velosweep.measuring.dispatch import MeasuringOutcome
from velosweep.reporting.console import NORMAL, QUIET, SILENT, VERBOSE, height, near, say
from velosweep.reporting.finding_text import grouped_findings
from velosweep.reporting.printed_command import command_remarks
from velosweep.reporting.recommendation import Recommendation, answered_jobs
from velosweep.reporting.request_words import request_words
from velosweep.reporting.result_tables import searched_candidates, summary_table, with_failed
from velosweep.reporting.speedup_hints import target_reasons
from velosweep.reporting.sweep_answers import SweepAnswers, sweep_answers
from velosweep.reporting.table import print_table
from velosweep.reporting.terminal_details import print_details, print_single
from velosweep.reporting.wording import failure_sentences, first_few, names_of, whole_jobs
from velosweep.reporting.workload_map import workload_table
from velosweep.results.derived_files import SweepResults
from velosweep.results.journal import sweep_writer
from velosweep.results.loading import sweeps_by_age
from velosweep.results.paths import SweepPaths
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.ranking import best_estimate
from velosweep.units import plural

if TYPE_CHECKING:
    from rich.console import Console


MOST_LINES = 12
# What goes first where the end would be longer; the report and -v have all of it.
_QUIET = "quiet"  # what goes on request
_LEFT_OUT = ("hints", "commands", "sureness", "costs", "answers")


def resume_command(root: Path) -> str:
    """The command that resumes the sweep in `root`."""
    return f"velosweep resume {shlex.quote(near(root))}"


def _named(root: Path) -> str:
    """The sweep's folder as commands take it: `last` where that is this one."""
    latest = sweeps_by_age(Path.cwd())[-1:]
    return "last" if latest == [root.absolute()] else shlex.quote(near(root))


def print_end(derived: SweepResults, measured: MeasuringOutcome, console: "Console", *, verbosity: int) -> None:
    """The results of a sweep that has just ended, and why some are missing."""
    if measured.nothing_left and verbosity > QUIET:
        say(console, "Nothing was left to measure: this sweep is finished")
    if measured.interrupted and not derived.sample_count:
        go_on = f"Go on with: {resume_command(derived.root)}"
        say(console, f"Interrupted before anything was measured. {go_on}", whole=True)
        return
    told = () if measured.display_error else [job_id for job_id, (_, why) in measured.states.items() if why]
    print_results(derived, console=console, verbosity=verbosity, interrupted=measured.interrupted, failures_told=told)
    if measured.display_error:
        say(console, f"The progress display failed and was switched off: {measured.display_error}")


class _Line(NamedTuple):
    """A line of the end. `whole`: it holds what is to be pasted, and is not wrapped at words.

    `shorter`: by the part that is left out (_QUIET, or of _LEFT_OUT), what then stands there, if anything.
    """

    text: str
    style: str | None = None
    whole: bool = False
    shorter: Mapping[str, str] = MappingProxyType({})

    def without(self, parts: Sequence[str]) -> "_Line":
        """The line where these parts are left out, the last of them being the most telling."""
        known = [self.shorter[part] for part in parts if part in self.shorter]
        return self._replace(text=known[-1]) if known else self


def print_results(
    derived: SweepResults,
    *,
    console: "Console",
    verbosity: int = NORMAL,
    ended: bool = True,
    interrupted: bool = False,
    failures_told: Collection[str] = (),
) -> None:
    """The end of a sweep in a dozen lines: the answer, the settings against vanilla, what to do next, where all is.

    A single job comes in the specification's layout. When verbose all else is above. `ended`: just now, and where its
    results are is news. `failures_told`: ids of jobs whose failures are on the screen already.
    """
    if verbosity <= SILENT:
        for line in _failures(derived, failures_told):
            say(console, line.text)
        return
    record, answers = derived.record, sweep_answers(derived.comparisons, derived.record, derived.samples)
    jobs, found, loads = answers.jobs, answers.recommendations, answers.loads
    single = record.single and len(jobs) == 1
    say(console)
    if verbosity >= VERBOSE:
        print_details(derived, found, console)
    if single:
        print_single(jobs[0], record, console)
    told = [answer for answer in found if answer.command][:1] or found[:1] if loads else found
    above = list(_answers(answers, single=single))
    steps = [*_next_steps(told, answers, derived.root), *_further_steps(told, answers, derived.root, interrupted)]
    below = [*_failures(derived, failures_told), *steps, *_places(derived, jobs, verbosity, ended=ended)]
    answered, room = len(answered_jobs(found)), _room(answers)
    for left_out in range(len(_LEFT_OUT) + 1):
        parts = (*([_QUIET] if verbosity <= QUIET else []), *_LEFT_OUT[:left_out])
        before, after = ([shown for line in lines if (shown := line.without(parts)).text] for lines in (above, below))
        taken = sum(height(console, line.text, whole=line.whole) for line in (*before, *after))
        if loads or single or taken + (len(jobs) if not left_out else answered + (len(jobs) > answered)) <= room:
            break
    for line in before:
        say(console, line.text, style=line.style)
    if loads:
        print_table(workload_table(answers.of_loads, jobs), console)
    elif jobs and not single:
        _print_table(answers, failures_told, max(room - taken, answered + 1), console)
    for line in after:
        say(console, line.text, whole=line.whole)


def _room(answers: SweepAnswers) -> int:
    """Lines beside a blank one, the table's titles and its rows of vanilla."""
    baselines = answers.record.baselines
    return MOST_LINES - 2 - len({baselines.get(job.job_id) for job in answers.jobs if job.vanilla is not None})


def _answers(answers: SweepAnswers, *, single: bool) -> Iterator[_Line]:
    """What is said above the table; of a single job only what the specification's layout doesn't say."""
    yield from (_Line(sentence, "bold") for sentence in (*answers.builds, *(load.text for load in answers.loads)))
    summed_up = answers.loads or (answers.builds and all(job.speculative is None for job in answers.jobs))
    told = () if summed_up else answers.recommendations
    for answer in told:
        if not single or answer.kind == "nothing":
            text = f"{answer.question}: {answer.headline}." if answer.question else f"{answer.headline}."
            shorter = {"answers": ""} if answers.fastest else {}
            if len(told) > 1:
                shorter["sureness"] = f"{text} Weak evidence." if answer.is_weak else text
            style = "bold green" if answer.kind == "run" else "bold yellow"
            yield _Line(f"{text} {answer.sureness}".rstrip(), style, shorter=shorter)
    yield from (_Line(sentence, "bold", shorter={"sureness": brief}) for brief, sentence in answers.fastest)


def _places(derived: SweepResults, jobs: Sequence[Comparison], verbosity: int, *, ended: bool) -> Iterator[_Line]:
    """Where the report and other files are, and how many remarks it has."""
    record = derived.record
    remarks = sum(advice.rank < 3 for advice, _ in grouped_findings(jobs, names_of(jobs).labels, record))
    page = SweepPaths(derived.root).report
    where = near(page) if ended or page.is_file() else "not written"
    shown_by = f"  ({plural(remarks, 'remark')}: report {_named(derived.root)} -v)"
    more = shown_by if remarks and verbosity == NORMAL else ""
    if record.single or not jobs:
        yield _Line(f"📈 Report: {where}{more}", whole=True)
        if ended:
            yield _Line(f"💾 Results saved to: {near(derived.root)}", whole=True)
    else:
        yield _Line(f"Report:     {where}{more}", whole=True)
    for output in dict.fromkeys(job.output for job in record.jobs if job.output and Path(job.output).is_file()):
        yield _Line(f"💾 Summary saved to: {near(Path(output))}", whole=True)


def _print_table(answers: SweepAnswers, failures_told: Collection[str], room: int, console: "Console") -> None:
    """Print titles, vanilla and at most `room` lines of jobs: all of them, or the best few and in one line the rest.

    Those that failed are named below the table and need no row there.
    """
    record, jobs = answers.record, with_failed(answers.jobs, answers.record)
    ids = answered_jobs(answers.recommendations).keys()
    failed = {job.id for job in record.jobs if job.state == "failed"}
    plain = {job.job_id for job in jobs if job.speculation == "none"}
    searched = searched_candidates(record)

    def rank(job: Comparison) -> tuple[bool, bool, float]:
        found = searched.get(job.job_id)
        return (job.job_id not in ids, job.drafted is False, -((found.measured if found else best_estimate(job)) or 0))

    ranked = sorted((job for job in jobs if job.job_id not in failed | plain), key=rank)
    shown = ranked if len(ranked) <= room else ranked[: room - 1]
    kept = plain | {job.job_id for job in shown} | (failed if len(ranked) + len(failed) <= room else set())
    where = "see above" if failed and failed <= set(failures_told) else "see below"
    print_table(summary_table(answers, kept, failed_because=where), console)
    rest = ranked[len(shown) :]
    values = [value for job in rest if (value := best_estimate(job)) is not None and job.job_id not in searched]
    if rest:
        ends = dict.fromkeys(f"{value:.2f}×" for value in (min(values), max(values))) if values else {}
        say(console, ", ".join(filter(None, (plural(len(rest), "further setting"), " to ".join(ends)))))


def _next_steps(found: Sequence[Recommendation], answers: SweepAnswers, root: Path) -> Iterator[_Line]:
    """What the answers `found` mean for a request, why they gain no more, and the commands that run them."""
    record, jobs = answers.record, answers.jobs
    single = record.single and len(jobs) == 1
    made_up = all(job.synthetic for job in record.jobs)  # whose text nobody wants
    several = not made_up and sum(answer.command is not None for answer in found) > 1
    for answer in found:
        question = f"{answer.question}: " if answer.question else ""
        if single and answer.is_weak:
            yield _Line(f"⚠️ {answer.sureness}")
        if answer.costs and answer.kind != "slower" and answer.job is not None:
            yield _Line(f"{question}{request_words(answer.job, brief=True)}", shorter={"costs": "", _QUIET: ""})
        if not single and (reasons := target_reasons(answer, jobs, record)):
            yield _Line(
                f"Would help: {question}{reasons[0][0].lower()}{reasons[0][1:]}", shorter={"hints": "", _QUIET: ""}
            )
        if answer.command and not made_up:
            remarks = () if answer.job is None else command_remarks(answer.job, record)
            about = "; ".join(filter(None, (answer.question, *remarks)))
            load = f"Run it ({about}):" if about else "Run it:    "
            yield _Line(f"{load} {answer.command}", whole=True, shorter={"commands": ""} if several else {})
    if several:
        name = _named(root)
        serve = f"Run it:     velosweep serve {name}  (each: report {name} --format command)"
        yield _Line("", whole=True, shorter={"commands": serve})
    idle = [job for job in jobs if job.drafted is False]
    advice = [one for one in grouped_findings(idle, names_of(jobs).labels, record) if one[0].code == "nothing_drafted"]
    if advice:
        where, remedy = advice[0][1], advice[0][0].remedy
        if len(advice) > 1:
            where = list(dict.fromkeys(job.speculation for job in idle))
            remedy = "Prompts whose answers repeat text may change that"
        settings = "" if single else f"{'; '.join(first_few(where, 3))}. "
        yield _Line(f"No drafts:  {settings}{remedy}", shorter={_QUIET: ""})


def _further_steps(
    found: Sequence[Recommendation], answers: SweepAnswers, root: Path, interrupted: bool
) -> Iterator[_Line]:
    """How to go on with the sweep: finish it, measure one's own models, make it surer."""
    record = answers.record
    if writer := sweep_writer(SweepPaths(root).lock):
        yield _Line(f"Running:    {writer} still measures it; these are the results so far")
        return
    if interrupted or any(job.state == "pending" for job in record.jobs):
        yield _Line(f"Go on with: {resume_command(root)}", whole=True)
        return
    if all(job.synthetic for job in record.jobs):
        own = "Your own:   velosweep best MODEL.gguf  (this pair is synthetic)"
        yield _Line(own, whole=True, shorter={_QUIET: ""})
    weak = [(answer.job, answer.against) for answer in found if answer.job is not None and answer.is_weak]
    if weak:
        pairs = min(job.n_pairs for job, _ in weak)
        rounds = max(5 - pairs, pairs)
        more = f"velosweep more {_named(root)} --iterations {rounds}"
        if record.shared_out:  # `more` would measure here
            more = f"the same command with iterations={pairs + rounds}"
        busy = any(advice.code == "machine_busy" for _, against in weak for advice in against)
        surer = f"Surer:      {'close other programs, then ' if busy else ''}{more}"
        yield _Line(surer, whole=True, shorter={_QUIET: ""})


def _failures(derived: SweepResults, told: Collection[str]) -> Iterator[_Line]:
    """Why there are no results, which jobs failed and why, and how many runs of the others failed; a line each."""
    jobs, record, samples = whole_jobs(derived.comparisons), derived.record, derived.samples
    gone = {job.id for job in record.jobs if job.state == "failed"} if jobs else ()
    runs = zip(*(samples[name].to_pylist() for name in ("job_id", "warmup", "status")), strict=True) if samples else ()
    counts = Counter(status or "ok" for owner, warmup, status in runs if not (warmup or owner in gone))  # null: unknown
    if not jobs:
        states = Counter(job.state for job in record.jobs)
        failed, pending, rest = states["failed"], states["pending"], states["done"] + states["partial"]
        words = [f"{plural(failed, 'setting')} failed"] if failed else []
        if pending:
            words.append(f"{plural(pending, 'setting')} did not finish")
        if rest:
            words.append(f"no samples of {plural(rest, 'setting')} are left in its folder")
        what = "Nothing could be measured" if counts else "Nothing was measured"
        yield _Line(f"{what}: {', '.join(words) or 'there are no settings'}", whole=True)
    yield from (_Line(f"❌ {sentence}") for sentence in failure_sentences(record, told))
    bad = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()) if status != "ok")
    if bad:
        yield _Line(f"⚠️ Of {counts.total()} runs: {bad}; none of these is averaged")
