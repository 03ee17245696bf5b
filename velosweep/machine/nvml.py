"""What NVIDIA's driver says: GPUs, their temperature, clocks, power, energy, memory and processes.

No driver, no library, an old card: None or an empty tuple, never an error, because a machine without an NVIDIA GPU is
an ordinary one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

# NVML's bits of nvmlDeviceGetCurrentClocksEventReasons (nvml.h) that cost speed. Left out: 0x1 idle, 0x2 and 0x100
# clocks fixed by a person, which a benchmark wants.
THROTTLE_REASONS = (
    (0x04, "power cap"),
    (0x08, "hardware slowdown"),
    (0x10, "sync boost"),
    (0x20, "thermal (software)"),
    (0x40, "thermal (hardware)"),
    (0x80, "power brake"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One GPU, or one MIG instance (`parent`: its GPU). `split`: a GPU that is used only through its instances."""

    index: int
    uuid: str
    name: str
    memory_bytes: int | None
    parent: str | None = None
    split: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuReading:
    """A GPU at one moment; None where it can't be read.

    `energy_j` counts from the driver's start. `processes`: bytes that each process id holds there, None where the
    driver hides them (containers, WSL).
    """

    temperature_c: float | None = None
    sm_clock_mhz: float | None = None
    power_w: float | None = None
    energy_j: float | None = None
    throttle: tuple[str, ...] | None = None
    processes: Mapping[int, int | None] | None = None


def open_nvml() -> "NvmlDriver | None":
    """The driver's monitoring library, or None where there is none."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return NvmlDriver(pynvml)


class NvmlDriver:
    """NVML through nvidia-ml-py's module `pynvml`, which tests replace by a stand-in."""

    def __init__(self, pynvml: Any) -> None:
        self._nvml = pynvml
        self._handles: dict[str, Any] = {}
        self._sensors: dict[str, Any] = {}  # a MIG instance has no thermometer: its GPU's is read

    def gpus(self) -> tuple[Gpu, ...]:
        """All GPUs and MIG instances in the driver's (PCI bus) order; a GPU comes before its instances."""
        nvml, found = self._nvml, list[Gpu]()
        for index in range(self._ask(nvml.nvmlDeviceGetCount) or 0):
            handle = self._ask(nvml.nvmlDeviceGetHandleByIndex, index)
            mode = None if handle is None else self._ask(nvml.nvmlDeviceGetMigMode, handle)
            gpu = self._gpu(index, handle, split=bool(mode and mode[0]))
            if gpu is None:
                continue
            found.append(gpu)
            instances = self._ask(nvml.nvmlDeviceGetMaxMigDeviceCount, handle) if gpu.split else 0
            for number in range(instances or 0):
                part = self._ask(nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, number)
                instance = self._gpu(index, part, parent=gpu.uuid)
                if instance is not None:
                    self._sensors[instance.uuid] = handle
                    found.append(instance)
        return tuple(found)

    def _gpu(self, index: int, handle: Any, *, parent: str | None = None, split: bool = False) -> Gpu | None:
        """What the driver says of one; None where there is none, or it has no UUID."""
        uuid = None if handle is None else self._ask(self._nvml.nvmlDeviceGetUUID, handle)
        if uuid is None:
            return None
        self._handles[uuid] = handle
        memory = self._ask(self._nvml.nvmlDeviceGetMemoryInfo, handle)
        name = self._ask(self._nvml.nvmlDeviceGetName, handle) or uuid
        total = None if memory is None else int(memory.total)
        return Gpu(index=index, uuid=uuid, name=name, memory_bytes=total, parent=parent, split=split)

    def reading(self, uuid: str) -> GpuReading:
        """The state of one now. A MIG instance has its GPU's temperature, clock and power, and no energy of its own."""
        nvml, handle = self._nvml, self._handle(uuid)
        if handle is None:
            return GpuReading()
        sensor = self._sensors.get(uuid, handle)
        energy = None if uuid in self._sensors else self._ask(nvml.nvmlDeviceGetTotalEnergyConsumption, sensor)
        power = self._ask(nvml.nvmlDeviceGetPowerUsage, sensor)
        reasons = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)  # named so since driver 535
        mask = None if reasons is None else self._ask(reasons, sensor)
        if mask is None:
            mask = self._ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons, sensor)
        return GpuReading(
            temperature_c=_float(self._ask(nvml.nvmlDeviceGetTemperature, sensor, nvml.NVML_TEMPERATURE_GPU)),
            sm_clock_mhz=_float(self._ask(nvml.nvmlDeviceGetClockInfo, sensor, nvml.NVML_CLOCK_SM)),
            power_w=None if power is None else power / 1000,
            energy_j=None if energy is None else energy / 1000,
            throttle=None if mask is None else tuple(name for bit, name in THROTTLE_REASONS if int(mask) & bit),
            processes=self._processes(handle),
        )

    def free_bytes(self, uuid: str) -> int | None:
        """Memory that can be allocated on it now."""
        handle = self._handle(uuid)
        memory = None if handle is None else self._ask(self._nvml.nvmlDeviceGetMemoryInfo, handle)
        return None if memory is None else int(memory.free)

    def _handle(self, uuid: str) -> Any:
        if uuid not in self._handles:
            self.gpus()
        return self._handles.get(uuid)

    def _processes(self, handle: Any) -> Mapping[int, int | None] | None:
        nvml = self._nvml
        computing = self._ask(nvml.nvmlDeviceGetComputeRunningProcesses, handle)
        drawing = self._ask(nvml.nvmlDeviceGetGraphicsRunningProcesses, handle)
        if computing is None and drawing is None:
            return None
        memory: dict[int, int | None] = {}
        for process in [*(drawing or ()), *(computing or ())]:
            memory[int(process.pid)] = None if process.usedGpuMemory is None else int(process.usedGpuMemory)
        return memory

    def _ask(self, call: Callable[..., T], *arguments: Any) -> T | None:
        """The answer, or None: cards and drivers differ in what they know, and NVML says so by an exception."""
        try:
            return call(*arguments)
        except self._nvml.NVMLError:
            return None


def _float(value: Any) -> float | None:
    return None if value is None else float(value)
