"""`velosweep bisect`: what it refuses."""

from __future__ import annotations

import pytest

from tests.recorded import Recorded, recorded  # noqa: F401


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-l", "a"], "bisect compares two builds or more"),
        (["-l", "a", "b", "--slower-by", "much"], "--slower-by is much"),
        (["-l", "a", "b", "--slower-by", "0"], "--slower-by is 0"),
        (["-l", "a", "b", "--n-draft", "4,8"], "velosweep: --n-draft has several values"),
        (["-l", "a", "b", "iterations=2,3"], "velosweep: iterations has several values"),
        (["-l", "a", "b", "--draft", "d.gguf"], "--draft is given without --main"),
    ],
)
def test_what_makes_no_sense_is_refused(
    words: list[str],
    said: str,
    recorded: Recorded,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert recorded.main(["bisect", *words]) == 2

    assert said in capsys.readouterr().err
    assert recorded.calls == []
