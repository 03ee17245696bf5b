"""llama.cpp built for the machine at hand, in pieces that a deadline may cut off."""

from __future__ import annotations

import os
import re
import shutil
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("llama-server", "llama-bench", "llama-completion")
CONFIGURATION = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DGGML_NATIVE=ON",
    "-DGGML_CCACHE=OFF",
    "-DGGML_CUDA_NCCL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_CURL=OFF",
)


@dataclass(frozen=True, kw_only=True)
class Toolkit:
    """A CUDA toolkit that has what llama.cpp links: `root`, its compiler, its libraries' folder.

    `driver`: whether the driver's library can be linked, without which ggml can't map memory piece by piece (VMM).
    """

    root: Path
    compiler: Path
    libraries: Path
    driver: bool


def find_toolkit(work: Path) -> Toolkit | None:
    """The CUDA toolkit, completed where cuBLAS came as a Python package; None where there is no compiler."""
    compiler = _compiler()
    if compiler is None:
        return None
    top = _toolkit_root(compiler)
    for libraries in ("lib64", "targets/x86_64-linux/lib", "lib"):
        if any((top / libraries).glob("libcublas.so*")):
            found = top / libraries
            return Toolkit(root=top, compiler=compiler, libraries=found, driver=(found / "stubs/libcuda.so").exists())
    package = _python_toolkit()
    if package is None:
        raise RuntimeError(f"{compiler} is here, but no libcublas: neither in {top} nor as a Python package")
    return merge(top, compiler, package, work / "cuda")


def merge(top: Path, compiler: Path, package: Path, merged: Path) -> Toolkit:
    """A folder of links that looks like one toolkit: the installed one, and a Python package's libraries and headers.

    The packages have versioned libraries only; the linker wants the names without.
    """
    for part in ("bin", "nvvm"):
        _link(top / part, merged / part)
    for part, sources in {
        "include": (top / "include", package / "include"),
        "lib64": (top / "lib64", package / "lib"),
    }.items():
        (merged / part).mkdir(parents=True, exist_ok=True)
        for source in sources:
            for entry in sorted(source.iterdir()) if source.is_dir() else ():
                _link(entry, merged / part / entry.name)
    for library in list((merged / "lib64").glob("lib*.so.*")):
        _link(library, library.with_name(library.name.partition(".so.")[0] + ".so"))
    stub, driver = merged / "lib64/stubs/libcuda.so", _driver_library()
    if not stub.exists() and driver is not None:
        _link(driver, stub)
    return Toolkit(root=merged, compiler=compiler, libraries=merged / "lib64", driver=stub.exists())


def configure_command(sources: Path, build: Path, toolkit: Toolkit | None, architecture: str | None) -> list[str]:
    """CMake's command line; `architecture` as "90", None for what the machine's GPU is."""
    command = ["cmake", "-S", str(sources), "-B", str(build), *CONFIGURATION]
    if shutil.which("ninja"):
        command += ["-G", "Ninja"]
    if toolkit is None:
        return [*command, "-DGGML_CUDA=OFF"]
    return [
        *command,
        "-DGGML_CUDA=ON",
        f"-DCMAKE_CUDA_ARCHITECTURES={architecture or 'native'}",
        f"-DCUDAToolkit_ROOT={toolkit.root}",
        f"-DCMAKE_CUDA_COMPILER={toolkit.compiler}",
        f"-DGGML_CUDA_NO_VMM={'OFF' if toolkit.driver else 'ON'}",
    ]


def build_command(build: Path, programs: Iterable[str], jobs: int) -> list[str]:
    """CMake's command line to build the programs; run again, it goes on where it was cut off."""
    return ["cmake", "--build", str(build), "-j", str(jobs), "--target", *programs]


def _compiler() -> Path | None:
    for place in (os.environ.get("CUDACXX"), shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc"):
        if place and Path(place).is_file():
            return Path(place)
    return None


def _toolkit_root(compiler: Path) -> Path:
    """Where the compiler is installed. It may be a link, or a script of one line that calls the real one."""
    real = compiler.resolve()
    if real.stat().st_size < 4096:
        match = re.search(r"(/\S+)/bin/nvcc", real.read_text(errors="replace"))
        if match:
            return Path(match[1]).resolve()
    return real.parents[1]


def _python_toolkit() -> Path | None:
    """The folder nvidia/cu* of the Python package nvidia-cublas (13 on), or the older nvidia/cublas."""
    roots = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    for root in sorted(Path(place) / "nvidia" for place in roots):
        for folder in [*sorted(root.glob("cu[0-9]*"), reverse=True), root / "cublas"]:
            if any((folder / "lib").glob("libcublas.so*")):
                return folder
    return None


def _driver_library() -> Path | None:
    """The driver's libcuda.so.1, where the loader or containers have it."""
    folders = [*os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep), "/usr/lib/x86_64-linux-gnu", "/usr/lib64"]
    folders += ["/usr/local/nvidia/lib64", "/usr/lib/wsl/lib"]
    return next((place for folder in folders if folder and (place := Path(folder) / "libcuda.so.1").exists()), None)


def _link(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if source.exists() and not place.is_symlink() and not place.exists():
        place.symlink_to(source)
