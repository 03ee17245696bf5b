from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.reporting import sweeps
from velosweep.config.settings import RunSettings
from velosweep.errors import ConfigError
from velosweep.reporting.plots import main_plots
from velosweep.sweep import run_sweep


@pytest.mark.parametrize("name", ["default_sweep", "large_sweep", "single_job", "skip_vanilla", "hostile"])
def test_a_png_and_an_svg_that_are_the_same_each_time(name: str) -> None:
    pytest.importorskip("matplotlib", reason="the extra plots is not installed")
    made: sweeps.MadeUp = getattr(sweeps, name)()

    plots = main_plots(made.comparisons, made.record)

    assert plots["png"].startswith(b"\x89PNG")
    assert b"<svg" in plots["svg"]
    assert plots == main_plots(made.comparisons, made.record)


def test_nothing_measured_gives_no_plot() -> None:
    assert main_plots([], sweeps.default_sweep().record) == {}


def test_without_matplotlib_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    made = sweeps.default_sweep()

    with pytest.raises(ConfigError, match=r"pip install .*\[plots\]"):
        main_plots(made.comparisons, made.record)


def test_plots_without_matplotlib_are_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(ConfigError, match=r"report\.plots=true needs matplotlib"):
        run_sweep((), root=tmp_path / "out", single=True, command=(), settings=RunSettings(report_plots=True))
    assert list(tmp_path.iterdir()) == []
