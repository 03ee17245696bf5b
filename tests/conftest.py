"""What holds for every test."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.real_models import NOT_TESTED

# A property is about values; how long an example takes says how busy the machine is. The examples are the same in every
# run, so that a change is judged by itself; `--hypothesis-profile=new_examples` looks for more.
settings.register_profile("velosweep", deadline=None, derandomize=True)
settings.register_profile("new_examples", deadline=None)
settings.load_profile("velosweep")


def pytest_xdist_auto_num_workers() -> int:
    """Half as many workers again as cores: many tests wait for processes, and another test runs meanwhile."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + (cores + 1) // 2


def pytest_configure(config: pytest.Config) -> None:
    """Signals act as at a terminal, in each worker and what it starts.

    A shell starts its background jobs (and some CI their steps) with SIGINT ignored, nohup with SIGHUP ignored;
    velosweep rightly leaves ignored signals so.
    """
    del config
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)


# Modules that take a minute or more: begun first, so that no worker is left alone with one at the end.
LONGEST = ("tests/test_readme.py", "tests/test_house.py", "tests/hydra_app/", "tests/faults/", "tests/reporting/")


@pytest.fixture(scope="session", autouse=True)
def locks_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test waits for a device that another worker's test or a sweep outside the tests uses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VELOSWEEP_LOCK_DIR", str(tmp_path_factory.mktemp("locks")))
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest modules in front; all others stay in their order."""

    def place(item: pytest.Item) -> int:
        return next((n for n, name in enumerate(LONGEST) if item.nodeid.startswith(name)), len(LONGEST))

    items.sort(key=place)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in a section of its own what was not tested for want of a real model or llama-server."""
    reasons = Counter(
        report.longrepr[2].partition(NOT_TESTED)[2]
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple) and NOT_TESTED in report.longrepr[2]
    )
    if reasons:
        terminalreporter.section("NOT TESTED with real models", red=True, bold=True)
        for reason, count in reasons.items():
            terminalreporter.line(f"{count} tests: {reason}")
