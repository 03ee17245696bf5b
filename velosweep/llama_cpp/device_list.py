"""Which devices a program sees, and how a child is confined to some of them."""

from __future__ import annotations

import re

from velosweep.llama_cpp import process
from velosweep.llama_cpp.capabilities import Capabilities
from velosweep.values import Device, Lane

# Beginning of the name in llama.cpp's list -> kind. CPU-side helpers (BLAS, AMX) and RPC servers are no devices here.
_KINDS = {
    "CUDA": "cuda",
    "ROCm": "rocm",
    "MUSA": "musa",
    "Vulkan": "vulkan",
    "Metal": "metal",
    "MTL": "metal",
    "SYCL": "sycl",
    "GPUOpenCL": "opencl",
    "OpenCL": "opencl",
    "CANN": "cann",
}
_LINE = re.compile(r"^[ \t]+([A-Za-z]+?)(\d*): (.+?) \((\d+) MiB, \d+ MiB free\)\s*$", re.MULTILINE)
_HIDING = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES")


def list_devices(capabilities: Capabilities) -> tuple[Device, ...]:
    """The GPUs that a program can use, by its own list; empty for a build that has none or can't list them."""
    flag = capabilities.name("list_devices")
    if flag is None:
        return ()
    # nvidia-smi's order and CUDA's own differ unless both go by the bus.
    answer = process.ask([capabilities.program, flag], timeout_s=60.0, environment={"CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    return parse_list(answer.stdout)


def parse_list(text: str) -> tuple[Device, ...]:
    """`--list-devices` to devices. `  CUDA0: NVIDIA H100 (81079 MiB, 80555 MiB free)` -> cuda, index 0."""
    return tuple(
        Device(
            kind=_KINDS[prefix],
            name=name,
            index=int(index) if index else None,
            memory_bytes=int(total) << 20,
            program_name=prefix + index,
        )
        for prefix, index, name, total in _LINE.findall(text)
        if prefix in _KINDS
    )


def visible_names(lane: Lane) -> list[str]:
    """What a child pinned to the lane calls its devices: what is visible is numbered from 0 again.

    Empty where a device's name isn't known.
    """
    names = []
    for position, device in enumerate(device for device in lane.devices if device.kind != "cpu"):
        if device.program_name is None:
            return []
        prefix = device.program_name.rstrip("0123456789")
        hidden = device.kind in ("cuda", "rocm", "vulkan", "sycl")
        names.append(f"{prefix}{position}" if hidden else device.program_name)
    return names


def pinning_environment(lane: Lane) -> dict[str, str | None]:
    """Variables that show a child only the lane's devices; for a lane of the CPU, none of a GPU's."""
    gpus = [device for device in lane.devices if device.kind != "cpu"]
    if not gpus:
        return {**dict.fromkeys(_HIDING, ""), "ROCR_VISIBLE_DEVICES": None}
    indices = ",".join(str(device.index) for device in gpus)
    kind = gpus[0].kind
    if kind == "cuda":
        uuids = ",".join(device.uuid or str(device.index) for device in gpus)
        return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": uuids}
    if kind == "rocm" and all((device.uuid or "").startswith("GPU-") for device in gpus):
        # HIP_VISIBLE_DEVICES takes no UUIDs; HIP then counts what ROCR leaves.
        return {"ROCR_VISIBLE_DEVICES": ",".join(device.uuid or "" for device in gpus), "HIP_VISIBLE_DEVICES": None}
    if kind == "sycl":
        return {"ONEAPI_DEVICE_SELECTOR": f"level_zero:{indices}"}
    names = {"rocm": "HIP_VISIBLE_DEVICES", "vulkan": "GGML_VK_VISIBLE_DEVICES"}
    return {names[kind]: indices} if kind in names else {}
