"""Memory before a load: what a lane has free, and what a server will need.

A server's memory has two parts: model files, and the rest (KV cache, compute buffers). On the CPU files are mapped
and shared by all servers of a model, so a file counts once per machine; on a GPU every server has its own copy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from velosweep.machine.cores import ROOT, free_memory_bytes
from velosweep.machine.nvml import NvmlDriver
from velosweep.values import Lane

CPU_MARGIN_BYTES = 512 << 20  # left to the driver and the system
CPU_MARGIN_SHARE = 0.02
GPU_MARGIN_BYTES = 256 << 20  # fragmentation, and what the driver needs for a process
PROCESS_BYTES = 64 << 20  # a llama-server without any model
GPU_CONTEXT_BYTES = 400 << 20  # a CUDA context and its cuBLAS workspace
# KV cache per token as a share of the weights: 131072 bytes for 8B at 4.9 GB; too much for less quantised weights.
KV_SHARE_PER_TOKEN = 3e-5
COMPUTE_BYTES_PER_BATCH_TOKEN = 1 << 20  # logits of 128k entries at f32, and activations

# bytes a number takes in a GGML block of 32 (ggml-common.h)
CACHE_TYPE_BYTES = {
    **dict.fromkeys(("f16", "bf16"), 2.0),
    "f32": 4.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    **dict.fromkeys(("q4_0", "iq4_nl"), 18 / 32),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryNeed:
    """What a server takes: its files (path, bytes), mapped or copied, and `private_bytes` for all else."""

    files: tuple[tuple[str, int], ...]
    private_bytes: int

    @property
    def file_bytes(self) -> int:
        """The files' bytes, each file once."""
        return sum(dict(self.files).values())

    @property
    def total_bytes(self) -> int:
        """What one server takes where it shares nothing."""
        return self.file_bytes + self.private_bytes


def expected_need(
    *,
    files: tuple[tuple[str, int], ...],
    context: int,
    ubatch: int = 512,
    kv_bytes_per_token: int | None = None,
    on_gpu: bool = False,
) -> MemoryNeed:
    """A rough, rather high estimate before the first load. `files`: path and bytes of the main and the draft model.

    `kv_bytes_per_token`: of both models together, where the GGUF headers say (layers x KV width x 2 x element).
    """
    if kv_bytes_per_token is None:
        kv_bytes_per_token = int(sum(size for _, size in files) * KV_SHARE_PER_TOKEN)
    fixed = GPU_CONTEXT_BYTES if on_gpu else PROCESS_BYTES
    compute = ubatch * COMPUTE_BYTES_PER_BATCH_TOKEN // (1 if on_gpu else 4) * len(files)
    return MemoryNeed(files=files, private_bytes=context * kv_bytes_per_token + compute + fixed)


def cache_bytes(elements: int, *, type_k: str, type_v: str) -> int:
    """Bytes of a KV cache of that many numbers, half keys and half values; an unknown type counts as f32."""
    return int(elements / 2 * sum(CACHE_TYPE_BYTES.get(name, 4.0) for name in (type_k, type_v)))


def fits(new: MemoryNeed, *, resident: Sequence[MemoryNeed], free_bytes: int | None, shared_files: bool) -> bool:
    """Whether there is room to load `new` beside the `resident` servers of the same memory.

    `free_bytes`: as `free_bytes(lane)` says now, with the residents loaded. With `shared_files` (mapped, on the CPU)
    the system counts mapped files as free, as it could drop them: so residents' files are subtracted here, and a file
    that is mapped already costs nothing more. Where free memory is unknown, there is room for one server at a time.
    """
    if free_bytes is None:
        return not resident
    if not shared_files:
        return new.total_bytes <= free_bytes
    mapped = {path: size for need in (*resident, new) for path, size in need.files}
    return sum(mapped.values()) + new.private_bytes <= free_bytes


def free_bytes(lane: Lane, *, nvml: NvmlDriver | None = None, root: Path = ROOT) -> int | None:
    """Memory that servers of this lane may take now, after a margin; None where the GPU's can't be read.

    Of several GPUs it is what they have together if all were filled alike: the number times the least.
    """
    if lane.on_cpu:
        memory, granted = psutil.virtual_memory(), free_memory_bytes(root)
        available = memory.available if granted is None else min(memory.available, granted)
        return max(0, int(available - CPU_MARGIN_BYTES - CPU_MARGIN_SHARE * memory.total))
    free = [nvml.free_bytes(device.uuid) if nvml and device.uuid else None for device in lane.devices]
    known = [amount for amount in free if amount is not None]
    if len(known) < len(free):
        return None
    return max(0, (min(known) - GPU_MARGIN_BYTES) * len(known))


def gpu_bytes_of_process(lane: Lane, pid: int, nvml: NvmlDriver) -> int | None:
    """Memory that a process holds on the lane's GPUs; None where the driver doesn't say."""
    if any(device.uuid is None for device in lane.devices):
        return None
    readings = [nvml.reading(device.uuid).processes for device in lane.devices if device.uuid]
    held = [processes[pid] for processes in readings if processes is not None and pid in processes]
    known = [amount for amount in held if amount is not None]
    return sum(known) if held and len(known) == len(held) else None
