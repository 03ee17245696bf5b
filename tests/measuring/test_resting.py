"""When and how long a lane rests."""

from __future__ import annotations

import dataclasses
import time

import pytest

from tests.machine.fake_pynvml import FakeGpu, FakePynvml
from velosweep.config.settings import Protocol
from velosweep.machine.conditions import Monitor
from velosweep.machine.nvml import NvmlDriver
from velosweep.measuring.cooldown import Cooldown, rest_needed_s, wait_until_cool
from velosweep.measuring.interrupts import StopFlag
from velosweep.values import Device, Lane

COOLING = Protocol(cooldown=True, cooldown_drift=0.02, cooldown_max_s=60)


@pytest.mark.parametrize(
    ("latest", "expected"), [(100, 0), (110, 0), (98.5, 0), (98.0, 0), (97.0, 30), (96.0, 60), (50.0, 60)]
)
def test_the_rest_grows_with_the_fall_beyond_the_allowed_drift(latest, expected):
    assert pytest.approx(expected) == rest_needed_s(baseline=100, latest=latest, protocol=COOLING)


def test_no_rest_is_taken_unless_asked_for():
    protocol = dataclasses.replace(COOLING, cooldown=False)

    assert rest_needed_s(baseline=100, latest=1, protocol=protocol) == 0


class Clock:
    """Time that passes only by sleeping; an end is asked for at `stop_at`."""

    def __init__(self, stop_at=float("inf")):
        self.now, self.stop_at = 0.0, stop_at

    def __call__(self):
        return self.now

    def wait(self, seconds):
        self.now = min(self.now + seconds, max(self.now, self.stop_at))
        return self.now >= self.stop_at


def rested_s(rest_s, clock, temperature_c=lambda: None, target_c=None):
    wait_until_cool(rest_s, temperature_c, target_c=target_c, wait=clock.wait, clock=clock)
    return clock.now


def test_a_rest_without_a_thermometer_lasts_as_long_as_asked():
    assert rested_s(2.5, Clock()) == 2.5


def test_a_rest_ends_when_the_gpu_is_as_cool_as_at_first():
    clock = Clock()

    assert rested_s(60, clock, temperature_c=lambda: 80 - clock.now, target_c=70) == 10


def test_a_rest_ends_as_soon_as_the_person_asks_to_stop():
    assert rested_s(60, Clock(stop_at=3.4)) == 3.4


def test_a_lane_waits_for_the_temperature_of_its_first_round():
    gpu = FakeGpu("GPU-a", "H100", temperature=50)
    lane = Lane(number=0, devices=(Device(kind="cuda", name="H100", uuid="GPU-a"),))
    cooldown = Cooldown(Monitor(lane, nvml=NvmlDriver(FakePynvml(gpu))), StopFlag())
    at_first = cooldown.rest(COOLING, baseline=100, latest=100)
    gpu.temperature = 49  # cooler than at first: nothing is waited for
    began = time.monotonic()

    assert (at_first, cooldown.rest(COOLING, baseline=100, latest=50)) == (False, True)
    assert time.monotonic() - began < 30
