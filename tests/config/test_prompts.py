"""Prompts from every form that people have, and what is said where one can't be used."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from velosweep.config.prompts import load_prompts
from velosweep.config.schema import PromptKeys
from velosweep.config.settings import Prompt
from velosweep.errors import PromptError

SPEC_BENCH = [
    {"question_id": 81, "category": "writing", "turns": ["Compose a post.", "Rewrite it."]},
    {"question_id": 82, "category": "writing", "turns": ["Draft an email."]},
    {"question_id": 83, "category": "math", "turns": ["What is 2 + 2?"]},
    {"question_id": 84, "category": "writing", "turns": ["Tell a story."]},
]


def load(base: Path = Path(), prompt: str | None = None, **keys):
    return load_prompts(prompt, PromptKeys(**({"name": "set"} | keys)), base=base)


def written(folder: Path, name: str, content: str | bytes) -> dict:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return {"base": folder, "file": name}


def jsonl(folder: Path, objects=SPEC_BENCH) -> dict:
    return written(folder, "questions.jsonl", "\n".join(json.dumps(item) for item in objects))


def test_a_prompt_of_ones_own_goes_before_the_set():
    found = load(prompt="Say hi", items=["other"], chat=True)

    assert (Prompt(id="prompt", text="Say hi"),) == found.prompts
    assert found.chat


def test_items_of_the_configuration_may_be_texts_or_objects():
    found = load(items=["One", {"id": "two", "text": "Two", "category": "code"}, {"prompt": "Three"}])

    assert (
        Prompt(id="prompt-0", text="One"),
        Prompt(id="two", text="Two", category="code"),
        Prompt(id="prompt-2", text="Three"),
    ) == found.prompts
    assert (found.name, found.chat) == ("set", False)


def test_the_form_of_spec_bench_is_read_by_its_first_turns(tmp_path):
    found = load(**jsonl(tmp_path))

    assert Prompt(id="81", text="Compose a post.", category="writing") == found.prompts[0]
    assert [prompt.id for prompt in found.prompts] == ["81", "82", "83", "84"]


@pytest.mark.parametrize(
    "item",
    [
        {"text": "Hello"},
        {"prompt": "Hello"},
        {"turns": ["Hello", "More"]},
        {"turns": [{"role": "user", "content": "Hello"}]},
        {"prompt": ["Hello"]},
        "Hello",
        {"text": None, "turns": ["Hello"], "id": None},
    ],
)
def test_every_usual_key_holds_a_prompt(tmp_path, item):
    assert [prompt.text for prompt in load(**jsonl(tmp_path, [item])).prompts] == ["Hello"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pretty.json", '{\n  "items": [\n    {"id": "a",\n     "text": "Explain"}\n  ]\n}'),
        ("pretty.jsonl", '\n{\n"id": "a",\n"turns": ["Explain"]\n}\n'),
        ("list.jsonl", '[{"id": "a", "text": "Explain"}]'),
        ("categories.json", '{"x": [{"id": "a", "text": "Explain"}]}'),
        ("lines.json", '{"id": "a", "text": "Explain"}\n\n'),
        (
            "sharegpt.json",
            '[{"id": "a", "conversations": [{"from": "human", "value": "Explain"}, {"from": "gpt", "value": "b"}]}]',
        ),
        (
            "answer_first.json",
            '[{"id": "a", "conversations": [{"from": "gpt", "value": "b"}, {"from": "human", "value": "Explain"}]}]',
        ),
        (
            "openai.jsonl",
            '{"id": "a", "messages": [{"role": "user", "content": [{"type": "text", "text": "Explain"}]}]}',
        ),
        ("windows.json", '[{"id": "a", "text": "Explain"}]'.encode("utf-16")),
    ],
)
def test_json_is_read_by_its_content_whatever_its_name_and_layout(tmp_path, name, content):
    (prompt,) = load(**written(tmp_path, name, content)).prompts

    assert (prompt.id, prompt.text) == ("a", "Explain")


@pytest.mark.parametrize("key", ["prompt", "turns", "messages", "conversations", "text"])
def test_a_system_message_is_no_prompt(tmp_path, key):
    messages = [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "Explain"}]
    source = jsonl(tmp_path, [{"id": "q1", key: messages}])

    (prompt,) = load(**source, chat=True).prompts

    assert (prompt.text, prompt.system) == ("Explain", "Be terse.")
    with pytest.raises(PromptError, match=r"1 prompt with a system message \(first: q1\).*set prompts.chat=true"):
        load(**source)


MESSAGES = [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "Explain"}]


@pytest.mark.parametrize(
    "item",
    [{"system": "Be terse.", "prompt": "Explain"}, {"system_prompt": "Be terse.", "messages": MESSAGES}]
    + [{key: json.dumps(MESSAGES)} for key in ("messages", "conversations", "prompt")],
)
@pytest.mark.parametrize("name", ["q.jsonl", "q.txt"])
def test_a_system_message_is_found_wherever_it_stands(tmp_path, name, item):
    (prompt,) = load(**written(tmp_path, name, json.dumps(item)), chat=True).prompts

    assert (prompt.text, prompt.system) == ("Explain", "Be terse.")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("q.json", json.dumps(MESSAGES), "item 1 is a message of the role system, and no prompt"),
        ("q.jsonl", "\n".join(map(json.dumps, MESSAGES)), "line 1 is a message of the role system"),
        ("q.jsonl", json.dumps({"messages": [*MESSAGES, *MESSAGES]}), "has a system message after the user's"),
        ("q.jsonl", json.dumps({"system": "Be brief.", "messages": MESSAGES}), "two system messages, which differ"),
    ],
)
def test_a_message_that_is_no_prompt_is_refused(tmp_path, name, content, problem):
    with pytest.raises(PromptError, match=problem):
        load(**written(tmp_path, name, content), chat=True)


def test_a_line_separator_within_a_json_text_does_not_end_the_line(tmp_path):
    text = "one\u2028two\x85three"
    source = written(tmp_path, "q.jsonl", json.dumps({"text": text}, ensure_ascii=False) + "\r\n\r\n")

    assert [text] == [prompt.text for prompt in load(**source).prompts]


def test_a_text_file_has_a_prompt_a_line(tmp_path):
    found = load(**written(tmp_path, "p.txt", "\ufeffFirst\r\n\n  Second\n"))

    assert [(prompt.id, prompt.text) for prompt in found.prompts] == [("line-1", "First"), ("line-3", "  Second")]


@pytest.mark.parametrize(
    "content",
    [
        "- {id: a, text: A, category: x}\n- {id: b, text: B, category: y}\n",
        "items:\n- {id: a, text: A, category: x}\n- {id: b, text: B, category: y}\n",
        "x:\n- {id: a, text: A}\ny:\n- {id: b, text: B}\n",
    ],
)
def test_yaml_sets_have_categories(tmp_path, content):
    found = load(**written(tmp_path, "set.yaml", content))

    assert (Prompt(id="a", text="A", category="x"), Prompt(id="b", text="B", category="y")) == found.prompts


def test_a_json_array_is_read_too(tmp_path):
    found = load(**written(tmp_path, "set.json", json.dumps(SPEC_BENCH, indent=1)))

    assert len(found.prompts) == 4


# ---------------------------------------------------------------- choosing


def test_a_category_is_chosen(tmp_path):
    assert [prompt.id for prompt in load(**jsonl(tmp_path), categories=["math"]).prompts] == ["83"]


def test_a_category_that_is_not_there_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(PromptError, match="did you mean math"):
        load(**jsonl(tmp_path), categories=["writing", "maths"])
    with pytest.raises(PromptError, match=r"choose from math, writing"):
        load(**jsonl(tmp_path), categories=["zzz"])


def test_a_draw_is_even_over_categories_in_the_sets_order_and_repeatable(tmp_path):
    items = [{"id": f"{kind}{i}", "text": "t", "category": kind} for kind in "abc" for i in range(50)]
    draws = [load(**jsonl(tmp_path, items), limit=6, seed=seed).prompts for seed in (1, 1, 2)]

    assert draws[0] == draws[1] != draws[2]
    assert [prompt.category for prompt in draws[0]] == ["a", "a", "b", "b", "c", "c"]


def test_a_limit_above_the_number_takes_all(tmp_path):
    assert len(load(**jsonl(tmp_path), limit=99).prompts) == 4


def test_ids_become_unique_and_safe(tmp_path):
    ids = ["a", "A", "a", "a-2", "../../etc/passwd", "..", "", "x" * 99, "é/ü", 7, 7.5]
    found = load(items=[{"id": identity, "text": "t"} for identity in ids])

    assert [prompt.id for prompt in found.prompts] == [
        "a",
        "A-3",
        "a-4",
        "a-2",
        "etc-passwd",
        "prompt",
        "prompt-2",
        "x" * 64,
        "é-ü",
        "7",
        "7.5",
    ]


def test_ids_of_every_script_stay_what_they_are():
    ids = ["潮", "雨の日", "prüfung/ä", "🌊", "a\u0301", "x\u202ey", "水" * 99]
    found = load(items=[{"id": identity, "text": "t"} for identity in ids])

    assert [p.id for p in found.prompts] == ["潮", "雨の日", "prüfung-ä", "🌊", "á", "x-y", "水" * 64]


def test_ten_thousand_prompts_of_one_id_take_no_quadratic_time(tmp_path):
    found = load(items=[{"id": "same", "text": "t"}] * 10_000)

    assert len({prompt.id for prompt in found.prompts}) == 10_000


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("prompt", ["", "  \n", "half \ud800"])
def test_a_prompt_without_text_is_refused(prompt):
    with pytest.raises(PromptError, match=r"prompt (is empty|has half)"):
        load(prompt=prompt)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", '{"text": "x"}\n{"text": \n', "a.jsonl, line 2 is not JSON"),
        ("a.jsonl", '{"text": "x"}\n[1]\n', "a.jsonl, line 2 is neither"),
        ("a.jsonl", '{"turns": []}', "line 1 has no text .it has turns.; give it one of `text`"),
        ("a.jsonl", '{"text": 5}', "line 1 has no text"),
        ("a.jsonl", '{"text": "x", "category": {"a": 1}}', "line 1 has a category that is no text"),
        ("a.jsonl", '{"text": "\\ud83d!"}', "line 1 has half a surrogate pair at character 0"),
        ("a.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("a.jsonl", '{"id": ' + "9" * 9999 + "}", "line 1 is not JSON"),
        ("a.jsonl", b'{"text": "x"}\n\xff\n', "line 2 is not UTF-8"),
        ("a.jsonl", "\n\n", "set a.jsonl is empty"),
        ("a.txt", "", "set a.txt is empty"),
        ("a.yaml", "- a\n- {b: ", "a.yaml, line 2 is not YAML"),
        ("a.yaml", "- a\n- {b: c\n- d\n\n", "a.yaml, line 2 is not YAML: expected ',' or '}', but got '<stream end>'"),
        ("a.yaml", "- 'a\n- b\n", "a.yaml, line 1 is not YAML: found unexpected end of stream; close the quote"),
        ("a.yaml", "- 2001-99-99", "is not YAML: month must be"),
        ("a.yaml", "[" * 100_000, "opens 100 brackets"),
        ("a.yaml", "- " * 5000 + "x", "is not YAML: maximum recursion depth exceeded; nest fewer"),
        ("a.yaml", "- {text: x, id: 1" + ":1" * 1000 + "}", "a.yaml, line 1 has a number of 2001 characters"),
        ("a.yaml", "&a [*a]", "a.yaml stands for more than 1,000,000 values"),
        ("a.yaml", "text", "no list of prompts"),
        ("a.yaml", "- !!python/object/apply:os.system [ls]", "is not YAML"),
        ("a.yaml", "- - 1", "item 1 is neither"),
        ("a.yaml", "items: []", "a.yaml is empty"),
        ("a.json", "[1, 2", "a.json, line 1 is not JSON"),
        ("a.json", '{\n "items": [\n  {"text": "x"}\n  {"text": "y"}\n]}', "a.json, line 4 is not JSON"),
        ("a.jsonl", '{"text": "x\\u0000y"}', "line 1 has a NUL at character 1"),
        ("a.txt", "x\0y", "line 1 has a NUL at character 1"),
        ("a.jsonl", '{"question": "x", "answer": "y"}', "line 1 has no text .it has answer, question."),
        ("a.jsonl", '{"prompt": "x", "text": "y"}', "line 1 has text and prompt, which differ"),
        ("a.jsonl", '{"messages": [{"role": "tool", "content": "x"}]}', "has the role 'tool'"),
        ("a.jsonl", '{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', "part of type 'image_url'"),
    ],
)
def test_a_file_that_is_no_prompt_set_is_refused_with_its_line(tmp_path, name, content, words):
    with pytest.raises(PromptError, match=words) as refused:
        load(**written(tmp_path, name, content))
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("levels", "items"),
    [
        ("[{}]", "[{text: x, category: *a11}]"),
        ("[{}]", "[{text: *a11}]"),
        ("[{}]", "[{messages: [{role: *a11, content: x}]}]"),
        ("[{}]", "[{messages: [{content: [{type: *a11, text: x}]}]}]"),
        ("{{<<: [{}]}}", "[x]"),
    ],
)
def test_yaml_that_grows_when_written_out_is_refused_before_it_grows(tmp_path, levels, items):
    bomb = ["a0: &a0 {x: y}"] + [f"a{i}: &a{i} {levels.format(', '.join([f'*a{i - 1}'] * 9))}" for i in range(1, 12)]
    content = "\n".join([*bomb, f"items: {items}"])

    with pytest.raises(PromptError, match=r"bomb\.yaml stands for more than 1,000,000 values with what its anchors"):
        load(**written(tmp_path, "bomb.yaml", content))


def test_a_file_of_ones_own_is_not_called_by_the_shipped_sets_name(tmp_path):
    given = written(tmp_path, "mine.txt", "one")

    assert load(name="default", **given).name == "mine"
    assert load(name="house", **given).name == "house"
    assert load(name="mixed", items=["a shipped prompt"], **given).name == "mine"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PromptError, match=r"gone.txt can't be read: No such file .*check prompts.file"):
        load(base=tmp_path, file="gone.txt")


def test_a_pipe_that_nobody_writes_to_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("velosweep.config.prompts._LONGEST_WAIT_S", 0.2, raising=False)
    os.mkfifo(tmp_path / "pipe.txt")

    with pytest.raises(PromptError, match=r"can't be read: it is a pipe, and nobody writes to it.*check prompts.file"):
        load(file=str(tmp_path / "pipe.txt"))


@pytest.mark.parametrize("late", [False, True])
def test_a_pipe_that_is_written_to_is_read_however_late_the_text_comes(tmp_path, late, monkeypatch):
    monkeypatch.setattr("velosweep.config.prompts._LONGEST_WAIT_S", 0.2 if late else 5.0, raising=False)
    pipe = tmp_path / "pipe.txt"
    os.mkfifo(pipe)
    writer = ["sh", "-c", f"exec 3>'{pipe}'; {'sleep 0.6;' if late else ''} echo Explain >&3"]
    with subprocess.Popen(writer):
        (prompt,) = load(file=str(pipe)).prompts

    assert prompt.text == "Explain"


def test_an_empty_set_is_refused():
    with pytest.raises(PromptError, match="set is empty"):
        load()


# ---------------------------------------------------------------- any input

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["text", "prompt", "turns", "id", "question_id", "category", "system", "role"]), inner
        )
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(items=st.lists(json_values, max_size=6), limit=st.none() | st.integers(1, 4), seed=st.integers(0, 9))
def test_any_items_make_a_sound_set_or_our_own_error(items, limit, seed):
    try:
        found = load(items=items, limit=limit, seed=seed)
    except PromptError as error:
        assert error.remedy  # noqa: PT017 - either end is right
        return
    ids = [prompt.id.lower() for prompt in found.prompts]

    assert ids
    assert len(ids) == len(set(ids)) == (len(items) if limit is None else min(limit, len(items)))
    assert all(identity.isprintable() and "/" not in identity and identity.strip(".-") for identity in ids)
    assert all(prompt.text.strip() and prompt.text.encode() for prompt in found.prompts)


def test_the_turns_of_a_conversation_are_prompts_one_after_another(tmp_path: Path) -> None:
    file = tmp_path / "talk.jsonl"
    file.write_text(
        '{"question_id": 81, "turns": ["Write a text.", "Now shorter."]}\n'
        '{"id": "m", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},'
        ' {"role": "assistant", "content": "Hello!"}, {"role": "user", "content": "Bye"}]}\n'
    )
    talk, first = (
        load_prompts(None, PromptKeys(file=str(file), chat=True, turns=turns), base=tmp_path) for turns in (None, 1)
    )

    assert [(prompt.id, prompt.text, prompt.before, prompt.turn) for prompt in talk.prompts] == [
        ("81.1", "Write a text.", (), 1),
        ("81.2", "Now shorter.", ("Write a text.",), 2),
        ("m.1", "Hi", (), 1),
        ("m.2", "Bye", ("Hi",), 2),
    ]
    assert {prompt.system for prompt in talk.prompts} == {None, "Be brief."}
    assert [(prompt.id, prompt.turn) for prompt in first.prompts] == [("81", None), ("m", None)]


def test_without_a_chat_template_the_first_turn_is_the_prompt(tmp_path: Path) -> None:
    file = tmp_path / "talk.jsonl"
    file.write_text('{"question_id": 81, "turns": ["Write a text.", "Now shorter."]}\n')

    (prompt,) = load_prompts(None, PromptKeys(file=str(file)), base=tmp_path).prompts

    assert prompt == Prompt(id="81", text="Write a text.")
