"""Which devices llama.cpp can use here, what the driver knows of them, and how they are grouped to lanes.

The program's own list decides what can be used; NVML adds UUID, memory and the index that people know from
nvidia-smi. Both list NVIDIA's GPUs in PCI bus order, if the engine asks the program with
CUDA_DEVICE_ORDER=PCI_BUS_ID.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import psutil

from velosweep.errors import ConfigError
from velosweep.llama_cpp.capabilities import DEVICE_KINDS, VISIBILITY
from velosweep.machine.cores import physical_cores, share_cores
from velosweep.machine.environment import cpu_name
from velosweep.machine.nvml import Gpu, NvmlDriver
from velosweep.values import Device, Lane


def find_lanes(
    *,
    gpus: Sequence[int | str] | None,
    gpus_per_lane: int,
    program_devices: Sequence[Device],
    nvml: NvmlDriver | None = None,
    cpu_lanes: int = 1,
    environ: Mapping[str, str] | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> tuple[Lane, ...]:
    """The lanes to run on, numbered from 0.

    `gpus`: indices, UUIDs, beginnings of UUIDs (also of MIG instances) or the program's names (CUDA0), in the order
    of the lanes; None takes all that the program can use; empty means the CPU. A program without a GPU gets
    `cpu_lanes` CPU lanes, each with its own cores; `note` gets a sentence where that leaves a GPU idle.

    Raises ConfigError for an unknown, ambiguous or twice named GPU, and a number that doesn't divide.
    """
    environ = os.environ if environ is None else environ
    seen_by_driver = nvml.gpus() if nvml is not None else ()
    usable = _usable_gpus(program_devices, seen_by_driver, environ)
    if gpus is None and not usable and seen_by_driver:
        names = ", ".join(gpu.name for gpu in seen_by_driver if gpu.parent is None)
        note(f"This llama.cpp has no GPU support and runs on the CPU; the machine has {names}")
    if not usable and gpus:
        raise ConfigError(
            f"gpus=[{','.join(map(str, gpus))}], but this llama.cpp can use no GPU",
            remedy="choose a GPU build, or leave gpus out",
        )
    if not usable or (gpus is not None and not gpus):
        cpu = Device(kind="cpu", name=cpu_name(), memory_bytes=psutil.virtual_memory().total)
        shares = share_cores(cpu_lanes, physical_cores())
        return tuple(Lane(number=number, devices=(cpu,), cores=cores) for number, cores in enumerate(shares))
    if cpu_lanes != 1:
        raise ConfigError(f"cpu_lanes={cpu_lanes}, but this sweep runs on GPUs", remedy="set gpus=[] to run on the CPU")
    chosen = usable if gpus is None else tuple(_find(name, usable, seen_by_driver) for name in gpus)
    return _grouped(chosen, gpus_per_lane)


def _usable_gpus(
    program_devices: Sequence[Device], driver: Sequence[Gpu], environ: Mapping[str, str]
) -> tuple[Device, ...]:
    """The program's GPUs of its best back end, with what the driver knows of each."""
    kinds = {device.kind for device in program_devices}
    kind = next((kind for kind in DEVICE_KINDS.values() if kind in kinds), None)
    if kind is None:
        return ()
    devices = [device for device in program_devices if device.kind == kind]
    numbered = [device if device.index is not None else replace(device, index=i) for i, device in enumerate(devices)]
    visible = environ.get(VISIBILITY.get(kind, ""))
    if kind == "cuda" and driver:
        return _joined(numbered, visible_gpus(driver, visible))
    entries = [entry.strip() for entry in (visible or "").split(",") if entry.strip()]
    for position, entry in enumerate(entries[: len(numbered)]):  # by what the variable names them, index or UUID
        named = {"index": int(entry)} if entry.isdigit() else {"uuid": entry}
        numbered[position] = replace(numbered[position], **named)
    if kind != "vulkan":
        return tuple(numbered)
    # NVIDIA's cards get the driver's UUIDs, for locks and temperatures; only where a name is unambiguous
    known = []
    for device in numbered:
        cards = [gpu for gpu in driver if gpu.parent is None and _same_name(gpu.name, device.name)]
        twins = [other for other in numbered if _same_name(other.name, device.name)]
        known.append(replace(device, uuid=cards[0].uuid) if len(cards) == len(twins) == 1 else device)
    return tuple(known)


