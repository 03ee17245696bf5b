"""Which draft model and n_draft should I run here, and is the speedup real?"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    import pyarrow as pa

    def load(
        directory: "str | PathLike[str]", *, filters: Any = None, columns: "Sequence[str] | None" = None
    ) -> "pa.Table": ...

    def load_results(
        directory: "str | PathLike[str]", *, filters: Any = None, columns: "Sequence[str] | None" = None
    ) -> "pa.Table": ...


__version__ = "0.1.0"
__all__ = ["__version__", "load", "load_results"]

# Reading needs pyarrow (0.1 s), which `velosweep --version` must not pay for; and this package's root, which
# everything imports, must not depend on its storage.
_ELSEWHERE = {"load": "velosweep.results.loading", "load_results": "velosweep.results.loading"}


def __getattr__(name: str) -> Any:
    if name in _ELSEWHERE:
        return getattr(import_module(_ELSEWHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
