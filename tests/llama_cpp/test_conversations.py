"""Conversations replayed turn by turn by a real language model: each turn stands behind the answers before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests import real_models
from tests.llama_cpp.servers import CPU, request, speculative, vanilla
from velosweep.llama_cpp.embedded import EmbeddedEngine
from velosweep.llama_cpp.engine import Generation, Request, ServerConfig, Session

pytestmark = pytest.mark.real

SAID = ("Name three colours.", "Now three animals of these colours.")


def turn(number: int) -> Request:
    """A turn of the conversation."""
    asked = request(SAID[number - 1], 16, chat=True)
    return replace(asked, prompt=replace(asked.prompt, before=SAID[: number - 1], turn=number))


def serve(config: ServerConfig, log_path: Path) -> Session:
    session = EmbeddedEngine().launch(config, lane=CPU, log_path=log_path)
    try:
        session.wait_ready(120)
    except BaseException:
        session.close()
        raise
    return session


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Session, Session]]:
    """A vanilla and a drafting server."""
    main, draft = real_models.model("q8_0"), real_models.model("draft-q4_0")
    logs = tmp_path_factory.mktemp("logs")
    both = serve(vanilla(main), logs / "v"), serve(speculative(4, main_model=main, draft_model=draft), logs / "s")
    yield both
    for session in both:
        session.close()


def run(session: Session, number: int) -> Generation:
    return session.generate(turn(number), timeout_s=120)


def test_a_turn_stands_behind_the_answers_before_it_which_the_prompt_cache_holds(
    sessions: tuple[Session, Session],
) -> None:
    first, second = ([run(session, number) for session in sessions] for number in (1, 2))

    assert [one.tokens for one in first] == [first[0].tokens] * 2
    assert [one.tokens for one in second] == [second[0].tokens] * 2
    alone = sessions[0].generate(request(SAID[1], 16, chat=True), timeout_s=120)
    assert second[0].tokens != alone.tokens
    assert second[0].prompt_tokens < alone.prompt_tokens  # its system message and all that was said are held


def test_a_first_turn_begins_on_a_fresh_slot(sessions: tuple[Session, Session]) -> None:
    once, _ = run(sessions[1], 1), run(sessions[1], 2)
    again = run(sessions[1], 1)

    assert (again.tokens, again.draft_tokens, again.prompt_tokens) == (
        once.tokens,
        once.draft_tokens,
        once.prompt_tokens,
    )


def test_a_server_that_was_started_anew_is_first_asked_the_earlier_turns(
    sessions: tuple[Session, Session], tmp_path: Path
) -> None:
    run(sessions[1], 1)
    second = run(sessions[1], 2)
    main, draft = real_models.model("q8_0"), real_models.model("draft-q4_0")
    fresh = serve(speculative(4, main_model=main, draft_model=draft), tmp_path / "log")
    try:
        replayed = run(fresh, 2)
    finally:
        fresh.close()

    assert (replayed.tokens, replayed.draft_tokens, replayed.accepted_tokens) == (
        second.tokens,
        second.draft_tokens,
        second.accepted_tokens,
    )
