"""Which devices a program sees, and how a child is confined to some of them."""

from __future__ import annotations

from velosweep.model import Lane

_VISIBILITY = {
    "cuda": "CUDA_VISIBLE_DEVICES",
    "rocm": "HIP_VISIBLE_DEVICES",
    "vulkan": "GGML_VK_VISIBLE_DEVICES",
    "sycl": "ONEAPI_DEVICE_SELECTOR",
}


def pinning_environment(lane: Lane) -> dict[str, str | None]:
    """Variables that show a child only the lane's devices; for a lane of the CPU, none of a GPU's."""
    kinds = {device.kind for device in lane.devices} - {"cpu"}
    if not kinds:
        return {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "", "ROCR_VISIBLE_DEVICES": None}
    environment: dict[str, str | None] = {}
    for kind in sorted(kinds):
        variable = _VISIBILITY.get(kind)
        members = [device for device in lane.devices if device.kind == kind]
        if variable is None or not members:
            continue
        if kind == "cuda":
            # nvidia-smi's order and CUDA's own differ unless both go by the bus.
            environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        environment[variable] = ",".join(device.uuid or str(device.index) for device in members)
    return environment
