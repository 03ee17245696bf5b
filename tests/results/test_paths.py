"""Where a sweep's files go: never outside of its folder, whatever its record says."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.results.made import job_record
from velosweep.errors import StorageError
from velosweep.results import paths as paths_module
from velosweep.results.paths import SweepPaths, safe_name


@pytest.mark.parametrize(
    "directory", ["/elsewhere", "../elsewhere", "0/../../elsewhere", "link", "link/deep", "0/link"]
)
def test_a_job_outside_of_its_sweep_is_refused(directory: str, tmp_path: Path) -> None:
    sweep, elsewhere = tmp_path / "sweep", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (sweep / "0").mkdir(parents=True)
    for link in (sweep / "link", sweep / "0/link"):
        link.symlink_to(elsewhere)

    with pytest.raises(StorageError, match="lies outside its sweep"):
        SweepPaths(sweep).job_directory(job_record(0, directory=directory))
    assert SweepPaths(sweep).job_directory(job_record(0, directory="0")) == sweep / "0"


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "..", "a/b", "\x1b[2J", "x" * 500, ""])
def test_no_id_leaves_its_folder(name: str) -> None:
    safe = safe_name(name)

    assert Path(safe).name == safe
    assert 0 < len(safe) <= 100
    assert safe.isprintable()


@given(st.lists(st.text(max_size=300), min_size=2, unique=True))
def test_no_two_prompts_have_one_file(names: list[str]) -> None:
    files = {safe_name(name) for name in names}

    assert len(files) == len(names)
    assert all(len(name.encode()) < 230 for name in files)


@pytest.mark.parametrize("name", ["日本", "中文", "Erkläre", "a-b.c_1"])
def test_letters_of_every_script_stay(name: str) -> None:
    assert safe_name(name) == name


def test_no_other_module_spells_a_name_of_a_sweeps_files() -> None:
    source = Path(paths_module.__file__).parents[1]
    paths = vars(SweepPaths(Path("sweep"))).values()
    names = {path.name for path in paths if isinstance(path, Path) and "." in path.name}
    spelled = {
        (str(module.relative_to(source)), node.value)
        for module in source.rglob("*.py")
        if module != Path(paths_module.__file__)
        for node in ast.walk(ast.parse(module.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if " " not in node.value and names & set(node.value.split("/"))
    }

    assert {"sweep.json", "report.html", ".groups"} < names
    assert spelled == set()
