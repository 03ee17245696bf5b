"""Every bad input's last words, as llama.cpp wrote them, and what people are told."""

# ruff: noqa: E501 - recorded lines are as long as they are

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velosweep.llama_cpp.failures import diagnose, last_words

# recorded from builds of December 2024 to October 2026, CPU and CUDA
LOGS = [
    ("file", "none.gguf can't be opened", 1,
     "0.00.021.300 E gguf_init_from_file: failed to open GGUF file '/m/none.gguf' (No such file or directory)\n"
     "0.00.021.436 E llama_model_load: error loading model: llama_model_loader: failed to load model from /m/none.gguf\n"
     "0.00.022.057 E srv  llama_server: exiting due to model loading error"),
    ("file", "none.gguf can't be opened", 1,
     "gguf_init_from_file: failed to open '/m/none.gguf': 'No such file or directory'\n"
     "llama_model_load: error loading model: llama_model_loader: failed to load model from /m/none.gguf"),
    ("file", "is not GGUF, or damaged", 1,
     "0.00.020.924 E gguf_init_from_reader: invalid magic characters: ' ???', expected 'GGUF'\n"
     "0.00.021.070 E llama_model_load: error loading model: llama_model_loader: failed to load model from /m/junk.gguf"),
    ("file", "is not GGUF, or damaged", 1, "0.00.007.464 E gguf_init_from_reader: failed to read magic"),
    ("file", "cut short", 1,
     "llama_model_load: error loading model: tensor 'blk.3.ffn_up.weight' data is not within the file bounds, "
     "model is corrupted or incomplete\nllama_model_load_from_file_impl: failed to load model"),
    ("vocabulary", "does not fit", None,
     "0.00.028.030 E spec common_specu: the target and draft vocabs are not compatible\n"
     "0.00.028.377 E srv    load_model: failed to initialize speculative decoding context: draft model vocab type must "
     "match target model to use speculation"),
    ("vocabulary", "does not fit", 1,
     "common_speculative_are_compatible: draft model vocab must match target model to use speculation but vocab_size = 32"),
    ("vocabulary", "does not fit", 1,
     "srv    load_model: the draft model '/m/d.gguf' is not compatible with the target model '/m/m.gguf'"),
    ("head", "draft model is not eagle3", None,
     "0.00.024.918 E srv    load_model: failed to initialize speculative decoding context: draft model is not eagle3 "
     "(expected 3 extract layers, got 0)"),
    ("head", "no MTP layers", 1,
     "0.00.014.995 W llama_init_from_model: context type MTP requested but model doesn't contain MTP layers\n"
     "0.00.015.002 E srv    load_model: failed to create MTP context"),
    ("flag", "does not know the argument --draft-max", 1, "error: invalid argument: --draft-max"),
    ("flag", "argument has been removed", 1,
     'error while handling argument "--draft": the argument has been removed. use --spec-draft-n-max'),
    ("flag", "quantised V cache", 1, "llama_init_from_model: V cache quantization requires flash_attn"),
    ("port", "already in use", 1, "0.00.004.781 E srv  start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 1"),
    ("memory", "context of engine.context tokens", 1,
     "llama_kv_cache: failed to allocate buffer for kv cache\nllama_init_from_model: failed to initialize the context"),
    ("memory", "GPU has too little", 1,
     "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 8192.00 MiB on device 0: cudaMalloc failed: out of memory\n"
     "alloc_tensor_range: failed to allocate CUDA0 buffer of size 8589934592\nllama_model_load: error loading model"),
    ("memory", "GPU has too little", -6, "CUDA error: out of memory\n  current device: 0, in function alloc"),
    ("memory", "GPU has too little", 1, "ggml_vulkan: Device memory allocation failed. vk::Device::allocateMemory: "
     "ErrorOutOfDeviceMemory"),
    ("memory", "too small for the model", 1,
     "ggml_aligned_malloc: insufficient memory (attempted to allocate 70000.00 MB)\n"
     "alloc_tensor_range: failed to allocate CPU buffer of size 73400320000"),
    ("memory", "lack of memory", -9, "llama_model_loader: loaded meta data"),
    ("driver", "driver does not work", 1,
     "ggml_cuda_init: failed to initialize CUDA: CUDA driver version is insufficient for CUDA runtime version"),
    ("driver", "the GPU reported an error", -6, "CUDA error: an illegal memory access was encountered"),
    ("library", "libcudart.so.12", 127,
     "llama-server: error while loading shared libraries: libcudart.so.12: cannot open shared object file"),
    ("program", "can't be executed", 126, "exec: /x/llama-server: Exec format error"),
    ("model", "architecture 'qwen9'", 1, "llama_model_load: error loading model: unknown model architecture: 'qwen9'"),
    ("template", "template can't be used: parser: Parser Error: Expected }} (Got )", 1,
     "0.00.042.132 E common_chat_templates_init: error: parser: Parser Error: Expected }} (Got )\n"
     "0.00.042.208 E srv          init: init: chat template parsing error: std::exception\n"
     "0.00.042.593 E srv          init: exiting due to model loading error\n"
     "error: failed to load model: Failed to init server, please check the input params."),
    ("template", "template can't be used: Conversation must start with system", 1,
     "0.00.207.117 E srv          init: init: chat template parsing error: Unable to generate parser for this template. "
     "Automatic parser generation failed: \n------------\nWhile executing CallExpression at line 1, column 67 in source:\n"
     "...if m.role == 'user' %}{{ raise_exception('Conversation must start with system') ...\n"
     "Error: Jinja Exception: Conversation must start with system\n"
     "0.00.207.478 E srv          init: exiting due to model loading error"),
    ("weights", "the model can't be loaded: check_tensor_dims: tensor 'token_embd.weight' not found", 1,
     "0.00.018.638 E llama_model_load: error loading model: check_tensor_dims: tensor 'token_embd.weight' not found\n"
     "0.00.018.639 E llama_model_load_from_file_impl: failed to load model\n"
     "0.00.018.642 E cmn  common_init_: failed to load model '/m/x.gguf'"),
    ("weights", "the draft model can't be loaded: check_tensor_dims: tensor 'token_embd.weight' not found", 1,
     "0.00.085.550 E llama_model_load: error loading model: check_tensor_dims: tensor 'token_embd.weight' not found\n"
     "0.00.085.580 E common_speculative_init_result: failed to load draft model, '/m/x.gguf'"),
    ("vocabulary", "the draft model's content does not fit this llama.cpp", 1,
     "0.00.104.861 E llama_model_load: error loading model: error loading model vocabulary: unknown pre-tokenizer type: 'x'\n"
     "0.00.104.892 E common_speculative_init_result: failed to load draft model, '/m/x.gguf'"),
    ("context", "prompt does not fit", 1, "main: error: prompt is too long (700 tokens, max 508)"),
    ("unknown", "SIGSEGV", -11, ""),
    ("unknown", "SIGSEGV", 139, ""),
    ("abort", "GGML_ASSERT(n_outputs_max", -6, "/b/llama-context.cpp:2273: GGML_ASSERT(n_outputs_max <= cparams.n_outputs_max) failed"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "words", "code", "log"), LOGS, ids=[f"{row[0]}-{row[1][:20]}" for row in LOGS])
