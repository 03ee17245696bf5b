"""Sweeps over several GPUs that are not there: a stand-in llama-server lists them, a stand-in NVML knows them."""

from __future__ import annotations

import pytest

from tests.faults.conftest import bench, tiny_pair  # noqa: F401 -- fixtures

NAME = "NVIDIA H100 80GB HBM3"
DRIVER = f"""
from tests.machine.fake_pynvml import FakeGpu, FakePynvml
import velosweep.machine.nvml, velosweep.measuring.prepare
cards = [FakeGpu(uuid, {NAME!r}, processes=[(1, 5 << 30)]) for uuid in ("GPU-aaaa1111", "GPU-bbbb2222")]
driver = velosweep.machine.nvml.NvmlDriver(FakePynvml(*cards))
velosweep.machine.nvml.open_nvml = velosweep.measuring.prepare.open_nvml = lambda: driver
"""


@pytest.fixture
def two_gpus(bench):  # noqa: F811
    bench.set(devices=[NAME, NAME])
    return bench


def shown_to(bench):  # noqa: F811
    """Which GPUs each server of a sweep was shown."""
    return {event["device"] for event in bench.events("run")}


def test_each_lane_shows_its_servers_its_own_gpu_and_samples_name_it(two_gpus):
    drive = two_gpus.sweep("n_draft=2,4,6", "gpus=[0,1]", code=DRIVER)

    assert drive.wait() == 0, drive.said
    assert shown_to(two_gpus) == {"GPU-aaaa1111", "GPU-bbbb2222"}
    samples = two_gpus.samples()
    assert {sample.lane for sample in samples} == {0, 1}
    assert {sample.device for sample in samples} == {NAME}
    figures = {(s.gpu_temperature_c, s.gpu_clock_mhz, s.gpu_power_w, s.energy_j) for s in samples}
    assert figures == {(41.0, 1980.0, 350.0, 0.0)}


def test_gpus_are_chosen_by_uuid_and_grouped(two_gpus):
    drive = two_gpus.sweep("n_draft=2", "gpus=[GPU-bbbb,GPU-aaaa]", "gpus_per_lane=2", code=DRIVER)

    assert drive.wait() == 0, drive.said
    assert shown_to(two_gpus) == {"GPU-bbbb2222,GPU-aaaa1111"}
    assert {sample.device for sample in two_gpus.samples()} == {f"{NAME} + {NAME}"}


def test_without_nvml_gpus_are_pinned_by_number_and_conditions_are_unknown(two_gpus):
    drive = two_gpus.sweep("n_draft=2", "gpus=[1]")

    assert drive.wait() == 0, drive.said
    assert shown_to(two_gpus) == {"1"}
    assert {(s.gpu_temperature_c, s.energy_j) for s in two_gpus.samples()} == {(None, None)}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("gpus=[0,0]", "name each GPU once"),
        ("gpus=[0,GPU-aaaa1111]", "GPU-aaaa1111 twice"),
        ("gpus=[7]", "choose from 0 NVIDIA H100 80GB HBM3 GPU-aaaa1111"),
        ("gpus_per_lane=3", "2 GPUs can't be grouped by gpus_per_lane=3"),
        ("cpu_lanes=2", "this sweep runs on GPUs"),
    ],
)
def test_gpus_that_can_not_be_had_are_refused_before_anything_runs(two_gpus, override, words):
    drive = two_gpus.sweep("n_draft=2", override, code=DRIVER)

    assert drive.wait() == 2, drive.said
    assert words in " ".join(drive.said.split())
    assert two_gpus.events("listening") == []


def test_sweeps_on_different_gpus_run_at_once_and_one_on_a_gpu_in_use_is_refused(two_gpus):
    two_gpus.set(ms_per_token=20)
    first = two_gpus.sweep("n_draft=2", "iterations=100", "gpus=[0]", code=DRIVER)
    two_gpus.wait_for_runs(1)
    refused = two_gpus.sweep("n_draft=2", "gpus=[0]", "on_busy=fail", root=two_gpus.folder / "refused", code=DRIVER)
    beside = two_gpus.sweep("n_draft=2", "gpus=[1]", "iterations=1", root=two_gpus.folder / "beside", code=DRIVER)

    assert refused.wait() == 2, refused.said
    assert f"in use by {two_gpus.root} (process {first.process.pid}" in " ".join(refused.said.split())
    assert beside.wait() == 0, beside.said
    assert first.process.poll() is None
