"""The row that people post of a result, and such rows read from a file: what was measured where, with its footnote."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from velosweep.config.schema import KEYS
from velosweep.errors import StorageError
from velosweep.files import as_storage_error
from velosweep.records import SweepRecord
from velosweep.reporting.deploy_formats import no_answer
from velosweep.reporting.escaping import markdown_text
from velosweep.reporting.recommendation import answered_jobs, recommend, with_answers
from velosweep.reporting.table import Column, Table, column, markdown_lines
from velosweep.reporting.wording import interval, number, percent, whole_jobs
from velosweep.statistics.comparison import Comparison
from velosweep.units import bytes_words

PostedRow = Mapping[str, str]
"""Cells by the title of their column."""

_COLUMNS = (
    "device", "llama.cpp", "model", "draft", "kind", "n_draft", "context", "KV", "prompts", "tokens", "vanilla tok/s",
    "tok/s", "speedup", "95 % interval", "accepted", "pairs",
)  # fmt: skip
_LARGEST_FILE = 1 << 24  # characters; what follows is not read
_LEFT = ("device", "llama.cpp", "model", "draft", "kind", "KV", "prompts")
_NARROW = ("95 % interval", "device", "kind", "draft", "vanilla tok/s")  # the last is left out first
_NEEDED = ("device", "model", "speedup")  # what makes a table one of ours


def own_rows(comparisons: Sequence[Comparison], record: SweepRecord) -> list[PostedRow]:
    """A row for each setting that drafted and has a speedup, the answer first; of a search the answer alone, whose
    pairs are fresh: others ran beside it in few rounds, and seldom in those of vanilla."""
    sizes = {model.path: bytes_words(model.size_bytes) for model in record.environment.models}
    prompts = {job.id: len(job.prompt_ids) for job in record.jobs}
    found = recommend(comparisons, record)
    answers = answered_jobs(found).keys()
    jobs = with_answers(whole_jobs(comparisons), found)
    jobs = [job for job in jobs if job.speedup_gm is not None and job.drafted is not False]
    if record.searches:
        jobs = [job for job in jobs if job.job_id in answers]

    def row(job: Comparison) -> PostedRow:
        def model(path: str | None) -> str:
            return f"{Path(path).stem} ({sizes[path]})" if path in sizes else Path(path or "").stem

        theirs = job.engine == "attached"  # and nobody told us how that server was started
        return {
            "device": job.device,
            "llama.cpp": f"{job.engine} {job.llama_cpp_build}",
            "model": model(job.main_model),
            "draft": model(job.draft_model),
            "kind": job.speculation,
            "n_draft": str(job.n_draft),
            "context": "" if theirs else _setting(job, "engine.context"),
            "KV": "" if theirs else "/".join(_setting(job, f"engine.cache_type_{one}") for one in "kv"),
            "prompts": f"{job.prompt_set} ({prompts.get(job.job_id, 1)})",
            "tokens": str(job.n_predict),
            "vanilla tok/s": number(job.vanilla_speed, 1),
            "tok/s": number(job.speculative_speed, 1),
            "speedup": f"{number(job.speedup_gm)}×",
            "95 % interval": interval(job.ci_low, job.ci_high),
            "accepted": percent(job.acceptance.rate if job.acceptance else None),
            "pairs": str(job.n_pairs),
        }

    return [row(job) for job in sorted(jobs, key=lambda job: (job.job_id not in answers, -(job.speedup_gm or 0.0)))]


def _setting(job: Comparison, key: str) -> str:
    return str(job.settings.get(key, KEYS[key].default))


def rows_table(rows: Sequence[PostedRow], titles: Sequence[str] = _COLUMNS, caption: str = "Results") -> Table:
    """Rows as a table."""

    def titled(title: str) -> Column:
        drop = _NARROW.index(title) + 1 if title in _NARROW else 0
        return column(title, rows, lambda row: row.get(title, ""), right=title not in _LEFT, drop=drop)

    return Table(caption=caption, columns=tuple(map(titled, titles)))


def row_text(comparisons: Sequence[Comparison], record: SweepRecord) -> str:
    """The best setting's row as Markdown, with what its figures are. Raises NothingMeasured without one."""
    environment = record.environment
    if not (rows := own_rows(comparisons, record)[:1]):
        raise no_answer()
    where = markdown_text(f"{environment.velosweep} on {environment.cpu}, {environment.system}")
    note = (
        f"measured with velosweep {where}: vanilla and speculative servers take turns in the same rounds. tok/s: "
        "decoding, by llama.cpp's clock; speedup: geometric mean of paired ratios, with its 95 % interval; accepted: "
        "of the drafted tokens; pairs: runs of all prompts with and without speculation."
    )
    return "\n".join([*markdown_lines(rows_table(rows)), "", f"<sub>{note}</sub>"]) + "\n"


def read_rows(path: Path) -> list[PostedRow]:
    """The rows of every table in a Markdown file that has our columns, also without some of them, in any order.

    Raises StorageError where the file can't be read or has none.
    """
    with as_storage_error(path, doing="read"), path.open(encoding="utf-8", errors="replace") as file:
        lines = file.read(_LARGEST_FILE).splitlines()
    found: list[PostedRow] = []
    titles: list[str] = []
    for line in lines:
        cells = _cells(line)
        if not cells:
            titles = []
        elif not titles:
            titles = cells if set(_NEEDED) <= set(cells) else []
        elif not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
            found.append(dict(zip(titles, cells, strict=False)))
    if not found:
        raise StorageError(
            f"{path} has no table with the columns {', '.join(_NEEDED)}",
            remedy="give a file with rows as velosweep report --format row prints them",
        )
    return found


def _cells(line: str) -> list[str]:
    """The cells of a line of a Markdown table; empty for another line."""
    if not line.strip().startswith("|"):
        return []
    cells = re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|"))
    return [re.sub(r"\\(.)", r"\1", cell.strip()) for cell in cells]