def test_each_failure_is_one_sentence_with_cause_and_remedy(kind: str, words: str, code: int | None, log: str) -> None:
    failure = diagnose(log, code)

    assert (kind == "unknown") is ("read the log" in failure.remedy)
    assert words in failure.cause
    assert failure.remedy
    assert "\n" not in failure.cause


def test_an_illegal_instruction_says_that_the_program_is_another_processors() -> None:
    cause = diagnose("srv    load_model: initializing, n_slots = 1\n", -4)

    assert cause.cause.startswith("it was killed by SIGILL")
    assert "built for another processor" in cause.cause
    assert "GGML_NATIVE=OFF" in cause.remedy


# as gdb writes it after an assertion, seen with the embedded llama.cpp: of Python's thread, which is not the cause
DEBUGGER = """[New LWP 4803]
warning: File "/usr/bin/python3.11-gdb.py" auto-loading has been declined by your `auto-load safe-path' set to "x".
[Thread debugging using libthread_db enabled]
Using host libthread_db library "/lib/x86_64-linux-gnu/libthread_db.so.1".
#0  __GI___libc_read (nbytes=8192, buf=0x55cea9e9c7d0, fd=0) at ../sysdeps/unix/sysv/linux/read.c:26
26\t../sysdeps/unix/sysv/linux/read.c: No such file or directory.
#2  0x00007fd96a4b7836 in _Py_read (fd=0, buf=0x55cea9e9c7d0, count=8192) at Python/fileutils.c:1772
#43 0x0000565353dbb081 in _start ()
[Inferior 1 (process 4418) detached]
"""
# as it is of the thread that died, in a native llama-server
OWN_FRAMES = """[New LWP 9]
#0  0x00007f3d0d8eb4f7 in wait4 () from /lib/x86_64-linux-gnu/libc.so.6
#1  0x00007f3d0e0b2f1b in ggml_print_backtrace () from /b/libggml-base.so.0
#2  0x00007f3d0e0b30c4 in ggml_abort () from /b/libggml-base.so.0
#3  0x00007f3d0e3a1c77 in llama_context::decode(llama_batch const&) () from /b/libllama.so.0
[Inferior 1 (process 12) detached]
"""


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("0.01 I sched_reserve: reserving\n/b/ggml.c:3390: GGML_ASSERT(ggml_can_repeat(b, a)) failed\n" + DEBUGGER,
         "GGML_ASSERT(ggml_can_repeat(b, a)) failed"),
        ("0.01 I srv load_model\n/b/speculative.cpp:512: EAGLE3: target layer id 9 exceeds target n_layer 8\n" + DEBUGGER,
         "llama.cpp gave up: EAGLE3: target layer id 9 exceeds target n_layer 8"),
        ("0.01 I srv load_model\nterminate called after throwing an instance of 'std::runtime_error'\n"
         "  what():  the draft vocab (4 tokens) is smaller than the target's (9)\n" + DEBUGGER,
         "an error inside llama.cpp: the draft vocab (4 tokens) is smaller"),
        ("0.01.000.000 E srv  update_slots: the batch is odd\n" + DEBUGGER, "the batch is odd"),
        ("0.01.000.000 I srv  update_slots: all is well\n" + OWN_FRAMES, "in llama_context::decode"),
        ("0.01.000.000 I all is well\n/b/libllama.so.0(llama_decode+0x1e5) [0x7f3d0e3a1c77]\n", "in llama_decode"),
    ],
)  # fmt: skip
def test_the_cause_of_a_crash_stands_above_what_a_debugger_says_of_itself(log: str, words: str) -> None:
    cause = diagnose(log, -6).cause

    assert words in cause
    assert not re.search("Inferior|No such file|libthread", cause)


def test_a_last_line_that_is_no_error_is_not_given_as_the_cause() -> None:
    assert diagnose("0.00.000.001 I kv_cache: size = 4 MiB\n", -11).cause.endswith(
        "(segmentation fault): its log ends with “kv_cache: size = 4 MiB”"
    )


def test_an_unknown_failure_shows_the_last_words_without_its_time() -> None:
    log = "0.00.000.001 I fine\n0.00.000.002 E something odd failed\n0.00.000.003 I bye\n"

    assert last_words(log) == "something odd failed"
    assert "something odd failed" in diagnose(log, 1).cause


@given(st.text(), st.one_of(st.none(), st.integers(-64, 255)))
def test_no_log_breaks_the_diagnosis(log: str, code: int | None) -> None:
    assert diagnose(log, code).cause
