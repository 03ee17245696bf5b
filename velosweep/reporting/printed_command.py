"""llama-server's command line for a measured job, as a person pastes it."""

import shlex
import shutil
from collections.abc import Iterable, Iterator

from velosweep.config.speculation_kinds import KINDS, kind_of
from velosweep.llama_cpp.setting_table import SETTINGS
from velosweep.records import JobRecord, SweepRecord
from velosweep.statistics.comparison import Comparison

WHERE_TO_GET_IT = "llama-server is at github.com/ggml-org/llama.cpp/releases"


def command_line(job: Comparison, record: SweepRecord) -> str | None:
    """llama-server for this job, quoted for a POSIX shell: with the arguments recorded, else by today's names.

    None where somebody else started the server: nobody told us how.
    """
    if job.engine == "attached":
        return None
    entry = record.job(job.job_id)
    return _quoted(entry, (entry and entry.server_arguments) or default_arguments(job))


def command_remarks(job: Comparison, record: SweepRecord) -> Iterator[str]:
    """What has to be known before a job's command is run here."""
    if job.engine == "embedded" and shutil.which("llama-server") is None:
        yield WHERE_TO_GET_IT
    entry = record.job(job.job_id)
    if entry is not None and "-t" in entry.server_arguments and "engine.threads" not in entry.settings:
        yield "-t as measured, with a core left to velosweep: more may be faster"


def vanilla_command(job: Comparison, record: SweepRecord) -> str:
    """As `command_line`, for the same main model without speculation."""
    entry = record.job(job.job_id)
    return _quoted(entry, (entry and entry.vanilla_arguments) or ("-m", job.main_model, "-ngl", "999"))


def _quoted(entry: JobRecord | None, arguments: Iterable[str]) -> str:
    return shlex.join([entry.server_program if entry else "llama-server", *arguments])


def default_arguments(job: Comparison) -> tuple[str, ...]:
    """llama-server's arguments by the names of llama.cpp since June 2026, for sweeps that recorded none."""
    kinds = [kind_of(name) for name in job.speculation.partition(" (")[0].split("+")]
    arguments = ["-m", job.main_model, "-ngl", "999"]
    if job.draft_model:
        arguments += ["-md", job.draft_model, "-ngld", "999"]
    arguments += ["--spec-type", ",".join(kind.llama_cpp for kind in kinds)]
    if any(kind.draft_settings for kind in kinds):
        arguments += ["--spec-draft-n-max", str(job.n_draft)]
    for kind in kinds:
        for length in kind.draft_lengths if kind.name in KINDS else ():
            arguments += [SETTINGS[length].flags[0], str(job.n_draft)]
    return tuple(arguments)
