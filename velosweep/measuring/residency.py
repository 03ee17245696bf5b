"""As many servers stay loaded as memory allows, and none is started without room for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from velosweep.config.settings import Job
from velosweep.errors import LaunchFailed
from velosweep.llama_cpp.engine import ServerConfig
from velosweep.machine.memory import (
    MemoryEstimates,
    Need,
    cache_bytes,
    expected_need,
    fits,
    free_bytes,
    is_cpu,
    shares_files,
)
from velosweep.machine.nvml import NvmlLike
from velosweep.planning.identity import speculative_server, vanilla_server
from velosweep.units import bytes_words, plural
from velosweep.values import Lane

_MOST_ARMS = 64


@dataclass(kw_only=True)
class Residency:
    """The memory of one lane: what its servers are expected to need, corrected by what they were seen to hold."""

    lane: Lane
    model_bytes: Callable[[str], int]
    kv_elements: Callable[[str], int | None] = lambda path: None
    nvml: NvmlLike | None = None
    free: Callable[[Lane], int | None] | None = None
    book: MemoryEstimates = field(default_factory=MemoryEstimates)

    def need(self, server: ServerConfig) -> Need:
        """Bytes an arm takes, measured where it was loaded before."""
        draft = (server.draft_model, self.model_bytes(server.draft_model)) if server.draft_model else None
        expected = expected_need(
            main=(server.main_model, self.model_bytes(server.main_model)),
            draft=draft,
            context=server.engine.context,
            ubatch=server.engine.ubatch,
            kv_bytes_per_token=self._kv_bytes_per_token(server),
            on_gpu=not is_cpu(self.lane),
        )
        return self.book.need(server.id, expected)

    def seen(self, server: ServerConfig, memory_bytes: int) -> None:
        """A server was measured after loading."""
        self.book = self.book.seen(server.id, memory_bytes)

    def resident_servers(self, job: Job) -> int:
        """How many servers of such a job fit at once, the vanilla one included; at least 2, so that pairs can be."""
        server = speculative_server(job) or vanilla_server(job)
        need = self.need(server)
        free = self._free_bytes()
        resident: list[Need] = []
        while len(resident) < _MOST_ARMS and fits(
            need, resident=resident, free_bytes=self._left(free, resident, server), shared_files=self._shared(server)
        ):
            resident.append(need)
        return max(2, len(resident))

    def require_room(
        self, server: ServerConfig, resident: Sequence[ServerConfig], loading: Sequence[ServerConfig] = ()
    ) -> None:
        """Raises LaunchFailed where `server` has no room beside the loaded ones and those that are loading.

        What is loading has not taken its memory yet: its need is taken off what is free now.
        """
        free = self._left(self._free_bytes(), [self.need(other) for other in loading], server)
        need = self.need(server)
        loaded = [self.need(other) for other in (*resident, *loading)]
        if free is None or fits(need, resident=loaded, free_bytes=free, shared_files=self._shared(server)):
            return
        raise LaunchFailed(
            f"No room to load {server.label}: it needs about {bytes_words(need.total_bytes)}, {self.lane.label} has "
            f"{bytes_words(free)} free beside {plural(len(loaded), 'loaded server')}",
            remedy="free memory, choose a smaller model or quantisation, or lower engine.context",
        )

    def _kv_bytes_per_token(self, server: ServerConfig) -> int | None:
        """Of both models; None where a header doesn't tell."""
        engine = server.engine
        elements = self.kv_elements(server.main_model)
        if elements is None:
            return None
        taken = cache_bytes(elements, type_k=engine.cache_type_k, type_v=engine.cache_type_v)
        if not server.draft_model:
            return taken
        draft = self.kv_elements(server.draft_model)
        if draft is None:
            return None
        return taken + cache_bytes(draft, type_k=engine.draft_cache_type_k, type_v=engine.draft_cache_type_v)

    def _free_bytes(self) -> int | None:
        return self.free(self.lane) if self.free else free_bytes(self.lane, nvml=self.nvml)

    def _shared(self, server: ServerConfig) -> bool:
        return shares_files(self.lane, mmap=server.engine.mmap)

    def _left(self, free: int | None, resident: Sequence[Need], server: ServerConfig) -> int | None:
        """What would be free with `resident` loaded, which aren't yet."""
        if free is None:
            return None
        taken = sum(need.private_bytes if self._shared(server) else need.total_bytes for need in resident)
        return free - taken
