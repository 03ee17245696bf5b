"""What people are warned of before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.measuring.headers import header
from tests.planning.jobs import job
from velosweep.config.settings import Job, Speculation
from velosweep.measuring.prepare import preflight_warnings
from velosweep.models.gguf_model import GgufInfo
from velosweep.values import Device, Lane

CPU = Lane(number=0, devices=(Device(kind="cpu", name="CPU"),))
GPU = Lane(number=0, devices=(Device(kind="cuda", name="H100"),))
MANY = 10_000


def sizes(main: int, draft: int) -> Mapping[str, GgufInfo]:
    return {"main.gguf": header(main, None), "draft.gguf": header(draft, None)}


def with_threads(threads: int, **changes: Any) -> Job:
    one = job(**changes)
    return replace(one, engine=replace(one.engine, threads=threads))


@pytest.mark.parametrize(
    ("one", "headers", "lanes", "subjects"),
    [
        (job(), sizes(5, 1), [CPU], []),
        (job(), sizes(5, 5), [CPU], ["pair"]),
        (job(), {}, [CPU], []),
        (job(speculation=Speculation(kinds=("ngram-simple",))), sizes(1, 5), [CPU], []),
        (job(n_draft=20, n_predict=20), {}, [CPU], ["n_draft"]),
        (job(n_draft=19, n_predict=20), {}, [CPU], []),
        (with_threads(MANY), {}, [CPU], ["threads"]),
        (with_threads(MANY), {}, [], []),
        (with_threads(1), {}, [CPU] * MANY, ["threads"]),
        (with_threads(1), {}, [GPU] * MANY, []),
    ],
)
def test_what_is_probably_a_mistake_is_warned_of(
    one: Job, headers: Mapping[str, GgufInfo], lanes: list[Lane], subjects: list[str]
) -> None:
    assert [warning.subject for warning in preflight_warnings([one, one], headers, lanes)] == subjects
