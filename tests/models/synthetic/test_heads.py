"""The heads of the synthetic main model, in real llama.cpp: each kind loads, drafts and is counted; no text changes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import real_models
from tests.llama_cpp.servers import CPU, request, speculative, vanilla
from velosweep.config.settings import Speculation, SyntheticShape
from velosweep.llama_cpp.embedded import EmbeddedEngine
from velosweep.llama_cpp.engine import Engine, Generation, ServerConfig
from velosweep.llama_cpp.server import ServerEngine
from velosweep.measuring.sample_rows import invalid_reason
from velosweep.models.model_checks import check_model
from velosweep.models.synthetic.pair import FILES, ensure_files, ensure_models

pytestmark = pytest.mark.real

SHAPE = SyntheticShape(
    layers=4, kept_layers=1, width=256, feed_forward=512, heads=4, kv_heads=2, vocabulary=320, eps=0.05
)
TINY = SyntheticShape(layers=1, kept_layers=1, width=64, feed_forward=64, heads=2, kv_heads=1, vocabulary=320)
HEADS = tuple(kind for kind in FILES if kind != "draft")
LONGEST = 4


@dataclass(frozen=True)
class Used:
    """A kind with its files: `name` tells MTP in one file and in two apart."""

    name: str
    kind: str
    main: str
    draft: str | None

    def server(self, n_draft: int = LONGEST, acceptance: float | None = None) -> ServerConfig:
        speculation = Speculation(kinds=(self.kind,), synthetic_acceptance=acceptance)
        models = {"main_model": self.main, "draft_model": self.draft}
        return speculative(n_draft, speculation=speculation, context=4096, **models)


def uses(shape: SyntheticShape, folder: Path) -> dict[str, Used]:
    found = {}
    for kind in FILES:
        main, draft = ensure_models(shape, (kind,), folder)
        found[kind] = Used(kind, kind, str(main), draft and str(draft))
    main, head = ensure_files(shape, "draft-mtp", folder, lambda _: None)
    found["draft-mtp in two files"] = Used("draft-mtp in two files", "draft-mtp", str(main), str(head))
    return found


KINDS = [*FILES, "draft-mtp in two files"]
PLAIN: dict[tuple[Engine, str], Generation] = {}  # vanilla runs, taken once


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Used]:
    return uses(SHAPE, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module", params=["embedded", "native"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return EmbeddedEngine() if request.param == "embedded" else ServerEngine(real_models.llama_server())


def run(engine: Engine, server: ServerConfig, log: Path, n_predict: int = 64) -> Generation:
    session = engine.launch(server, lane=CPU, log_path=log)
    try:
        session.wait_ready(60)
        generation = session.generate(request(n_predict=n_predict), timeout_s=120)
    finally:
        session.close()

    assert invalid_reason(generation, server, request(n_predict=n_predict)) is None
    return generation


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_drafts_is_counted_and_leaves_the_text_as_it_is(
    files: dict[str, Used], engine: Engine, name: str, tmp_path: Path
) -> None:
    used = files[name]
    if (engine, used.main) not in PLAIN:
        PLAIN[engine, used.main] = run(engine, vanilla(used.main), tmp_path / "vanilla.log")
    plain = PLAIN[engine, used.main]
    drafted = run(engine, used.server(), tmp_path / "speculative.log")

    assert plain.tokens == drafted.tokens
    assert drafted.draft_tokens is not None
    assert drafted.accepted_tokens is not None
    assert drafted.accepted_per_position is not None
    assert len(drafted.accepted_per_position) == LONGEST
    assert sum(drafted.accepted_per_position) == drafted.accepted_tokens
    assert drafted.draft_tokens > drafted.accepted_tokens
    if name not in ("draft-dflash", "draft-dspark"):  # right by chance alone
        assert drafted.accepted_tokens > 0.3 * drafted.draft_tokens


@pytest.mark.parametrize("name", KINDS)
def test_acceptance_is_what_is_asked_for(name: str, tmp_path: Path) -> None:
    """Draws of a fixed seed, of two thousand tokens; llama-server of August 2026 can't do it."""
    used = uses(TINY, tmp_path)[name]
    drafted = run(EmbeddedEngine(), used.server(acceptance=3.5), tmp_path / "log", n_predict=2000)

    assert drafted.accepted_tokens is not None
    assert drafted.rounds is not None
    assert pytest.approx(3.5, rel=0.02) == drafted.accepted_tokens / drafted.rounds


@pytest.mark.parametrize("kind", ["f16", "q8_0", "q4_0"])
def test_heads_are_written_in_every_type(kind: str, tmp_path: Path) -> None:
    shape = SyntheticShape(
        layers=3, kept_layers=1, width=256, feed_forward=512, heads=4, kv_heads=2, vocabulary=320, eps=0.02, type=kind
    )
    for name, used in uses(shape, tmp_path).items():
        drafted = run(EmbeddedEngine(), used.server(), tmp_path / f"{name}.log", n_predict=48)

        if name not in ("draft-dflash", "draft-dspark"):
            assert drafted.accepted_tokens > 0.3 * drafted.draft_tokens, name


def test_the_files_pass_our_own_checks(files: dict[str, Used]) -> None:
    paths = {path for used in files.values() for path in (used.main, used.draft) if path}
    found = {Path(path).name.rpartition("-s0-")[2]: check_model(Path(path), key="k") for path in paths}

    assert {name: info.architecture for name, info in found.items()} == {
        "main.gguf": "llama",
        "draft.gguf": "llama",
        "mtp-main.gguf": "hy_v3",
        "mtp.gguf": "hy_v3",
        "eagle3.gguf": "eagle3",
        "dflash.gguf": "dflash",
        "dspark.gguf": "dflash",
    }
    assert all(0 <= info.size_bytes - info.expected_bytes < 32 for info in found.values())  # the last one's padding
