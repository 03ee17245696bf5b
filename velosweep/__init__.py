"""Which draft model and n_draft should I run here, and is the speedup real?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from velosweep.storage.dataset import load, load_results

__version__ = "0.1.0"
__all__ = ["__version__", "load", "load_results"]

# Reading needs pyarrow (0.1 s); `velosweep --version` must not pay for it.
_LAZY = frozenset({"load", "load_results"})


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from velosweep.storage import dataset

        return getattr(dataset, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