def visible_gpus(driver: Sequence[Gpu], cuda_visible_devices: str | None) -> tuple[Gpu, ...]:
    """The GPUs that a CUDA program sees, in its order: CUDA_VISIBLE_DEVICES holds indices or beginnings of UUIDs.

    CUDA stops at the first entry it doesn't know (CUDA programming guide, environment variables). Split GPUs are
    seen only as their instances.
    """
    whole = [gpu for gpu in driver if not gpu.split]
    if cuda_visible_devices is None:
        return tuple(whole)
    visible: list[Gpu] = []
    for entry in (entry.strip() for entry in cuda_visible_devices.split(",")):
        match = [
            gpu
            for gpu in whole
            if (entry.isdigit() and gpu.index == int(entry) and gpu.parent is None)
            or (entry.startswith(("GPU-", "MIG-")) and gpu.uuid.startswith(entry))
        ]
        if len(match) != 1:
            break
        visible += match
    return tuple(visible)


def _joined(devices: Sequence[Device], driver: Sequence[Gpu]) -> tuple[Device, ...]:
    """Each of the program's devices with the driver's GPU of the same name, in order; alone where there is none."""
    left = list(driver)
    joined = []
    for device in devices:
        gpu = next((gpu for gpu in left if _same_name(gpu.name, device.name)), None)
        if gpu is not None:
            left.remove(gpu)
            memory = gpu.memory_bytes or device.memory_bytes
            device = replace(device, name=gpu.name, index=gpu.index, uuid=gpu.uuid, memory_bytes=memory)
        joined.append(device)
    return tuple(joined)


def _same_name(one: str, other: str) -> bool:
    return " ".join(one.split()).casefold() == " ".join(other.split()).casefold()


def _find(name: int | str, usable: Sequence[Device], driver: Sequence[Gpu]) -> Device:
    text = str(name).strip()
    if re.fullmatch(r"\d+", text):
        matches = [device for device in usable if device.index == int(text)]
    else:
        lowered = text.casefold()
        matches = [
            device
            for device in usable
            if lowered == (device.program_name or "").casefold()
            or (len(text) > 4 and device.uuid is not None and device.uuid.casefold().startswith(lowered))
        ]
    if not matches and len(text) > 4:  # CUDA lists one MIG instance alone unless told which
        matches = [
            Device(kind="cuda", name=gpu.name, index=gpu.index, uuid=gpu.uuid, memory_bytes=gpu.memory_bytes)
            for gpu in driver
            if gpu.parent is not None and gpu.uuid.casefold().startswith(text.casefold())
        ]
    if len(matches) == 1:
        return matches[0]
    parts = ((device.index, device.name, device.uuid or device.program_name) for device in usable)
    known = "; ".join(" ".join(str(part) for part in named if part is not None) for named in parts)
    split = next((gpu for gpu in driver if gpu.split and gpu.uuid.casefold().startswith(text.casefold())), None)
    if split is not None:
        instances = ", ".join(gpu.uuid for gpu in driver if gpu.parent == split.uuid)
        raise ConfigError(f"GPU {text} is split into MIG instances", remedy=f"name one of them: {instances or 'none'}")
    problem = "fits several GPUs" if matches else "is not a GPU that this llama.cpp can use"
    raise ConfigError(f"gpus: {text!r} {problem}", remedy=f"choose from {known}")


def _grouped(devices: Sequence[Device], per_lane: int) -> tuple[Lane, ...]:
    keys = [device_key(device) for device in devices]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise ConfigError(f"gpus names {twice} twice", remedy="name each GPU once: a GPU is one lane's only")
    if per_lane < 1 or len(devices) % per_lane:
        raise ConfigError(
            f"{len(devices)} GPUs can't be grouped by gpus_per_lane={per_lane}",
            remedy="name as many GPUs as the lanes need, or change gpus_per_lane",
        )
    groups = (devices[first : first + per_lane] for first in range(0, len(devices), per_lane))
    return tuple(Lane(number=number, devices=tuple(group)) for number, group in enumerate(groups))


def device_key(device: Device) -> str:
    """What identifies a device on this machine: its UUID, else its kind and number; `cpu` for the CPU."""
    if device.kind == "cpu":
        return "cpu"
    return device.uuid or f"{device.kind}{device.index if device.index is not None else device.program_name}"
