"""Room before loading: what a lane has free, what an arm will take, what it was seen to take.

An arm's memory has two parts: model files, and the rest (KV cache, compute buffers). On the CPU files are mapped
and shared by all servers of a model (llama-cpp-facts section 6), so a file counts once a machine; on a GPU every
server has its own copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from velosweep.machine.cores import PROC, SYS, cgroup_folders
from velosweep.machine.nvml import NvmlLike
from velosweep.values import Lane

CPU_MARGIN_BYTES = 512 << 20  # left to the driver and the system
CPU_MARGIN_SHARE = 0.02
GPU_MARGIN_BYTES = 256 << 20  # fragmentation, and what the driver takes for a process
PROCESS_BYTES = 64 << 20  # a llama-server without any model
GPU_CONTEXT_BYTES = 400 << 20  # a CUDA context and its cuBLAS workspace
KV_SHARE_PER_TOKEN = 3e-5  # KV cache a token by weights: 131072 bytes for 8B at 4.9 GB, the least quantised are over
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
class Need:
    """What an arm takes: its files (path, bytes), mapped or copied, and `private_bytes` for all else."""

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
    main: tuple[str, int],
    draft: tuple[str, int] | None,
    context: int,
    ubatch: int = 512,
    kv_bytes_per_token: int | None = None,
    on_gpu: bool = False,
) -> Need:
    """A rough, rather high estimate before the first load. `main`, `draft`: (path, bytes) of the files.

    `kv_bytes_per_token`: of both models together, where the GGUF headers told (layers x KV width x 2 x element).
    """
    files = (main, draft) if draft is not None else (main,)
    per_token = kv_bytes_per_token
    if per_token is None:
        per_token = int(sum(size for _, size in files) * KV_SHARE_PER_TOKEN)
    fixed = GPU_CONTEXT_BYTES if on_gpu else PROCESS_BYTES
    compute = ubatch * COMPUTE_BYTES_PER_BATCH_TOKEN // (1 if on_gpu else 4) * len(files)
    return Need(files=files, private_bytes=context * per_token + compute + fixed)


def cache_bytes(elements: int, *, type_k: str, type_v: str) -> int:
    """Bytes of a KV cache of that many numbers, half keys and half values; a type that is not known counts as f32."""
    return int(elements / 2 * sum(CACHE_TYPE_BYTES.get(name, 4.0) for name in (type_k, type_v)))


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryEstimates:
    """What arms were seen to take, by arm id. A value: `seen` returns a new book."""

    measured_bytes: Mapping[str, int] = field(default_factory=dict)

    def seen(self, arm_id: str, measured_bytes: int | None) -> MemoryEstimates:
        """The book with a load's measured bytes (all of the server's, files included); the largest is kept."""
        if not measured_bytes:
            return self
        largest = max(measured_bytes, self.measured_bytes.get(arm_id, 0))
        return MemoryEstimates(measured_bytes={**self.measured_bytes, arm_id: largest})

    def need(self, arm_id: str, expected: Need) -> Need:
        """The arm's need by measurement, else as expected.

        A measurement lower than the files (pages not touched yet) says nothing of the rest, which is then expected.
        """
        measured = self.measured_bytes.get(arm_id)
        if measured is None or measured < expected.file_bytes:
            return expected
        return Need(files=expected.files, private_bytes=measured - expected.file_bytes)


def fits(new: Need, *, resident: Sequence[Need], free_bytes: int | None, shared_files: bool) -> bool:
    """Whether there is room to load `new` beside the `resident` servers of the same memory.

    `free_bytes`: as `free_bytes(lane)` says now, with the residents loaded. With `shared_files` (mapped, on the CPU)
    the system counts mapped files as free, as it could drop them: so residents' files are taken off here, and a file
    that is mapped already costs nothing more. Where free memory is unknown, one server at a time has room.
    """
    if free_bytes is None:
        return not resident
    if not shared_files:
        return new.total_bytes <= free_bytes
    mapped = {path: size for need in (*resident, new) for path, size in need.files}
    return sum(mapped.values()) + new.private_bytes <= free_bytes


def shares_files(lane: Lane, *, mmap: bool) -> bool:
    """Whether servers of this lane share their files' memory."""
    return mmap and is_cpu(lane)


def is_cpu(lane: Lane) -> bool:
    """Whether the lane has no GPU."""
    return all(device.kind == "cpu" for device in lane.devices)


def free_bytes(lane: Lane, *, nvml: NvmlLike | None = None, proc_root: Path = PROC, sys_root: Path = SYS) -> int | None:
    """Memory that servers of this lane may take now, after a margin; None where the GPU's can't be read.

    Of several GPUs it is what they have together if all were filled alike: the number times the least.
    """
    if is_cpu(lane):
        return _free_cpu_bytes(sys_root, proc_root)
    free = [nvml.free_bytes(device.uuid) if nvml and device.uuid else None for device in lane.devices]
    known = [amount for amount in free if amount is not None]
    if len(known) < len(free):
        return None
    return max(0, (min(known) - GPU_MARGIN_BYTES) * len(known))


def held_bytes(lane: Lane, pids: Iterable[int], *, nvml: NvmlLike | None = None) -> int | None:
    """Memory that the processes hold on the lane: on its GPUs by the driver, else resident sets (shared pages too)."""
    wanted = set(pids)
    if is_cpu(lane):
        return _resident_bytes(wanted)
    if nvml is None or any(device.uuid is None for device in lane.devices):
        return None
    readings = [nvml.reading(device.uuid).processes for device in lane.devices if device.uuid]
    held = [process.memory_bytes for one in readings for process in one or () if process.pid in wanted]
    if not held or any(amount is None for amount in held):
        return None
    return sum(amount for amount in held if amount is not None)


def _resident_bytes(pids: Iterable[int]) -> int | None:
    total = 0
    for pid in pids:
        try:
            total += psutil.Process(pid).memory_info().rss
        except psutil.Error:
            return None
    return total or None


def _free_cpu_bytes(sys_root: Path, proc_root: Path) -> int:
    memory = psutil.virtual_memory()
    free = min([memory.available, *_free_in_cgroups(sys_root, proc_root)])
    return max(0, int(free - CPU_MARGIN_BYTES - CPU_MARGIN_SHARE * memory.total))


def _free_in_cgroups(sys_root: Path, proc_root: Path) -> list[int]:
    """What each control group above us still grants; file pages count as free, as they do for the machine."""
    free = []
    for folder in cgroup_folders("memory", sys_root=sys_root, proc_root=proc_root):
        limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
        used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes")
        if limit is not None and used is not None:
            free.append(limit - used + _file_pages(folder))
    return free


def _file_pages(folder: Path) -> int:
    """Bytes of file pages that could be dropped; version 1 calls the tree's `total_...`."""
    try:
        pairs = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
        stat = {name: int(value) for name, value in pairs}
    except (OSError, ValueError):
        return 0
    names = ("inactive_file", "active_file")
    return sum(stat.get(f"total_{name}", stat.get(name, 0)) for name in names)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max" is no number: no limit
        return None
