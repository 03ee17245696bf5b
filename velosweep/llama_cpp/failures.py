"""llama.cpp's last words, read for people: one sentence with the cause and what to do."""

import re
from typing import NamedTuple

from velosweep.llama_cpp.process import describe_exit


class FailureCause(NamedTuple):
    """Why a program ended or did not do what was asked, and what to do."""

    cause: str
    remedy: str


UNFIT_VOCABULARY = "the draft model's vocabulary does not fit the main model's"

# pattern -> (cause, remedy): a pattern anywhere in the log means the cause, which may have its groups or whole {line}.
# In order: what is most specific first, since a failed allocation also ends in "failed to load model".
_RULES = {
    r"error: (?:invalid argument|unknown argument): *(\S+)": (
        "this llama.cpp does not know the argument {0}",
        "remove it from engine.args, or use a newer llama.cpp",
    ),
    r"unknown buffer type[^\n]*": (
        "a buffer type in engine.override_tensor or engine.draft_override_tensor is unknown to this llama.cpp",
        "name CPU, or a device as velosweep doctor lists them, e.g. exps=CPU",
    ),
    r"(?:error while handling argument|the argument has been removed)[^\n]*?(?:\"([^\"]+)\")?[^\n]*": (
        "this llama.cpp refused an argument: {line}",
        "check engine.args and the values of n_draft, engine and speculation",
    ),
    r"(?:quantized V cache|V cache quantization) requires? (?:Flash Attention|flash_attn)[^\n]*": (
        "a quantised V cache needs flash attention",
        "set engine.flash_attention=on",
    ),
    r"couldn'?t bind (?:HTTP )?(?:server )?socket[^\n]*": (
        "its port is already in use",
        "run it again; velosweep takes another free port",
    ),
    r"(?:draft model[^\n]*vocab[^\n]*(?:must match|not compatible|incompatible|mismatch)"
    r"|vocab[^\n]*draft[^\n]*(?:not compatible|must match)"
    r"|(?:target|draft) (?:and draft )?(?:model )?vocab[^\n]*(?:must match|differ|not compatible)"
    r"|the (?:target and draft|draft and target) vocabs are not compatible"
    r"|the draft model '[^'\n]*' is not compatible with the target model)[^\n]*": (
        UNFIT_VOCABULARY,
        "choose a draft model of the same family",
    ),
    r"(draft model is not (?:eagle3|dflash|dspark)[^\n]*)": (
        "the draft model lacks the heads that this speculation needs ({0})",
        "choose a draft model made for it, or speculation=draft",
    ),
    r"(?:context type MTP requested but )?model doesn't contain MTP layers|failed to create MTP context": (
        "the main model has no MTP layers, which speculation draft-mtp needs",
        "choose a model with MTP layers, or another speculation",
    ),
    r"prompt is too long \([^)\n]*\)": (
        "the prompt does not fit into the context: {line}",
        "shorten the prompt or raise engine.context",
    ),
    r"(?:CUDA error: out of memory|cudaMalloc failed: out of memory|hipMalloc failed: out of memory"
    r"|ErrorOutOfDeviceMemory|(?:unable|failed) to allocate (?:CUDA|ROCm|HIP|Vulkan|Metal|SYCL)\S* [^\n]*)": (
        "the GPU has too little free memory",
        "lower engine.gpu_layers or engine.context, keep experts on the CPU (engine.n_cpu_moe), use more GPUs a lane, "
        "or a smaller quantisation",
    ),
    r"(?:failed to allocate buffer for kv cache|failed to create (?:context|memory)[^\n]*kv)[^\n]*": (
        "the context of engine.context tokens does not fit into memory",
        "lower engine.context, or set a smaller engine.cache_type_k and _v",
    ),
    r"(?:failed to allocate (?:CPU )?buffer|std::bad_alloc|ggml_aligned_malloc: [^\n]*|Cannot allocate memory"
    r"|failed to allocate compute [^\n]*)": (
        "memory is too small for the model",
        "lower engine.context, use a smaller quantisation, or sweep fewer values at once",
    ),
    r"(?:CUDA driver version is insufficient|no CUDA-capable device is detected|forward compatibility was attempted"
    r"|system has unsupported display driver|ggml_cuda_init: failed to initialize CUDA: [^\n]*)": (
        "the GPU's driver does not work with this llama.cpp ({line})",
        "update the driver, or set engine.gpu_layers=0 for the CPU",
    ),
    r"(?:CUDA error: [^\n]*|ROCm error: [^\n]*|hipError\w+[^\n]*|VK_ERROR_\w+|vk::\w*Error[^\n]*)": (
        "the GPU reported an error: {line}",
        "see the driver's own log (dmesg); lower the load or restart the GPU",
    ),
    r"error while loading shared libraries: (\S+?):": (
        "the program needs the library {0}, which is not found",
        "build llama.cpp on this machine, or put the library on the loader's path",
    ),
    r"^exec: (\S+): ([^\n]+)": (
        "{0} can't be executed: {1}",
        "build it on this machine, or set llama_cpp.path to one that runs here",
    ),
    r"(?:failed to open GGUF file|gguf_init_from_file: failed to open|failed to open) '?([^'\n(]+?)'?"
    r"(?: \(?(?:No such file or directory|Permission denied)[^\n]*|: [^\n]*|)$": (
        "the model file {0} can't be opened",
        "check the path with ls -lh",
    ),
    r"(?:tensor '[^']*' data is not within the file bounds|model is corrupted or incomplete"
    r"|file bounds[^\n]*|unexpectedly reached end of file)": (
        "the model file is cut short",
        "download or write it again",
    ),
    r"(?:invalid magic characters|bad magic|failed to read magic|invalid GGUF|failed to read header"
    r"|gguf_init_from_file(?:_impl|_ptr)?: failed[^\n]*)": (
        "the model file is not GGUF, or damaged",
        "download or convert it again",
    ),
    r"unknown model architecture: '([^']*)'": (
        "this llama.cpp does not know the architecture '{0}' of the model",
        "use a newer llama.cpp",
    ),
    r"(?:unknown pre-tokenizer type|error loading model vocabulary|missing tensor|wrong shape)[^\n]*": (
        "the model's content does not fit this llama.cpp ({line})",
        "use a newer llama.cpp, or convert the model again",
    ),
    r"chat template parsing error:[^\n]*": (
        "the main model's chat template can't be used: {template}",
        "give another one with engine=server 'engine.args=[--chat-template,chatml]'",
    ),
    r"error loading model: ([^\n]+)": (
        "the model can't be loaded: {0}",
        "convert or download the file of model_pair.{which}_model again, or use another llama.cpp",
    ),
    r"(?:failed to load draft model|failed to create (?:the )?draft context)[^\n]*": (
        "the draft model can't be loaded",
        "check model_pair.draft_model",
    ),
    r"(GGML_ASSERT\([^\n]*\) failed|fatal error: [^\n]*)": (
        "a check inside llama.cpp failed: {0}",
        "try other settings or another build; the log has the place, which llama.cpp's developers ask for",
    ),
    r"(?:error loading model|failed to load model)[^\n]*": (
        "the model can't be loaded",
        "check model_pair.main_model and model_pair.draft_model",
    ),
    r"^ *what\(\): +([^\n]+)": ("an error inside llama.cpp: {0}", "try other settings or another build"),
    r"^\S+\.(?:c|cc|cpp|cu|h|hpp|m):\d+: ([^\n]+)": (
        "llama.cpp gave up: {0}",
        "try other settings or another build; the log has the place, which llama.cpp's developers ask for",
    ),
}

