"""Flags as llama-server and the specification have them, given where keys are expected: the command that was meant."""

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from velosweep.config.command_words import quoted
from velosweep.config.flags import FLAGS, FLAGS_OF

# A flag -> that of `velosweep run`, or the key that it sets (ends with =).
_MEANT = {word: flag.name or f"{key}=" for key, flag in FLAGS.items() for word in flag.spellings} | {"--tune": "--tune"}
_WITHOUT_VALUE = {word for flag in FLAGS.values() if not flag.takes for word in flag.ours.split()} | {"--tune"}
# Others have these, too: they are ours only before a value that theirs could not have.
_SHARED: dict[str, Callable[[str, Sequence[str]], bool]] = {
    "-m": lambda value, _: _is_model(value),
    "-c": lambda value, _: value.isdigit(),
    "-i": lambda value, _: value.isdigit(),
    "-p": lambda value, words: not {"-c", "--cfg"} & set(words),
    **dict.fromkeys(("-q", "--quiet", "-v", "--verbose"), lambda value, _: False),
}


def _is_model(word: str) -> bool:
    return word.lower().endswith(".gguf") and "=" not in word


def counterpart(flag: str) -> str | None:
    """`engine.context=` for `-c`, `--n-draft` for `--draft-max`: what stands for a flag; None for other words."""
    return _MEANT.get(flag)


def _names_of(command: str) -> dict[str, str]:
    """The command's flag for each key that has one, for errors to be said in the words that were typed."""
    names = {key: FLAGS[key].name for key in FLAGS_OF[command]}
    names |= {"prompts": "--prompts", "hydra.run.dir": "--out"}
    return {"model_pair.main_model": "MODEL", **names}


def in_flags(text: str, command: str, typed: Sequence[str]) -> str:
    """What an error of these commands says, with flags for the keys in it, but for the keys that were `typed`.

    `No model at x; set model_pair.draft_model` -> `No model at x; set --draft`.
    """
    text = text.replace("choose model_pair=synthetic", "leave --main and --draft out")
    for key, flag in _names_of(command).items():
        if any(word.lstrip("+~").startswith(f"{key}=") for word in typed):
            continue
        alone = rf"(?<![\w./-]){re.escape(key)}"
        # One that may be an ordinary word counts as a key only in these places.
        named = rf"(?m:^|(?<=- )){key}(?=:| is | has )|(?:(?<=lower )|(?<=raise )){key}\b|{alone}(?= out\b)"
        for pattern, said in (
            (rf"-m '{key}=range\(START,STOP,STEP\)'", f"{flag} START-STOP"),
            (rf"(?:-m )?{alone}=(?:true\b|(?=[\s,;:]|$))", flag),
            (rf"(?:-m )?{alone}=", f"{flag} "),
            (rf"{alone}(?![\w.])" if "." in key else named, flag),
        ):
            text = re.sub(pattern, said, text)
    return text


def as_typed(text: str, command: Sequence[str]) -> str:
    """The text with flags for keys where a sweep's recorded `command` is one of those that take flags."""
    return in_flags(text, command[1], command) if len(command) > 1 and command[1] in FLAGS_OF else text


def run_command(arguments: Sequence[str]) -> str | None:
    """`velosweep run …` with what these arguments mean; None where they are no flags of llama-server's.

    `-m main.gguf -md draft.gguf -c 8192` -> `velosweep run --main main.gguf --draft draft.gguf engine.context=8192`.
    Flags of llama-server that velosweep has no key for become engine.args.
    """
    words, found = list(arguments), _Found()
    while words:
        word, equals, value = words.pop(0).partition("=")
        takes_value = word.startswith("-") and word not in _WITHOUT_VALUE
        if takes_value and not equals and words and not words[0].startswith("-"):
            equals, value = " ", words.pop(0)
        found.add(word, value, equals, arguments)
    if not found.meant:
        return None
    for flag in ("--main", "--draft"):
        if found.files and flag not in found.flags:
            found.flags += [flag, found.files.pop(0)]
    further = [f"engine.args=[{','.join(map(quoted, found.further))}]"] if found.further else []
    return shlex.join(["velosweep", "run", *found.flags, *found.keys, *further])


@dataclass
class _Found:
    """What has been read; `meant`: at least one flag can only be llama-server's or the specification's."""

    flags: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    further: list[str] = field(default_factory=list)
    meant: bool = False

    def add(self, word: str, value: str, equals: str, arguments: Sequence[str]) -> None:
        """Take one flag with its value (`equals`: what stood between them), or another word."""
        target = _MEANT.get(word)
        if word == "--draft" and not value.isdigit():  # llama.cpp's is a length, ours a file
            target = "--draft"
        if target is not None:
            self.meant |= word not in _SHARED or _SHARED[word](value, arguments)
            if target.endswith("="):
                self.keys.append(target + value)
            elif word != "-m" or _is_model(value):
                self.flags += [target, value] if value else [target]
            elif value:  # after Hydra's -m
                self.keys.append(value)
        elif word.startswith("-"):
            self.further += [word, value] if value else [word]
        elif _is_model(word) and not equals:
            self.files.append(word)
        else:
            self.keys.append(f"{word}{equals}{value}")
