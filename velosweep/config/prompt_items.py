"""One prompt from the shapes that data sets use: a text, turns, or messages of a conversation."""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from velosweep.config.settings import Prompt
from velosweep.errors import PromptError

PROMPT_KEYS = ("text", "prompt", "turns", "content", "messages", "conversations", "conversation")
_SYSTEM_ROLES, _USER_ROLES, _ANSWER_ROLES = ("system", "developer"), ("user", "human"), ("assistant", "gpt", "model")
_LONGEST_ID, _LONGEST_ID_BYTES = 64, 200
_NO_TEXT = f"give it one of {', '.join(f'`{key}`' for key in PROMPT_KEYS)}"


class _Asked(NamedTuple):
    text: object
    system: str | None = None
    later: tuple[object, ...] = ()


def read_item(item: object, where: str, number: int, category: object = None) -> Prompt:
    """An item of a prompt set; `where` it stands, for messages. Raises PromptError."""
    if isinstance(item, str):
        item = {"text": item}
    if not isinstance(item, Mapping):
        raise PromptError(f"{where} is neither a text nor an object", remedy="write {id, text, category} or a text")
    asked = _asked(item, where)
    identity = _first(item, "id", "question_id")
    category = _first(item, "category") if category is None else category
    for key, value in (("id", identity), ("category", category)):
        if value is not None and as_word(value) is None:
            raise PromptError(f"{where} has a {key} that is no text", remedy=f"give a word or a number as {key}")
    has = ", ".join(sorted(str(key)[:40] for key in item)[:10])
    return Prompt(
        id=f"prompt-{number}" if identity is None else _file_name(as_word(identity) or "") or "prompt",
        text=checked_text(asked.text, where, _NO_TEXT, has=f" (it has {has})" if has else ""),
        category=as_word(category),
        system=asked.system,
        later=tuple(checked_text(text, f"{where}, a later turn", _NO_TEXT) for text in asked.later),
    )


def _asked(item: Mapping[Any, Any], where: str) -> _Asked:
    """What is asked: a text, or of a conversation a user's turns and the system message before them."""
    role = str(item.get("role")).lower()
    if role in (*_SYSTEM_ROLES, *_ANSWER_ROLES):
        remedy = 'put each conversation into one item: {"messages": [{"role": "system", …}, {"role": "user", …}]}'
        raise PromptError(f"{where} is a message of the role {role}, and no prompt", remedy=remedy)
    found = {key: item[key] for key in PROMPT_KEYS if item.get(key) is not None}
    texts = {str(key): _conversation(value, f"{where}, {key}") for key, value in found.items()}
    if len({(str(asked.text), asked.system) for asked in texts.values()}) > 1:
        raise PromptError(f"{where} has {' and '.join(texts)}, which differ", remedy="keep the one that is the prompt")
    return _with_system(next(iter(texts.values()), _Asked(None)), item, where)


def _with_system(asked: _Asked, item: Mapping[Any, Any], where: str) -> _Asked:
    """With the system message that stands beside a prompt."""
    beside = _first(item, "system", "system_prompt")
    if beside is None or (isinstance(beside, str) and not beside.strip()):
        return asked
    system = checked_text(beside, f"{where}, system", "give a text")
    if asked.system not in (None, system):
        raise PromptError(f"{where} has two system messages, which differ", remedy="keep one")
    return asked._replace(system=system)


def _conversation(value: object, where: str) -> _Asked:
    if isinstance(value, str) and value.lstrip().startswith("["):  # as tables hold one
        with suppress(ValueError, RecursionError):
            held = json.loads(value)
            said = [entry.get("role", entry.get("from")) for entry in held if isinstance(entry, Mapping)]
            value = held if said and len(said) == len(held) and all(said) else value
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        return _Asked(value)
    system: list[str] = []
    asked: list[object] = []
    for turn in value:
        if not isinstance(turn, Mapping):
            asked.append(turn)
            continue
        role, text = _first(turn, "role", "from"), _content(_first(turn, "content", "value", "text"), where)
        if role is None or role in _USER_ROLES:
            asked.append(text)
        elif role in _SYSTEM_ROLES and not asked:
            system.append(checked_text(text, f"{where}, {role}", "give it `content`"))
        elif role in _SYSTEM_ROLES:
            raise PromptError(f"{where} has a {role} message after the user's", remedy="put it first, or take it out")
        elif role not in _ANSWER_ROLES:  # answers are the server's own, whoever gave others
            known = ", ".join((*_SYSTEM_ROLES, *_USER_ROLES, *_ANSWER_ROLES))
            raise PromptError(f"{where} has the role {role!r:.60}", remedy=f"write one of {known}")
    if not asked:
        return _Asked(None)
    return _Asked(asked[0], "\n\n".join(system) or None, tuple(asked[1:]))


def _content(value: object, where: str) -> object:
    """A message's text: as it is, or of its parts, each {"type": "text", "text": …}."""
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        return value
    texts = []
    for part in value:
        kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
        text = part.get("text") if isinstance(part, Mapping) else part
        if kind not in ("text", "input_text", "str") or not isinstance(text, str):
            raise PromptError(f"{where} has a part of type {kind!r:.60}", remedy="give texts: nothing else is measured")
        texts.append(text)
    return "\n".join(texts) or None


def _first(item: Mapping[Any, Any], *keys: str) -> object:
    return next((item[key] for key in keys if item.get(key) is not None), None)


def as_word(value: object) -> str | None:
    """A word or number as text; None for anything nested, whose text could be of any size."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")  # without half surrogate pairs, for any file
    try:
        return str(value) if isinstance(value, (int, float)) else None
    except ValueError:  # an integer of more digits than Python prints
        return None


def _file_name(text: str) -> str:
    """An id as part of a file name on any system; letters, digits and signs of every script stay."""
    composed = unicodedata.normalize("NFC", text)
    kept = "".join(letter if _is_plain(letter) else "\0" for letter in composed)
    plain = re.sub("\0+", "-", kept).strip("-.")[:_LONGEST_ID]
    while len(plain.encode()) > _LONGEST_ID_BYTES:
        plain = plain[:-1]
    return plain.rstrip("-.")


def _is_plain(letter: str) -> bool:
    if letter.isascii():
        return letter.isalnum() or letter in "._-"
    category = unicodedata.category(letter)
    return category[0] in "LNM" or category == "So"


def checked_text(text: object, where: str, remedy: str, *, has: str = "") -> str:
    """A text that can be sent to a server; `has`: what stands there instead. Raises PromptError."""
    if not isinstance(text, str) or not text.strip():
        what = f"{where} is empty" if where == "prompt" else f"{where} has no text{has}"
        raise PromptError(what, remedy=remedy)
    if "\0" in text:
        raise PromptError(f"{where} has a NUL at character {text.index(chr(0))}", remedy="take it out")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(
            f"{where} has half a surrogate pair at character {error.start}", remedy="write the character itself"
        ) from error
    return text
