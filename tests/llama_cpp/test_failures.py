"""Every bad input's last words, as llama.cpp wrote them, and what people are told."""

# ruff: noqa: E501 - recorded lines are as long as they are

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velosweep.llama_cpp.failures import diagnose, last_error_line

# recorded from builds of December 2024 to October 2026, CPU and CUDA
LOGS = [
    ("file", "none.gguf can't be opened", 1,
     "0.00.021.300 E gguf_init_from_file: failed to open GGUF file '/m/none.gguf' (No such file or directory)\n"
     "0.00.021.436 E llama_model_load: error loading model: llama_model_loader: failed to load model from /m/none.gguf\n"
     "0.00.022.057 E srv  llama_server: exiting due to model loading error"),
    ("file", "none.gguf can't be opened", 1,
     "gguf_init_from_file: failed to open '/m/none.gguf': 'No such file or directory'\n"
     "llama_model_load: error loading model: llama_model_loader: failed to load model from /m/none.gguf"),
    ("file", "no GGUF or is damaged", 1,
     "0.00.020.924 E gguf_init_from_reader: invalid magic characters: ' ???', expected 'GGUF'\n"
     "0.00.021.070 E llama_model_load: error loading model: llama_model_loader: failed to load model from /m/junk.gguf"),
    ("file", "no GGUF or is damaged", 1, "0.00.007.464 E gguf_init_from_reader: failed to read magic"),
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
    ("memory", "want of memory", -9, "llama_model_loader: loaded meta data"),
    ("driver", "driver does not work", 1,
     "ggml_cuda_init: failed to initialize CUDA: CUDA driver version is insufficient for CUDA runtime version"),
    ("driver", "the GPU reported an error", -6, "CUDA error: an illegal memory access was encountered"),
    ("library", "libcudart.so.12", 127,
     "llama-server: error while loading shared libraries: libcudart.so.12: cannot open shared object file"),
    ("program", "can't be executed", 126, "exec: /x/llama-server: Exec format error"),
    ("model", "architecture 'qwen9'", 1, "llama_model_load: error loading model: unknown model architecture: 'qwen9'"),
    ("context", "prompt does not fit", 1, "main: error: prompt is too long (700 tokens, max 508)"),
    ("unknown", "SIGSEGV", -11, ""),
    ("unknown", "SIGSEGV", 139, ""),
    ("abort", "GGML_ASSERT(n_outputs_max", -6, "/b/llama-context.cpp:2273: GGML_ASSERT(n_outputs_max <= cparams.n_outputs_max) failed"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "words", "code", "log"), LOGS, ids=[f"{row[0]}-{row[1][:20]}" for row in LOGS])
def test_each_failure_is_one_sentence_with_cause_and_remedy(kind: str, words: str, code: int | None, log: str) -> None:
    failure = diagnose(log, code)

    assert (kind == "unknown") is not failure.known
    assert words in failure.cause
    assert failure.remedy
    assert "\n" not in failure.cause


def test_an_illegal_instruction_says_that_the_program_is_another_processors() -> None:
    cause = diagnose("srv    load_model: initializing, n_slots = 1\n", -4)

    assert cause.cause.startswith("it was killed by SIGILL")
    assert "built for another processor" in cause.cause
    assert "GGML_NATIVE=OFF" in cause.remedy


def test_an_unknown_failure_shows_the_last_error_line_without_its_time() -> None:
    log = "0.00.000.001 I fine\n0.00.000.002 E something odd failed\n0.00.000.003 I bye\n"

    assert last_error_line(log) == "something odd failed"
    assert "something odd failed" in diagnose(log, 1).cause


@given(st.text(), st.one_of(st.none(), st.integers(-64, 255)))
def test_no_log_breaks_the_diagnosis(log: str, code: int | None) -> None:
    assert diagnose(log, code).cause
