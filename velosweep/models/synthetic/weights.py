"""Random weights for tensors of any size in little memory: one pool, cut at random places, scaled and quantised.

The pool comes from PCG64's raw bits, whose stream numpy keeps unchanged, by exact floating-point steps, so a
shape has the same weights on every machine.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SMALLEST_POOL, LARGEST_POOL = 1 << 16, 1 << 22
GRAIN = 32  # cuts start at its multiples: a quantised block


class Pool:
    """Weights of one seed. `chunks` yields the bytes of a matrix, row after row, in a GGML type."""

    def __init__(self, seed: int, kind: str, *, largest: int) -> None:
        """`largest`: weights of the largest tensor; the pool is several times that, within bounds."""
        import numpy as np
        from gguf import GGMLQuantizationType

        self._seed = seed
        self._size = min(max(1 << (8 * largest - 1).bit_length(), SMALLEST_POOL), LARGEST_POOL)
        self._chunk = self._size // 4
        self._kind = GGMLQuantizationType[kind.upper()]
        raw = np.asarray(np.random.PCG64(seed).random_raw(self._size // 4), dtype="<u8").view("<u2")
        # Uniform with variance 1: (k + 1/2) / 2^16 - 1/2, times sqrt(12).
        self._unit: npt.NDArray[np.float32] = (raw.astype(np.float32) - np.float32(32767.5)) * np.float32(
            12**0.5 / 65536
        )
        self._scaled: dict[float, npt.NDArray[np.uint8]] = {}

    def row(self, name: str, number: int, width: int) -> npt.NDArray[np.float32]:
        """Unit-variance weights of a table's row. No two of a table's rows are alike: that would tie two tokens."""
        start = (next(self._starts(name)) + number * width) % (self._size - width)
        cut: npt.NDArray[np.float32] = self._unit[start : start + width].copy()
        return cut

    def encode(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Bytes of `values` (a multiple of 32 of them) in the pool's type."""
        import numpy as np
        from gguf.quants import quantize

        return np.ascontiguousarray(quantize(values, self._kind)).view(np.uint8).reshape(-1)

    def zeros(self, count: int) -> bytes:
        """Bytes of `count` zero weights."""
        return self.encode(self._unit[:count] * 0).tobytes()

    def chunks(self, name: str, count: int, scale: float) -> Iterator[bytes]:
        """Bytes of `count` weights of standard deviation `scale`, a piece at a time."""
        encoded = self._encoded(scale)
        per_weight = encoded.size / self._size  # a multiple of 1/256, so offsets are whole
        starts = self._starts(name)
        for done in range(0, count, self._chunk):
            size, start = min(self._chunk, count - done), next(starts)
            yield encoded[int(start * per_weight) : int((start + size) * per_weight)].tobytes()

    def _encoded(self, scale: float) -> npt.NDArray[np.uint8]:
        import numpy as np

        if scale not in self._scaled:
            self._scaled[scale] = self.encode(self._unit * np.float32(scale))
        return self._scaled[scale]

    def _starts(self, name: str) -> Iterator[int]:
        """Where the pieces of a tensor are cut, the same for the same name and seed."""
        import numpy as np

        bits = np.random.PCG64([self._seed, zlib.crc32(name.encode())])
        while True:
            yield int(bits.random_raw() >> 11) % ((self._size - self._chunk) // GRAIN) * GRAIN
