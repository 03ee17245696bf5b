"""Keys that have flags: what `velosweep run` and its relatives, llama.cpp and the specification call them."""

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flag:
    """A key's flag. `ours`: its spellings in our `--help`; `others`: llama.cpp's and the specification's, taken too.

    `takes`: what `--help` shows for its value, by which the value is read; "" where it only switches the key on.
    """

    ours: str
    others: str = ""
    takes: str = ""
    text: str = ""

    @property
    def name(self) -> str:
        """Our first long spelling, `--main` of `-m --main --model`, else llama.cpp's first."""
        return next((word for word in self.ours.split() if word.startswith("--")), "") or self.others.split()[0]

    @property
    def attribute(self) -> str:
        """What argparse calls its value."""
        return self.name.lstrip("-").replace("-", "_")


_DRAFTS = "-d -md --draft --draft-model --model-draft"
_LENGTHS = "--draft --draft-max --draft-n --spec-draft-n-max"  # llama.cpp's --draft is a length, ours a file
FLAGS: dict[str, Flag] = {
    "model_pair.main_model": Flag("-m --main --main-model --model", "-hf --hf-repo", "FILE", "main model, or pattern"),
    "model_pair.draft_model": Flag(_DRAFTS, "--spec-draft-model", "FILE", "draft model, likewise"),
    "n_draft": Flag("--n-draft", _LENGTHS, "N", "tokens drafted at a time: 8, or 2,4,8, or 1-8"),
    "speculation": Flag("--kind", "", "KIND", "kinds of speculation (default: draft)"),
    "n_predict": Flag("-n --n-predict", "--predict", "N", "tokens generated per run (default: 100)"),
    "iterations": Flag("-i --iterations", "", "N", "runs of each setting (default: 5)"),
    "concurrency": Flag("--streams", "-np --parallel", "N", "requests at a time, e.g. 1,4: each is measured"),
    "depth": Flag("--depth", "--n-depth", "N", "tokens of context before each prompt, likewise"),
    "prompt": Flag("-p --prompt", "", "TEXT", "a prompt (repeat for more)"),
    "prompts.file": Flag("--prompts", "-f --file", "SET", "a file of prompts, or the name of a set, such as mixed"),
    "llama_cpp.path": Flag("-l --llama-server --llama-cpp-path", "", "FILE", "llama-server, or a llama.cpp's folder"),
    "output": Flag("-o --output", "", "JSON", "also write the summary to this file"),
    "skip_vanilla": Flag("--skip-vanilla", text="measure speculative decoding only"),
    "tuner.budget": Flag("--budget", "", "TIME", "most time that a search measures: 90s, 10min, 2h"),
    "hydra.sweep.dir": Flag("--out", "", "DIR", "folder for the results (default: outputs/<date>/<time>)"),
    "dry_run": Flag("--dry-run", text="print the plan and run nothing"),
    "display.quiet": Flag("-q --quiet", text="results only"),
    "display.verbose": Flag("-v --verbose", text="also load times and every remark"),
    "engine.context": Flag("", "-c --ctx-size --n-ctx", "N"),
    "engine.threads": Flag("", "-t --threads", "N"),
    "engine.gpu_layers": Flag("", "-ngl --gpu-layers --n-gpu-layers", "N"),
    "engine.draft_gpu_layers": Flag("", "-ngld --gpu-layers-draft --spec-draft-ngl", "N"),
    "engine.flash_attention": Flag("", "-fa --flash-attn", "KIND"),
    "engine.cache_type_k": Flag("", "-ctk --cache-type-k", "KIND"),
    "engine.cache_type_v": Flag("", "-ctv --cache-type-v", "KIND"),
    "speculation.p_min": Flag("", "--draft-p-min --spec-draft-p-min", "N"),
    "sampling.temperature": Flag("", "--temp", "N"),
    "sampling.seed": Flag("", "-s --seed", "N"),
}
ALIASES = {word: key for key, flag in FLAGS.items() for word in f"{flag.ours} {flag.others}".split()}
"""The key that each spelling means, where it stands without a command of ours."""

_MODELS = ("model_pair.main_model", "model_pair.draft_model")
_MEASURING = (
    *("llama_cpp.path", "n_predict", "concurrency", "depth", "prompt", "prompts.file"),
    *("hydra.sweep.dir", "dry_run", "display.quiet", "display.verbose"),
    *(key for key in FLAGS if key.startswith(("engine.", "sampling."))),
)
FLAGS_OF: dict[str, tuple[str, ...]] = {
    "run": (
        *(*_MODELS, "speculation", "n_draft", "speculation.p_min", "iterations"),
        *("output", "skip_vanilla", "tuner.budget", *_MEASURING),
    ),
    "best": ("tuner.budget", *_MEASURING),
    "bisect": (*_MODELS, "n_draft", "speculation.p_min", *_MEASURING),
}
"""The keys for which a command has flags; of those with several values, later ones vary faster."""

# Hydra has these, too: they are ours only before a value that Hydra's could not have.
_SHARED: dict[str, Callable[[str, Sequence[str]], bool]] = {
    "-m": lambda value, _: _is_model(value),
    "-c": lambda value, _: value.isdigit(),
    "-i": lambda value, _: value.isdigit(),
    "-p": lambda value, words: not {"-c", "--cfg"} & set(words),
    **dict.fromkeys(("-q", "--quiet", "-v", "--verbose"), lambda value, _: False),
}


def _is_model(word: str) -> bool:
    return word.lower().endswith(".gguf") and "=" not in word


def in_flags(text: str, command: str, typed: Sequence[str]) -> str:
    """What an error of these commands says, with flags for the keys in it, but for the keys that were `typed`.

    `No model at x; set model_pair.draft_model` -> `No model at x; set --draft`.
    """
    text = text.replace("choose model_pair=synthetic", "leave --main and --draft out")
    names = {"model_pair.main_model": "MODEL", **{key: FLAGS[key].name for key in FLAGS_OF[command] if FLAGS[key].ours}}
    for key, flag in {**names, "prompts": "--prompts", "hydra.run.dir": "--out"}.items():
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
    """`velosweep run` with these words, without Hydra's -m; None where none is a flag that can only be `run`'s."""
    pairs = list(zip(arguments, [*arguments[1:], ""], strict=False))
    for word, after in pairs:
        flag, equals, value = word.partition("=")
        ours = flag in ALIASES or flag == "--tune"
        if ours and (flag not in _SHARED or _SHARED[flag](value if equals else after, arguments)):
            words = [word for word, after in pairs if word != "-m" or _is_model(after)]
            return shlex.join(["velosweep", "run", *words])
    return None
