"""The prompts and what was answered to them, to be read on the page."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

MOST_PROMPTS = 30


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptTexts:
    """A prompt, and by what answered: its number of tokens (None of several streams) and the beginning of its text."""

    id: str
    prompt: str
    answers: dict[str, tuple[int | None, str]] = field(default_factory=dict)


def prompt_texts(samples: "pa.Table", labels: Mapping[str, str]) -> list[PromptTexts]:
    """The prompts of a sweep's samples with the answers that were kept. `labels`: names of jobs and baselines by id, in
    whose order they answer; the answers of others are left out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if "answer" not in samples.column_names:
        return []
    asked = samples.filter(
        pc.and_(pc.is_valid(samples["answer"]), pc.is_in(samples["job_id"], pa.array(list(labels), pa.string())))
    )
    found: dict[str, PromptTexts] = {}
    wanted = ["job_id", "prompt_id", "prompt", "predicted_tokens", "answer", "concurrency"]
    rows = asked.select([name for name in wanted if name in samples.column_names]).to_pylist()
    places = {owner: place for place, owner in enumerate(labels)}
    for row in sorted(rows, key=lambda row: places[row["job_id"]]):
        texts = found.setdefault(row["prompt_id"], PromptTexts(id=row["prompt_id"] or "", prompt=row["prompt"] or ""))
        tokens = None if (row.get("concurrency") or 1) > 1 else row["predicted_tokens"] or 0
        texts.answers.setdefault(labels[row["job_id"]], (tokens, row["answer"]))
    return list(found.values())[:MOST_PROMPTS]
