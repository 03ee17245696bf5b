"""Keys that have flags, and what `velosweep run` and its relatives, llama.cpp and the specification call them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flag:
    """A key's flag. `ours`: its spellings in our commands; `others`: what llama.cpp and the specification call it.

    `takes`: what `--help` shows for its value, by which the value is read; "" where it only switches the key on.
    """

    ours: str
    others: str = ""
    takes: str = ""
    text: str = ""

    @property
    def spellings(self) -> list[str]:
        """All words that mean the key."""
        return [*self.ours.split(), *self.others.split()]

    @property
    def name(self) -> str:
        """Our first long spelling, `--main` of `-m --main --model`; "" where our commands have no flag for the key."""
        return next((word for word in self.ours.split() if word.startswith("--")), "")


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
    "engine.context": Flag("", "-c --ctx-size --n-ctx"),
    "engine.threads": Flag("", "-t --threads"),
    "engine.gpu_layers": Flag("", "-ngl --gpu-layers --n-gpu-layers"),
    "engine.draft_gpu_layers": Flag("", "-ngld --gpu-layers-draft --spec-draft-ngl"),
    "engine.flash_attention": Flag("", "-fa --flash-attn"),
    "engine.cache_type_k": Flag("", "-ctk --cache-type-k"),
    "engine.cache_type_v": Flag("", "-ctv --cache-type-v"),
    "speculation.p_min": Flag("", "--draft-p-min --spec-draft-p-min"),
    "sampling.temperature": Flag("", "--temp"),
    "sampling.seed": Flag("", "-s --seed"),
}

_MODELS = ("model_pair.main_model", "model_pair.draft_model")
_MEASURING = (
    *("llama_cpp.path", "n_predict", "concurrency", "depth", "prompt", "prompts.file"),
    *("hydra.sweep.dir", "dry_run", "display.quiet", "display.verbose"),
)
FLAGS_OF: dict[str, tuple[str, ...]] = {
    "run": (*_MODELS, "speculation", "n_draft", "iterations", "output", "skip_vanilla", "tuner.budget", *_MEASURING),
    "best": ("tuner.budget", *_MEASURING),
    "bisect": (*_MODELS, "n_draft", *_MEASURING),
}
"""The keys for which a command has flags; of those with several values, later ones vary faster."""
