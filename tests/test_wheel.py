"""A wheel carries its configuration and plugins: it works from an empty folder, away from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.long


def call(*arguments: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(list(map(str, arguments)), cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT, cwd=folder)
    return next(folder.glob("velosweep-*.whl"))


def test_the_wheel_holds_configuration_plugins_and_starter(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())

    ours = {f"velosweep/conf/{path.relative_to(ROOT / 'conf').as_posix()}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert ours <= names
    assert "hydra_plugins/velosweep_plugins/lanes.py" in names
    assert "velosweep/commands/starter/experiment/mine.yaml" in names
    assert not {name for name in names if name.startswith(("tests/", "outputs/", "conf/", "velosweep/_plugins/"))}


def test_a_sweep_is_planned_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    """The dependencies are this environment's, added behind the fresh one's own."""
    call(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    call(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel, cwd=tmp_path)
    dependencies = Path(pytest.__file__).parent.parent
    python = tmp_path / "venv" / "bin" / "python"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(dependencies)]), "PYTHONNOUSERSITE": "1"}
    empty = tmp_path / "empty"
    empty.mkdir()

    where = call(python, "-c", "import velosweep; print(velosweep.__file__)", cwd=empty, env=env)
    plan = call(python, "-m", "velosweep", "-m", "+experiment=ndraft_grid", "dry_run=true", cwd=empty, env=env)
    page = call(python, "-m", "velosweep", "--help", cwd=empty, env=env)

    assert where.startswith(str(site))
    assert "n_draft" in plan
    assert "llama8b_1b" in page
