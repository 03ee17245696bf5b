"""As many servers stay loaded as memory allows, and none is started without room for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from velosweep.config.settings import Job
from velosweep.errors import LaunchFailed
from velosweep.llama_cpp.engine import ServerConfig, Session
from velosweep.machine.memory import MemoryNeed, cache_bytes, expected_need, fits, free_bytes, gpu_bytes_of_process
from velosweep.machine.nvml import NvmlDriver
from velosweep.models.gguf_model import GgufInfo
from velosweep.planning.identity import speculative_server, vanilla_server
from velosweep.units import bytes_words, plural
from velosweep.values import Lane

_MOST_SERVERS = 64


@dataclass(kw_only=True)
class MemoryEstimates:
    """What servers on one lane need: an estimate, then what they were seen to hold.

    `headers`: of the model files by path. Somebody else's server (an attached one) takes nothing of ours.
    """

    lane: Lane
    headers: Mapping[str, GgufInfo]
    nvml: NvmlDriver | None = None
    _measured: dict[str, int] = field(default_factory=dict)  # by server id: the most bytes, files included

    def need(self, server: ServerConfig) -> MemoryNeed:
        """What a server takes, measured where it was loaded before.

        On the CPU a measurement lower than the files (pages not touched yet) says nothing of the rest, which is then
        estimated.
        """
        if server.engine.kind == "attached":
            return MemoryNeed(files=(), private_bytes=0)
        expected = expected_need(
            files=self._files(server),
            context=server.context,
            ubatch=server.engine.ubatch,
            kv_bytes_per_token=self._kv_bytes_per_token(server),
            on_gpu=not self.lane.on_cpu,
        )
        measured = self._measured.get(server.id, 0)
        if measured and not self.lane.on_cpu:
            return MemoryNeed(files=(), private_bytes=measured)
        if measured < expected.file_bytes or not measured:
            return expected
        return MemoryNeed(files=expected.files, private_bytes=measured - expected.file_bytes)

    def learn(self, server: ServerConfig, session: Session) -> int | None:
        """Bytes that a loaded server holds (on a GPU: there), remembered for its next load; None if unknown."""
        if self.lane.on_cpu:
            held = session.memory_bytes()
        elif session.pid is None or self.nvml is None:
            held = None
        else:
            held = gpu_bytes_of_process(self.lane, session.pid, self.nvml)
        if held:
            self._measured[server.id] = max(held, self._measured.get(server.id, 0))
        return held

    def resident_servers(self, job: Job) -> int:
        """How many servers of such a job fit at once, the vanilla one included."""
        server = speculative_server(job) or vanilla_server(job)
        need, free = self.need(server), free_bytes(self.lane, nvml=self.nvml)
        shared = self._shares_files(server)
        resident: list[MemoryNeed] = []
        while len(resident) < _MOST_SERVERS and fits(
            need, resident=resident, free_bytes=_left(free, resident, shared), shared_files=shared
        ):
            resident.append(need)
        return len(resident)

    def refusal(
        self, server: ServerConfig, resident: Sequence[ServerConfig], loading: Sequence[ServerConfig] = ()
    ) -> LaunchFailed | None:
        """Why `server` has no room beside the loaded ones and those that are loading; None where it has.

        What is loading has not taken its memory yet: its need is subtracted from what is free now.
        """
        shared = self._shares_files(server)
        free = _left(free_bytes(self.lane, nvml=self.nvml), [self.need(other) for other in loading], shared)
        need = self.need(server)
        loaded = [self.need(other) for other in (*resident, *loading)]
        if free is None or fits(need, resident=loaded, free_bytes=free, shared_files=shared):
            return None
        if not loaded and not self.lane.on_cpu:  # with experts on the CPU, say, only a load shows what it takes
            return None
        layers = "" if self.lane.on_cpu else " or engine.gpu_layers"
        return LaunchFailed(
            f"No room to load {server.label}: it needs about {bytes_words(need.total_bytes)}, {self.lane.label} has "
            f"{bytes_words(free)} free beside {plural(len(loaded), 'loaded server')}",
            remedy=f"free memory, choose a smaller model or quantisation, or lower engine.context{layers}",
        )

    def _files(self, server: ServerConfig) -> tuple[tuple[str, int], ...]:
        """Paths and bytes of the models: on a GPU of the layers that are there, of which the output is one."""
        asked = [(server.main_model, server.engine.gpu_layers)]
        if server.draft_model:
            asked.append((server.draft_model, server.engine.draft_gpu_layers))
        files = []
        for path, layers_there in asked:
            header = self.headers.get(path)
            size = header.size_bytes if header else 0
            if header and header.layers and not self.lane.on_cpu:
                size = size * min(layers_there, header.layers + 1) // (header.layers + 1)
            files.append((path, size))
        return tuple(files)

    def _kv_bytes_per_token(self, server: ServerConfig) -> int | None:
        """Of both models; None where a header doesn't say."""
        engine = server.engine
        caches = [(server.main_model, engine.cache_type_k, engine.cache_type_v)]
        if server.draft_model:
            caches.append((server.draft_model, engine.draft_cache_type_k, engine.draft_cache_type_v))
        total = 0
        for path, type_k, type_v in caches:
            elements = self.headers[path].kv_elements_per_token if path in self.headers else None
            if elements is None:
                return None
            total += cache_bytes(elements, type_k=type_k, type_v=type_v)
        return total

    def _shares_files(self, server: ServerConfig) -> bool:
        return server.engine.mmap and self.lane.on_cpu


def _left(free: int | None, loading: Sequence[MemoryNeed], shared_files: bool) -> int | None:
    """What would be free with `loading` loaded, which aren't yet."""
    if free is None:
        return None
    return free - sum(need.private_bytes if shared_files else need.total_bytes for need in loading)
