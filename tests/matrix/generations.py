"""Generations of llama.cpp: fetched, built and served, each in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SERVE = Path(__file__).with_name("serve_xllamacpp.py")

# xllamacpp release -> llama.cpp of about
WHEELS = {
    "0.2.8": "2025-12 (b7551)",
    "0.2.14": "2026-03",
    "2026.4.8929": "2026-04 (b8929)",
    "2026.5.9294": "2026-05 (b9294)",
    "2026.6.9713": "2026-06 (b9713)",
    "2026.7.10068": "2026-07 (b10068)",
    "2026.8.10229": "2026-08 (b10229)",
    "2026.9.10809": "2026-09 (b10809)",
}
# llama-cpp-python release -> the llama.cpp that its source package carries
SOURCES = {"0.3.5": "2024-12", "0.3.16": "2025-08", "0.3.20": "2026-02", "0.3.36": "2026-10"}
TARGETS = (
    "llama-server",
    "llama-completion",
    "llama-cli",
    "llama-speculative-simple",
    "llama-speculative",
    "llama-bench",
)


def folder() -> Path:
    """Where wheels and builds are kept between runs: $VELOSWEEP_MATRIX, else the user's cache folder."""
    from platformdirs import user_cache_path

    path = Path(os.environ.get("VELOSWEEP_MATRIX") or user_cache_path("velosweep") / "matrix")
    path.mkdir(parents=True, exist_ok=True)
    return path


def wheel(version: str) -> Path:
    """A folder to put on PYTHONPATH that holds this xllamacpp. Raises CalledProcessError if pip can't get it."""
    target = folder() / f"xllamacpp-{version}"
    if not target.is_dir():
        partial = target.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*command, "--target", str(partial), f"xllamacpp=={version}"], check=True, capture_output=True)
        partial.rename(target)
    return target


def native(version: str) -> Path:
    """build/bin of llama.cpp from this llama-cpp-python's source package, built for this machine.

    Takes 10 to 40 minutes the first time. Raises CalledProcessError if a step fails.
    """
    source = folder() / f"llama_cpp_python-{version}" / "vendor" / "llama.cpp"
    if not source.is_dir():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*command, "--dest", str(folder()), f"llama-cpp-python=={version}"], check=True)
        with tarfile.open(folder() / f"llama_cpp_python-{version}.tar.gz") as archive:
            archive.extractall(folder(), filter="data")
    programs = source / "build" / "bin"
    if not (programs / "llama-server").exists():
        options = ["-DCMAKE_BUILD_TYPE=Release", "-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_TESTS=OFF"]
        subprocess.run(["cmake", "-S", str(source), "-B", str(source / "build"), *options], check=True)
        for target in TARGETS:  # a generation has some of them
            known = target == "llama-server"
            subprocess.run(["cmake", "--build", str(source / "build"), "--target", target, "-j"], check=known)
    return programs


@dataclass(frozen=True)
class Pair:
    """Paths of a synthetic pair."""

    main: str
    draft: str


@contextmanager
def served(version: str, log: Path, *arguments: str) -> Iterator[str]:
    """A server of an old xllamacpp in an interpreter of its own; gives its URL."""
    environment = {**os.environ, "PYTHONPATH": str(wheel(version))}
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, str(SERVE), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        ) as child,
    ):
        assert child.stdout is not None
        try:
            ready = next((line for line in child.stdout if line.startswith("READY ")), None)
            assert ready is not None, log.read_text()[-2000:]
            yield ready.split()[1]
        finally:
            child.kill()
