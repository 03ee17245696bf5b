"""Context before a prompt: where its text comes from, how it is cut, and that drafting is the same behind it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.llama_cpp.servers import CPU, request, speculative, vanilla
from velosweep.config.settings import EngineSettings, SyntheticShape
from velosweep.errors import RequestRefused
from velosweep.llama_cpp import server_client
from velosweep.llama_cpp.attached import AttachedEngine
from velosweep.llama_cpp.before_prompts import filler_text
from velosweep.llama_cpp.embedded import EmbeddedEngine
from velosweep.llama_cpp.engine import Generation, ServerConfig
from velosweep.measuring.sample_rows import invalid_reason

SHAPE = SyntheticShape(
    layers=4, kept_layers=1, width=64, feed_forward=128, heads=4, kv_heads=4, vocabulary=260, eps=0.2, seed=3
)
DEPTH = 700


def test_the_text_is_prose_and_code_in_turns() -> None:
    text = filler_text()

    assert len(text) > 500_000
    assert "statement" in text[:2_000]
    assert "class " in text[2_000:12_000]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> ServerConfig:
    """A drafting server at depth, of a pair of less than a megabyte."""
    from velosweep.models.synthetic.pair import write_files

    main, draft = (tmp_path_factory.mktemp("pair") / f"{name}.gguf" for name in ("main", "draft"))
    write_files(SHAPE, "draft", (main, draft))
    return replace(speculative(4, main_model=str(main), draft_model=str(draft), context=256), depth=DEPTH)


def runs_of(server: ServerConfig, log_path: Path, *, times: int) -> list[Generation]:
    session = EmbeddedEngine().launch(server, lane=CPU, log_path=log_path)
    try:
        session.wait_ready(60)
        return [session.generate(request(n_predict=48), timeout_s=60) for _ in range(times)]
    finally:
        session.close()


@pytest.mark.real
def test_drafting_behind_a_context_that_is_kept_is_drafting_behind_one_that_is_read(
    pair: ServerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = replace(vanilla(pair.main_model, context=256), depth=DEPTH)
    kept = runs_of(pair, tmp_path / "kept.log", times=2)
    without = runs_of(plain, tmp_path / "plain.log", times=1)
    rules = server_client.rules_for
    monkeypatch.setattr(server_client, "rules_for", lambda final: replace(rules(final), keeps_depth=False))
    (read,) = runs_of(pair, tmp_path / "read.log", times=1)

    assert len({(run.tokens, run.draft_tokens, run.accepted_tokens) for run in (*kept, read)}) == 1
    assert without[0].tokens == kept[0].tokens
    assert [run.prompt_tokens for run in kept] == [10, 10]  # the request's own, without a begin of text
    assert read.prompt_tokens == DEPTH + 10
    assert [run.depth_ms is None for run in (*kept, read)] == [False, False, True]


@pytest.mark.real
def test_each_stream_has_its_own_context(pair: ServerConfig, tmp_path: Path) -> None:
    one, two = (
        runs_of(replace(pair, concurrency=streams), tmp_path / f"{streams}.log", times=1)[0] for streams in (1, 2)
    )

    assert two.tokens == one.tokens
    assert two.prompt_tokens == one.prompt_tokens
    assert two.depth_ms is not None


@pytest.mark.real
def test_a_prompt_that_does_not_fit_behind_the_depth_is_refused_with_all_its_tokens(
    pair: ServerConfig, tmp_path: Path
) -> None:
    session = EmbeddedEngine().launch(pair, lane=CPU, log_path=tmp_path / "log")
    try:
        session.wait_ready(60)
        with pytest.raises(RequestRefused, match=r"700 tokens before the prompt, .* need a context of 10\d\d"):
            session.check_request(request("x" * 300))
    finally:
        session.close()


@pytest.mark.real
def test_the_context_that_a_refused_prompt_asks_for_is_enough_at_depth_and_for_several_streams(
    pair: ServerConfig, tmp_path: Path
) -> None:
    asked = request("x" * 700, n_predict=48)  # longer than what stands before it
    small = replace(pair, concurrency=2)
    session = EmbeddedEngine().launch(small, lane=CPU, log_path=tmp_path / "small.log")
    try:
        session.wait_ready(60)
        with pytest.raises(RequestRefused, match="for each stream") as refused:
            session.check_request(asked)
    finally:
        session.close()
    told = re.search(r"engine\.context=(\d+)", str(refused.value))
    assert told is not None
    enough = replace(small, engine=replace(pair.engine, context=int(told[1])))
    session = EmbeddedEngine().launch(enough, lane=CPU, log_path=tmp_path / "enough.log")
    try:
        session.wait_ready(60)
        session.check_request(asked)
        run = session.generate(asked, timeout_s=60)
    finally:
        session.close()

    assert invalid_reason(run, enough, asked) is None
    assert run.depth_ms is not None  # it was read once, although the prompt is as long


@pytest.mark.real
def test_attached_servers_are_measured_at_depth_by_several_streams_and_told_the_context_that_they_lack(
    pair: ServerConfig, tmp_path: Path
) -> None:
    started = replace(pair, concurrency=2)
    theirs = EmbeddedEngine().launch(started, lane=CPU, log_path=tmp_path / "theirs.log")
    attached = replace(started, engine=EngineSettings(kind="attached"))
    asked = request(n_predict=48)
    try:
        theirs.wait_ready(60)
        direct = theirs.generate(asked, timeout_s=60)
        address = theirs._client._http.address
        url = f"http://:{address.api_key}@{address.host}:{address.port}"
        session = AttachedEngine(vanilla_url=None, speculative_url=url).launch(attached, lane=CPU, log_path=tmp_path)
        session.wait_ready(60)
        runs = [session.generate(asked, timeout_s=60) for _ in range(2)]
        # 700 before it, 701 with its begin, 48 to generate and one more: for two streams
        with pytest.raises(RequestRefused, match=r"start it with --ctx-size 2900 or more") as refused:
            session.check_request(request("x" * 700, n_predict=48))
    finally:
        theirs.close()

    assert "engine.context" not in str(refused.value)  # which is not for servers that run already
    assert [(run.tokens, run.prompt_tokens, run.depth_ms is None) for run in runs] == [
        (direct.tokens, direct.prompt_tokens, False)
    ] * 2
    assert [run.accepted_tokens / run.draft_tokens for run in runs if run.accepted_tokens and run.draft_tokens] == [
        pytest.approx((direct.accepted_tokens or 0) / (direct.draft_tokens or 1))
    ] * 2
    assert [len(run.stream_tokens_per_second or ()) for run in runs] == [2, 2]
