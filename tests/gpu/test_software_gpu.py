"""A GPU that is software (Mesa's llvmpipe, through Vulkan), with a real llama-server: lanes, placement, memory.

Debian's package mesa-vulkan-drivers brings it; llama.cpp offloads to it for real, at a few tokens a second.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import velosweep
from tests import forked, real_models
from velosweep.config.settings import SyntheticShape
from velosweep.models.synthetic.pair import ensure_files

pytestmark = pytest.mark.real

TINY = SyntheticShape(
    layers=2, kept_layers=1, width=64, feed_forward=128, heads=2, kv_heads=1, vocabulary=320, type="f16"
)
LOGGED = ("engine.args=[-lv,4]",)  # the log then says where layers go


@dataclass(frozen=True)
class SoftwareGpu:
    """The device under llama.cpp, and velosweep on it in a folder of its own."""

    name: str
    folder: Path
    environment: dict[str, str]

    def command(self, *words: str) -> list[str]:
        main, draft = ensure_files(TINY)
        pair = [f"model_pair.main_model={main}", f"model_pair.draft_model={draft}"]
        program = [f"llama_cpp.path={real_models.llama_server()}", "engine=server"]
        return [*words, *program, *pair, "n_predict=8"]

    def velosweep(self, *words: str) -> subprocess.CompletedProcess[str]:
        return forked.velosweep(*self.command(*words), cwd=self.folder, env=self.environment)


@pytest.fixture(scope="module")
def gpu(tmp_path_factory):
    environment = {**os.environ, "GGML_VK_VISIBLE_DEVICES": "0"}
    command = [real_models.llama_server(), "--list-devices"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60).stdout
    found = re.search(r"^ +Vulkan0: (llvmpipe .*?\)) \(", said, re.MULTILINE)
    if found is None:
        pytest.skip(f"{real_models.NOT_TESTED}no software GPU here (Debian: mesa-vulkan-drivers)")
    return SoftwareGpu(found[1], tmp_path_factory.mktemp("gpu"), environment)


@pytest.fixture(scope="module")
def sweep(gpu):
    """Main model and draft on the device, then each by itself on the processor."""
    for folder, layers in {"both": (999, 999), "draft": (0, 999), "main": (999, 0)}.items():
        placement = [f"engine.gpu_layers={layers[0]}", f"engine.draft_gpu_layers={layers[1]}"]
        done = gpu.velosweep(
            "n_draft=2", "iterations=1", *placement, f"hydra.run.dir={folder}", "engine.context=128", *LOGGED
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return gpu


def test_the_device_is_the_lane_and_samples_name_it(sweep):
    rows = velosweep.load(sweep.folder / "both").to_pylist()

    assert {(row["device"], row["lane"]) for row in rows} == {(sweep.name, 0)}
    assert {row["mode"] for row in rows} == {"Vanilla", "Speculative"}
    assert all(row["status"] == "ok" for row in rows)


@pytest.mark.parametrize(
    ("folder", "on_the_device"), [("both", ["3/3", "2/2"]), ("draft", ["0/3", "2/2"]), ("main", ["3/3", "0/2"])]
)
def test_layers_of_each_model_go_where_they_were_asked_to(sweep, folder, on_the_device):
    logs = [path.read_text(errors="replace") for path in (sweep.folder / folder / "logs").glob("*.log")]
    offloaded = [re.findall(r"offloaded (\d+/\d+) layers to GPU", log) for log in logs]

    assert on_the_device in offloaded, offloaded  # the speculative server's: main model, then draft
    rows = [row for row in velosweep.load(sweep.folder / folder).to_pylist() if row["mode"] == "Speculative"]
    expected = [sum(map(int, numbers)) for numbers in zip(*(text.split("/") for text in on_the_device), strict=True)]
    assert {(row["layers_on_gpu"], row["layers"]) for row in rows} == {tuple(expected)}


def test_as_many_servers_are_loaded_at_once_as_the_devices_memory_holds(gpu):
    plan = ["-m", "n_draft=2,4", "dry_run=true"]
    on_device, on_processor = gpu.velosweep(*plan), replace(gpu, environment={**os.environ}).velosweep(*plan)

    assert "3 servers, 4 loads" in on_device.stdout  # two fit: vanilla is loaded with each of the others
    assert "3 servers, 3 loads" in on_processor.stdout


def test_the_device_twice_is_refused_as_one_gpu_named_twice(gpu):
    done = gpu.velosweep("n_draft=2", "gpus=[0,0]", "dry_run=true")

    assert done.returncode == 2
    assert "name each GPU once" in done.stdout + done.stderr


def test_a_second_sweep_on_the_device_is_refused_with_who_uses_it(gpu):
    words = gpu.command("n_draft=2", "iterations=500", "hydra.run.dir=first")
    null = Path(os.devnull)
    first = forked.Forked(words, cwd=gpu.folder, env=gpu.environment, out=null, err=null)
    try:
        end = time.monotonic() + 120
        while not (gpu.folder / "first/journal.jsonl").is_file() and time.monotonic() < end:
            assert first.poll() is None
            time.sleep(0.1)
        second = gpu.velosweep("n_draft=2", "on_busy=fail", "hydra.run.dir=second")
    finally:
        first.send_signal(signal.SIGTERM)
        first.wait(timeout=60)

    assert second.returncode == 2, second.stdout + second.stderr
    assert f"{gpu.name} (vulkan0) is in use by {gpu.folder / 'first'}" in " ".join(
        (second.stdout + second.stderr).split()
    )
