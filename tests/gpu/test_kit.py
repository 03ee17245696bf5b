"""The kit's own machinery, without llama.cpp: what is packed, what is built with, what is done again."""

from __future__ import annotations

import io
import sys
import tarfile
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from building import build_command, configure_command, merge
from frame import SMALL, Kit, OutOfTime, Result, Step, StepFailed, run_steps
from packing import extract_sources, wanted
from table import collect, write_table


@pytest.fixture
def kit(tmp_path):
    return Kit(work=tmp_path, scale=SMALL, cpu=True)


@pytest.mark.parametrize(
    "path",
    [
        "CMakeLists.txt",
        "ggml/src/ggml-cuda/mmvq.cu",
        "ggml/src/ggml-cpu/quants.c",
        "ggml/src/ggml-backend.cpp",
        "tools/server/server.cpp",
        "tools/llama-bench/llama-bench.cpp",
        "vendor/cpp-httplib/httplib.cpp",
        "scripts/ui-assets.cmake",
        "LICENSE",
    ],
)
def test_what_the_build_needs_is_packed(path):
    assert wanted(path)


@pytest.mark.parametrize(
    "path",
    [
        "models/ggml-vocab-qwen2.gguf",
        "docs/backend/CUDA.md",
        "ggml/src/ggml-vulkan/ggml-vulkan.cpp",
        "ggml/src/ggml-metal/ggml-metal.m",
        "tools/ui/src/app.css",
        "tools/server/tests/unit/test_chat.py",
        "examples/simple/simple.cpp",
        "vendor/stb/readme.md",
    ],
)
def test_what_it_does_not_need_stays(path):
    assert not wanted(path)


def sdist(path, *names):
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(f"llama_cpp_python-0.3/vendor/llama.cpp/{name}")
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))
    return path


def test_sources_come_out_of_the_sdist_in_their_folders(tmp_path):
    names = ["CMakeLists.txt", "tools/server/CMakeLists.txt", "docs/x.md", "src/../../../../evil.cpp"]

    count = extract_sources(sdist(tmp_path / "s.tar.gz", *names), tmp_path / "out")

    assert count == 2
    assert (tmp_path / "out/tools/server/CMakeLists.txt").read_text() == "tools/server/CMakeLists.txt"
    assert not list(tmp_path.rglob("evil.cpp"))


def test_an_sdist_without_llama_cpp_is_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"holds no llama\.cpp"):
        extract_sources(sdist(tmp_path / "s.tar.gz", "README.md"), tmp_path / "out")


def test_a_toolkit_without_cublas_is_completed_by_the_python_package(tmp_path):
    top, package = tmp_path / "cuda-13", tmp_path / "nvidia/cu13"
    for path in ("bin/nvcc", "nvvm/x", "include/cuda.h", "lib64/libcudart.so"):
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(path)
    for path in ("include/cublas_v2.h", "lib/libcublas.so.13", "lib/libcublasLt.so.13"):
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        (package / path).write_text(path)

    toolkit = merge(top, top / "bin/nvcc", package, tmp_path / "merged")

    for path in ("bin/nvcc", "include/cuda.h", "include/cublas_v2.h", "lib64/libcudart.so", "lib64/libcublas.so"):
        assert (toolkit.root / path).is_file()
    command = configure_command(tmp_path / "src", tmp_path / "build", toolkit, "90")
    assert "-DCMAKE_CUDA_ARCHITECTURES=90" in command
    assert f"-DCUDAToolkit_ROOT={toolkit.root}" in command


def test_without_a_toolkit_the_cpu_build_is_configured(tmp_path):
    assert "-DGGML_CUDA=OFF" in configure_command(tmp_path, tmp_path / "b", None, None)
    assert build_command(tmp_path / "b", ["llama-server"], 4)[-1] == "llama-server"


def test_a_step_that_is_done_is_not_done_again_unless_asked(kit):
    ran = []
    step = Step(name="one", minutes=1, run=lambda kit: ran.append(1) or Result(figures={"x": 1.5}))

    assert run_steps(kit, [step])
    assert run_steps(kit, [step])
    assert ran == [1]
    assert run_steps(kit, [step], again=["one"])
    assert ran == [1, 1]
    assert kit.figure("one", "x") == 1.5


def test_a_failed_step_is_a_row_and_the_others_go_on(kit):
    def bad(kit):
        raise StepFailed("no such luck")

    steps = [Step(name="bad", minutes=1, run=bad), Step(name="good", minutes=1, run=lambda kit: Result())]

    assert not run_steps(kit, steps)
    table = write_table(kit, steps)
    assert "| bad | FAILED | 0 | StepFailed: no such luck |" in table
    assert "| good | ok |" in table


def test_a_failed_step_is_tried_again_by_the_next_call(kit):
    outcomes = iter([StepFailed("once"), Result()])

    def run(kit):
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    step = Step(name="flaky", minutes=1, run=run)

    assert not run_steps(kit, [step])
    assert run_steps(kit, [step])


def test_the_deadline_ends_a_program_and_leaves_the_step_to_the_next_call(kit):
    kit.deadline = time.monotonic() + 6

    def slow(kit):
        kit.run([sys.executable, "-c", "import time; time.sleep(60)"], minutes=1)
        return Result()

    assert not run_steps(kit, [Step(name="slow", minutes=1, run=slow)])
    assert kit.mark("slow") is None


def test_a_program_past_its_own_limit_fails_its_step_with_what_it_said(kit):
    with pytest.raises(StepFailed, match=r"took more than 0\.02 minutes.*hello"):
        kit.run([sys.executable, "-uc", "print('hello'); import time; time.sleep(60)"], minutes=0.02)


def test_no_time_left_starts_no_program(kit):
    kit.deadline = time.monotonic()

    with pytest.raises(OutOfTime):
        kit.run([sys.executable, "-c", ""], minutes=1)


def test_programs_do_not_see_llama_cpps_variables(kit, monkeypatch):
    monkeypatch.setenv("LLAMA_ARG_SPEC_TYPE", "ngram-mod")

    assert "LLAMA_ARG_SPEC_TYPE" not in kit.environment()


def test_what_is_carried_away_holds_figures_and_no_models(kit):
    for path in (
        "sweeps/a/samples.parquet",
        "sweeps/a/report.html",
        "models/m.gguf",
        "logs/x.txt",
        "sweeps/a/sweep.json",
    ):
        (kit.work / path).parent.mkdir(parents=True, exist_ok=True)
        (kit.work / path).write_text("x")
    run_steps(kit, [Step(name="one", minutes=1, run=lambda kit: Result())])
    write_table(kit, [])

    with tarfile.open(collect(kit)) as tar:
        names = sorted(tar.getnames())

    assert names == ["logs/x.txt", "marks/one.json", "sweeps/a/samples.parquet", "sweeps/a/sweep.json", "table.md"]
