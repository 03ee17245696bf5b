from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reporting import sweeps
from velosweep.errors import ConfigError, ExitStatus
from velosweep.reporting.image_export import main_plots, require_matplotlib


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


def test_without_matplotlib_the_remedy_is_named() -> None:
    with pytest.raises(ConfigError, match=r"report\.plots=true needs matplotlib") as refused:
        require_matplotlib(find=lambda name: None)
    assert "[plots]" in str(refused.value.remedy)


# Python's finder of modules, but for matplotlib, as where it is not installed.
_WITHOUT_MATPLOTLIB = """
import sys
from importlib.machinery import PathFinder

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == "matplotlib" else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
"""


@pytest.mark.parametrize("words", [("hydra.run.dir={out}",), ("-m", "hydra/launcher=slurm", "hydra.sweep.dir={out}")])
def test_plots_without_matplotlib_are_refused_before_anything_runs(words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(_WITHOUT_MATPLOTLIB)
    out = tmp_path / "out"
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])

    ended = subprocess.run(
        [
            sys.executable, "-m", "velosweep", "report.plots=true", "llama_cpp.path=/none",
            *(word.format(out=out) for word in words),
        ],
        env={**os.environ, "PYTHONPATH": path}, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ended.returncode == ExitStatus.REFUSED
    assert "report.plots=true needs matplotlib" in ended.stderr
    assert not (out / "sweep.json").exists()
