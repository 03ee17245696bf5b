"""How long drafting took, read from a log as llama.cpp writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from velosweep.llama_cpp.drafting_log import DraftingLog

LINE = (
    "0.11.682.205 I spec common_specu: statistics     {kind:>12}: #calls(b,g,a) =    1     46     46, #gen drafts = "
    "    46, #acc drafts =    12, #gen tokens =    178, #acc tokens =    16, #mean acc len = 1.35, #acc rate/pos = ("
    "0.261, 0.065, 0.022), dur(b,g,a) = 0.001, {ms:.3f}, 0.031 ms\n"
)
OF_JANUARY = (
    "statistics ngram_simple: #calls = 15, #gen drafts = 5, #acc drafts = 5, #gen tokens = 187, #acc tokens = 73, "
    "dur(b,g,a) = 0.149, 0.347, 0.005 ms\n"
)


def log_of(path: Path, *kinds_and_ms: tuple[str, float]) -> None:
    """Append a line for each."""
    with path.open("a", encoding="utf-8") as log:
        for kind, ms in kinds_and_ms:
            log.write("0.11.682.091 I slot print_timing: eval time = 7523.52 ms\n" + LINE.format(kind=kind, ms=ms))


def test_a_requests_drafting_is_the_difference_of_two_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = DraftingLog(path, kinds=1)
    log_of(path, ("draft-simple", 100.0))
    log.skip()
    log_of(path, ("draft-simple", 2556.037))

    assert log.request_ms() == pytest.approx(2456.037)


def test_all_kinds_of_a_server_are_added(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = DraftingLog(path, kinds=2)
    log_of(path, ("ngram-mod", 1.5), ("draft-simple", 20.0))

    assert log.request_ms() == pytest.approx(21.5)


def test_a_line_that_is_not_whole_yet_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = DraftingLog(path, kinds=1)
    path.write_text(LINE.format(kind="draft-simple", ms=5.0)[:-8], encoding="utf-8")

    assert log.request_ms() is None


def test_lines_of_requests_that_are_late_are_not_the_next_ones(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = DraftingLog(path, kinds=1)
    log_of(path, ("draft-simple", 10.0), ("draft-simple", 10.5))
    log.skip(2)
    log_of(path, ("draft-simple", 30.5))

    assert log.request_ms() == pytest.approx(20.0)


def test_builds_of_january_2026_are_read_too(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(OF_JANUARY, encoding="utf-8")

    assert DraftingLog(path, kinds=1).request_ms() == pytest.approx(0.347)


def test_a_build_that_prints_nothing_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("llama.cpp\n", encoding="utf-8")
    log = DraftingLog(path, kinds=1)

    assert log.request_ms() is None
    log_of(path, ("draft-simple", 10.0))
    assert log.request_ms() is None  # it is not waited for again
    assert DraftingLog(tmp_path / "none", kinds=0).request_ms() is None
