"""A stand-in for the module `pynvml`: GPUs, MIG instances and processes as tests set them, and NVML's exceptions."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace


class NVMLError(Exception):
    """As pynvml.NVMLError."""


@dataclass
class FakeGpu:
    """One card or MIG instance; a field in `refuses` is answered by NVMLError, as by a card that can't tell."""

    uuid: str
    name: str
    total: int = 80 << 30
    free: int = 79 << 30
    temperature: int = 41
    clock: int = 1980
    power_mw: int = 350_000
    energy_mj: int = 1_000_000
    throttle: int = 0
    processes: list[tuple[int, int | None]] = field(default_factory=list)
    instances: list[FakeGpu] = field(default_factory=list)
    refuses: set[str] = field(default_factory=set)


class FakePynvml:
    """The calls that velosweep makes, with pynvml's names."""

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1

    def __init__(self, *gpus: FakeGpu) -> None:
        self.cards = list(gpus)

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        return self.cards[index]

    def nvmlDeviceGetUUID(self, gpu: FakeGpu) -> str:
        return gpu.uuid

    def nvmlDeviceGetName(self, gpu: FakeGpu) -> str:
        return gpu.name

    def nvmlDeviceGetMigMode(self, gpu: FakeGpu) -> list[int]:
        _refuse(gpu, "mig")
        return [1, 1] if gpu.instances else [0, 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: FakeGpu) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: FakeGpu, number: int) -> FakeGpu:
        if number >= len(gpu.instances):
            raise NVMLError("Not Found")
        return gpu.instances[number]

    def nvmlDeviceGetMemoryInfo(self, gpu: FakeGpu) -> SimpleNamespace:
        _refuse(gpu, "memory")
        return SimpleNamespace(total=gpu.total, free=gpu.free)

    def nvmlDeviceGetTemperature(self, gpu: FakeGpu, sensor: int) -> int:
        _refuse(gpu, "temperature")
        return gpu.temperature

    def nvmlDeviceGetClockInfo(self, gpu: FakeGpu, which: int) -> int:
        return gpu.clock

    def nvmlDeviceGetPowerUsage(self, gpu: FakeGpu) -> int:
        _refuse(gpu, "power")
        return gpu.power_mw

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: FakeGpu) -> int:
        _refuse(gpu, "energy")
        return gpu.energy_mj

    def nvmlDeviceGetCurrentClocksEventReasons(self, gpu: FakeGpu) -> int:
        _refuse(gpu, "events")
        return gpu.throttle

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, gpu: FakeGpu) -> int:
        _refuse(gpu, "throttle")
        return gpu.throttle

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: FakeGpu) -> list[SimpleNamespace]:
        _refuse(gpu, "processes")
        return [SimpleNamespace(pid=pid, usedGpuMemory=held) for pid, held in gpu.processes]

    def nvmlDeviceGetGraphicsRunningProcesses(self, gpu: FakeGpu) -> list[SimpleNamespace]:
        _refuse(gpu, "processes")
        return []


def _refuse(gpu: FakeGpu, what: str) -> None:
    if what in gpu.refuses:
        raise NVMLError("Not Supported")
