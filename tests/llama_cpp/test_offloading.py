"""Layers on GPUs, read from a log."""

from __future__ import annotations

from pathlib import Path

from velosweep.llama_cpp.offloading import offloaded_layers

LOG = """\
0.00.261.206 I load_tensors: offloading output layer to GPU
0.00.261.252 I load_tensors: offloading 19 repeating layers to GPU
0.00.261.266 I load_tensors: offloaded 20/33 layers to GPU
0.00.442.032 I load_tensors: offloaded 25/25 layers to GPU
"""


def test_layers_of_all_models_of_a_server_are_added(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(LOG, encoding="utf-8")

    assert offloaded_layers(path) == (45, 58)


def test_a_build_for_processors_alone_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("load_tensors:   CPU_Mapped model buffer size =   121.00 MiB\n", encoding="utf-8")

    assert offloaded_layers(tmp_path / "log") == offloaded_layers(tmp_path / "none") == (None, None)