# Where a debugger begins that llama.cpp calls when it aborts: its words are about itself, and often of another thread.
_DEBUGGER = re.compile(
    r"^(?:\[New LWP |\[Thread debugging|\[Inferior |Using host libthread|warning: File |#0 )", re.MULTILINE
)
# A function of llama.cpp in a debugger's frame, or in one that glibc prints.
_FRAME = re.compile(
    r"^#\d+ .*?\b((?:llama|common|server|clip|mtmd|ggml)_[\w:~]+) ?\(|^\S+\(((?:llama|ggml)_\w+)\+0x", re.MULTILINE
)
_ABORTING = frozenset({"ggml_abort", "ggml_print_backtrace", "ggml_uncaught_exception"})
_LOADING_DRAFT = re.compile(r"failed to load draft model|failed to create (?:the )?draft context")
_TEMPLATE_ERROR = re.compile(
    r"^(?:Error: (?:Jinja Exception: )?|\S+ E common_chat_templates_init: error: )(.+)$", re.MULTILINE
)
_NOISE = re.compile(r"^(?:\d+\.\d+\.\d+\.\d+ [A-Z] |[A-Z] )?")
_ERROR_LINE = re.compile(r"^(?:\d+\.\d+\.\d+\.\d+ E |.*\b(?:error|failed|fatal|abort|assert|terminate|unable)\b)", re.I)


def diagnose(log: str, exit_code: int | None) -> FailureCause:
    """The cause in `log`, else what the exit code alone says."""
    debugger = _DEBUGGER.search(log)
    frames = log[debugger.start() :] if debugger else log
    log = log[: debugger.start()] if debugger else log
    for pattern, (cause, remedy) in _RULES.items():
        match = re.search(pattern, log, re.MULTILINE | re.IGNORECASE)
        if match:
            which, line = "draft" if _LOADING_DRAFT.search(log) else "main", match.group(0).strip()
            groups = [group or "" for group in match.groups()]
            cause = cause.format(*groups, line=line, template=_template_error(log, line))
            if which == "draft":
                cause = cause.replace("the model", "the draft model")
            return FailureCause(cause, remedy.replace("{which}", which))
    words = describe_exit(exit_code)
    if "SIGKILL" in words:
        return FailureCause(
            f"it was {words}, most likely by the system for lack of memory",
            "use a smaller model or sweep fewer values at once; see the system's log (dmesg)",
        )
    if "SIGILL" in words:
        return FailureCause(
            f"it was {words}: the program was built for another processor",
            "build llama.cpp on this machine; if that also dies, with -DGGML_NATIVE=OFF -DGGML_AVX2=ON; or leave "
            "llama_cpp.path out to use the embedded llama.cpp",
        )
    ended = f"it was {words}" if words.startswith("killed") else f"it ended with {words}"
    function = next((name for pair in _FRAME.findall(frames) for name in pair if name and name not in _ABORTING), None)
    causes = (
        ended if exit_code is not None else "it gave no cause",
        f"in {function}" if function else None,
        last_words(log),
    )
    return FailureCause(": ".join(filter(None, causes)), "read the log for the whole story")


def _template_error(log: str, line: str) -> str:
    """What llama.cpp's template engine says in the lines around its own."""
    found = _TEMPLATE_ERROR.search(log)
    return found.group(1).strip()[:300] if found else line.partition(": ")[2]


def last_words(log: str) -> str | None:
    """The last line that speaks of an error, else that the log ends with its last line; without their time stamps."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if not lines:
        return None
    error = next((line for line in reversed(lines) if _ERROR_LINE.search(line)), None)
    chosen = _NOISE.sub("", error or lines[-1])[:300]
    return chosen if error else f"its log ends with “{chosen}”"
