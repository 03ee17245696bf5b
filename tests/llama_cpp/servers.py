"""Arms, lanes and requests for the engines' tests."""

from __future__ import annotations

from typing import Any

from velosweep.config.settings import EngineSettings, Prompt, Sampling, Speculation
from velosweep.llama_cpp.engine import Request, ServerConfig
from velosweep.values import Device, Lane, Mode

CPU = Lane(number=0, devices=(Device(kind="cpu", name="a CPU"),))


def gpu_lane(*uuids: str, kind: str = "cuda", prefix: str = "CUDA") -> Lane:
    """A lane of GPUs with these UUIDs."""
    devices = tuple(
        Device(kind=kind, name="a GPU", index=i, uuid=uuid or None, program_name=f"{prefix}{i}")
        for i, uuid in enumerate(uuids)
    )
    return Lane(number=0, devices=devices)


def vanilla(main_model: str = "/m.gguf", **engine: Any) -> ServerConfig:
    """A vanilla arm; `engine` are fields of EngineSettings."""
    return ServerConfig(
        id="v",
        mode=Mode.VANILLA,
        main_model=main_model,
        draft_model=None,
        n_draft=0,
        speculation=None,
        engine=EngineSettings(**{"kind": "server", "threads": 1, **engine}),
    )


def speculative(
    n_draft: int = 4,
    *,
    main_model: str = "/m.gguf",
    draft_model: str | None = "/d.gguf",
    speculation: Speculation | None = None,
    **engine: Any,
) -> ServerConfig:
    """A speculative arm."""
    return ServerConfig(
        id="s",
        mode=Mode.SPECULATIVE,
        main_model=main_model,
        draft_model=draft_model,
        n_draft=n_draft,
        speculation=speculation or Speculation(),
        engine=EngineSettings(**{"kind": "server", "threads": 1, **engine}),
    )


def request(text: str = "Explain it", n_predict: int = 32, *, chat: bool = False) -> Request:
    """A greedy request."""
    return Request(prompt=Prompt(id="p", text=text), n_predict=n_predict, sampling=Sampling(), chat=chat)
