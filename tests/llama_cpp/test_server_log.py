"""How long drafting took and how many layers are on GPUs, read from a log as llama.cpp writes it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from velosweep.llama_cpp.server import listening_port
from velosweep.llama_cpp.server_log import DraftingLog, offloaded_layers

LINE = (
    "0.11.682.205 I spec common_specu: statistics     {kind:>12}: #calls(b,g,a) =    1     46     46, #gen drafts = "
    "    46, #acc drafts =    12, #gen tokens = {tokens:>6}, #acc tokens =    16, #mean acc len = 1.35, #acc rate/pos ="
    " (0.261, 0.065, 0.022), dur(b,g,a) = 0.001, {ms:.3f}, 0.031 ms\n"
)
OF_JANUARY = (
    "statistics ngram_simple: #calls = 15, #gen drafts = 5, #acc drafts = 5, #gen tokens = 187, #acc tokens = 73, "
    "dur(b,g,a) = 0.149, 0.347, 0.005 ms\n"
)


def log_of(path: Path, *kinds_tokens_ms: tuple[str, int, float]) -> None:
    """Append a line for each."""
    with path.open("a", encoding="utf-8") as log:
        for kind, tokens, ms in kinds_tokens_ms:
            log.write("0.11.682.091 I slot print_timing: eval time = 7523.52 ms\n")
            log.write(LINE.format(kind=kind, tokens=tokens, ms=ms))


@pytest.mark.parametrize(
    ("log", "port"),
    [
        ("main: server is listening on http://127.0.0.1:8080 - starting the main loop\n", 8080),
        ("print_info: general.name = listening on http://10.0.0.9:80\nlistening on http://127.0.0.1:8081\n", 8081),
        ("general.name = listening on 127.0.0.1:99999\n", None),
    ],
)
def test_a_model_s_name_in_the_log_sends_no_request_to_another_machine(log: str, port: int | None) -> None:
    assert listening_port(log) == port


def test_a_line_of_statistics_with_a_damaged_time_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(LINE.format(kind="draft", tokens=4, ms=1.0).replace("1.000", "1.0.00"))

    DraftingLog(tmp_path / "log", kinds=1).skip()


def test_a_runs_drafting_is_the_difference_of_two_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = DraftingLog(path, kinds=1)
    log_of(path, ("draft-simple", 4, 100.0))
    log.skip()
    log_of(path, ("draft-simple", 182, 2556.037))

    assert log.run_ms(178) == pytest.approx(2456.037)


def test_all_kinds_of_a_server_are_added(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = DraftingLog(path, kinds=2)
    log_of(path, ("ngram-mod", 10, 1.5), ("draft-simple", 20, 20.0))

    assert log.run_ms(30) == pytest.approx(21.5)


def test_a_line_that_is_not_whole_yet_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = DraftingLog(path, kinds=1)
    path.write_text(LINE.format(kind="draft-simple", tokens=4, ms=5.0)[:-12], encoding="utf-8")

    assert log.run_ms(4) is None


def test_requests_around_a_run_that_draft_nothing_do_not_hide_it(tmp_path: Path) -> None:
    # The context before a prompt is read by a request of its own, whose line comes first.
    path = tmp_path / "log"
    log = DraftingLog(path, kinds=1)
    log_of(path, ("draft-simple", 0, 0.1))
    writer = threading.Timer(0.05, log_of, (path, ("draft-simple", 40, 20.1)))
    writer.start()

    assert log.run_ms(40) == pytest.approx(20.1)
    writer.join()


def test_where_others_drafted_too_nothing_is_said(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = DraftingLog(path, kinds=1)
    log_of(path, ("draft-simple", 8, 4.0), ("draft-simple", 48, 24.0))

    assert log.run_ms(40) is None


def test_builds_of_january_2026_are_read_too(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(OF_JANUARY, encoding="utf-8")

    assert DraftingLog(path, kinds=1).run_ms(187) == pytest.approx(0.347)


def test_a_build_that_prints_nothing_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("llama.cpp\n", encoding="utf-8")
    log = DraftingLog(path, kinds=1)

    assert log.run_ms(4) is None
    log_of(path, ("draft-simple", 4, 10.0))
    assert log.run_ms(4) is None  # it is not waited for again
    assert DraftingLog(tmp_path / "none", kinds=0).run_ms(4) is None


OFFLOADED = """\
0.00.261.206 I load_tensors: offloading output layer to GPU
0.00.261.252 I load_tensors: offloading 19 repeating layers to GPU
0.00.261.266 I load_tensors: offloaded 20/33 layers to GPU
0.00.442.032 I load_tensors: offloaded 25/25 layers to GPU
"""


def test_layers_of_all_models_of_a_server_are_added(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(OFFLOADED, encoding="utf-8")

    assert offloaded_layers(path) == (45, 58)


def test_a_build_for_processors_alone_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("load_tensors:   CPU_Mapped model buffer size =   121.00 MiB\n", encoding="utf-8")

    assert offloaded_layers(tmp_path / "log") == offloaded_layers(tmp_path / "none") == (None, None)
