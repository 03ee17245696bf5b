"""Requests to stop: who is closed when, and which signals are heeded."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from velosweep.measuring.interrupts import StopFlag, stop_on_signals


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_first_request_closes_what_may_end_early_and_a_second_the_rest() -> None:
    stop, closed = StopFlag(), list[str]()
    with stop.closing(lambda: closed.append("load"), early=True), stop.closing(lambda: closed.append("run")):
        stop.request()
        assert (closed, stop.requested, stop.at_once) == (["load"], True, False)
        stop.request(at_once=True)
        assert "run" in closed
        assert stop.at_once


def test_a_run_that_begins_just_after_an_end_at_once_is_closed_too() -> None:
    stop, closed = StopFlag(), list[str]()
    stop.request(at_once=True)
    with stop.closing(lambda: closed.append("late")):
        assert closed == ["late"]


def test_several_servers_that_do_not_listen_are_ended_side_by_side() -> None:
    stop, meet = StopFlag(), threading.Barrier(3)
    with stop.closing(meet.wait), stop.closing(meet.wait), stop.closing(meet.wait):
        stop.request(at_once=True)  # would never return if one were waited for before the next

    assert not meet.broken


@pytest.mark.parametrize(
    ("numbers", "at_once"),
    [
        ([signal.SIGINT], False),
        ([signal.SIGINT, signal.SIGINT], True),
        ([signal.SIGTERM], True),
        ([signal.SIGHUP], True),
    ],
)
def test_signals_become_requests_and_handlers_come_back(numbers: list[signal.Signals], at_once: bool) -> None:
    former, said, stop = signal.getsignal(signal.SIGINT), list[str](), StopFlag()
    with stop_on_signals(stop, announce=said.append):
        for number in numbers:
            os.kill(os.getpid(), number)
            until(lambda: stop.requested)
        until(lambda: stop.at_once is at_once)

    assert signal.getsignal(signal.SIGINT) is former
    assert bool(said) is (numbers[0] == signal.SIGINT)


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = StopFlag()
        with stop_on_signals(stop, announce=lambda text: None):
            os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, former)


def test_off_the_main_thread_no_handler_is_touched() -> None:
    former = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def work() -> None:
        with stop_on_signals(StopFlag(), announce=lambda text: None):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert seen == [former]
