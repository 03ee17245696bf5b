"""What `-v` adds to the end of a sweep: all that its dozen lines leave out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from velosweep.reporting.console import say, say_lines, table_width, width_of
from velosweep.reporting.escaping import clip
from velosweep.reporting.finding_text import grouped_findings
from velosweep.reporting.interval_plot import interval_plot
from velosweep.reporting.recommendation import Recommendation, with_answers
from velosweep.reporting.request_words import request_words
from velosweep.reporting.result_tables import detailed_job_table, with_failed
from velosweep.reporting.search_words import print_search, search_titles
from velosweep.reporting.speedup_hints import target_reasons
from velosweep.reporting.table import terminal_lines
from velosweep.reporting.wording import by_prompt, first_few, job_labels, whole_jobs
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.ranking import best_estimate
from velosweep.values import Verdict

if TYPE_CHECKING:
    from rich.console import Console

    from velosweep.results.derived_files import SweepResults


def print_details(derived: "SweepResults", found: Sequence[Recommendation], console: "Console") -> None:
    """All that the dozen lines leave out: every figure, how a search went, what each answer rests on, all findings."""
    rows, record = with_answers(derived.comparisons, found), derived.record
    jobs = whole_jobs(rows)
    labels = job_labels(jobs)
    table = detailed_job_table(with_failed(jobs, record), record, ())
    if jobs:
        say_lines(console, [*terminal_lines(table, width=table_width(console)), ""])
    rated = [job for job in jobs if best_estimate(job) is not None]
    signs = {Verdict.FASTER: "", Verdict.SLOWER: " slower", Verdict.INVALID: " unusable"}
    if len(rated) > 2:  # of two the table says as much
        points = [(clip(labels[job.job_id], 32), job, signs.get(job.verdict, " ?")) for job in rated]
        _print_plot("Speedup (bar: 95 % interval)", points, console)
    for job_id, label in labels.items():
        prompts = (row for row in by_prompt(rows, job_id) if best_estimate(row) is not None)
        points = [(clip(row.prompt_id or "", 24), row, "") for row in prompts]
        if len(points) > 1:
            _print_plot(f"Speedup by prompt, {label}", points, console)
    for search, title in zip(record.searches, search_titles(record), strict=True):
        print_search(search, title, console=console)
        say(console)
    for answer in found:
        by_category = (f"by category: {words}" for words in answer.by_category)
        rests_on = (f"rests on {answer.rests_on}",) if answer.rests_on else ()
        for line in (*answer.ties, *by_category, *answer.notes, *rests_on):
            say(console, f"- {line}", indent=2)
        if answer.job is not None and not answer.costs and (words := request_words(answer.job)):
            say(console, f"- {words}", indent=2)
        for reason in target_reasons(answer, jobs, record) if not record.single else ():
            say(console, f"- consider: {reason}", indent=2)
    for advice, where in grouped_findings(jobs, labels, record):
        at = f" [{'; '.join(first_few(where, 4))}]" if len(jobs) > 1 else ""
        say(console, f"{advice.sign} {advice.sentence}{at} {advice.remedy}")
    say(console)


def _print_plot(title: str, points: Sequence[tuple[str, Comparison, str]], console: "Console") -> None:
    say(console, title)
    say_lines(console, [*interval_plot(points, width=min(width_of(console), 100)), ""])
