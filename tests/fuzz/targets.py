"""What is fuzzed: each parser of foreign bytes as a function that lets only our own errors pass in silence.

A server's answer, a model file, a prompt file and a program's output are written by others. Whatever they hold,
we either understand it or say so; anything else that escapes is a bug.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from tests.models.gguf_bytes import model, vocabulary
from velosweep.commands.compare import _posted_speedup
from velosweep.config.model_references import HubReference
from velosweep.config.prompts import load_prompts
from velosweep.config.schema import PromptKeys
from velosweep.errors import VelosweepError
from velosweep.llama_cpp import client
from velosweep.llama_cpp.binaries import parse_speculative, parse_vanilla
from velosweep.llama_cpp.capabilities import parse_defaults, parse_help, parse_list, parse_spec_types, parse_version
from velosweep.llama_cpp.completion import Completion, parse_events
from velosweep.llama_cpp.failures import diagnose
from velosweep.llama_cpp.server import listening_port
from velosweep.llama_cpp.server_facts import SpeculationCounters, parse_counters
from velosweep.llama_cpp.server_log import DraftingLog, offloaded_layers
from velosweep.models import hub_models
from velosweep.models.gguf_model import HeaderError, parse_header
from velosweep.models.model_checks import check_heads, check_pair
from velosweep.models.model_stores import hugging_face_files, lm_studio_files, ollama_files
from velosweep.reporting.escaping import terminal_text
from velosweep.reporting.posted_rows import read_rows, rows_table
from velosweep.reporting.table import terminal_lines
from velosweep.results.journal import read_journal
from velosweep.results.journal_table import journal_to_table
from velosweep.results.sweep_record import read_record

FOLDER = Path(tempfile.mkdtemp(prefix="velosweep-fuzz-"))
TIMING_NAMES = ("predicted_n", "predicted_ms", "prompt_n", "prompt_ms", "draft_n", "draft_n_accepted")


@dataclass(frozen=True, kw_only=True)
class Target:
    """A parser: `run` takes any bytes, `seeds` are sound inputs to start from."""

    run: Callable[[bytes], None]
    seeds: Sequence[bytes]


def gguf_header(data: bytes) -> None:
    """The header of a model file, what is made of it, and the comparison with another."""
    try:
        info = parse_header(data, Path("fuzzed.gguf"), len(data))
    except HeaderError:
        return
    assert info.description.isprintable()
    with suppress(VelosweepError):
        check_pair(info, SOUND_INFO)
    for kind in ("draft-simple", "draft-mtp", "draft-eagle3", "draft-dflash", "draft-dspark"):
        with suppress(VelosweepError):
            check_heads((kind,), SOUND_INFO, info)
        with suppress(VelosweepError):
            check_heads((kind,), info, None)


def _prompts(suffix: str) -> Callable[[bytes], None]:
    path = Path(tempfile.mkdtemp(prefix="velosweep-fuzz-")) / f"prompts{suffix}"

    def run(data: bytes) -> None:
        path.write_bytes(data)
        try:
            found = load_prompts(None, PromptKeys(file=path.name, limit=5), base=path.parent)
        except VelosweepError:
            return
        ids = {prompt.id.lower() for prompt in found.prompts}
        assert len(ids) == len(found.prompts) <= 5
        assert all(prompt.text.encode() and "/" not in prompt.id for prompt in found.prompts)

    return run


def conversations(data: bytes) -> None:
    """A file of conversations, replayed turn by turn."""
    path = FOLDER / "conversations.json"
    path.write_bytes(data)
    with suppress(VelosweepError):
        found = load_prompts(None, PromptKeys(file=path.name, turns=3, chat=True), base=FOLDER)
        assert all(prompt.text.encode() and len(prompt.before) < 3 for prompt in found.prompts)


NOTES = (
    ".lmstudio/settings.json",
    ".cache/huggingface/hub/models--a--b/refs/main",
    ".cache/llama.cpp/manifest=a=b=latest.json",
    ".ollama/models/manifests/registry.ollama.ai/library/m/t",
)


def stores(data: bytes) -> None:
    """Each note that other programs keep beside their models: no file outside of the folder that is theirs."""
    home = FOLDER / "home"
    (home / ".ollama/models/blobs/sha256-1").mkdir(parents=True, exist_ok=True)
    for note in NOTES:
        (home / note).parent.mkdir(parents=True, exist_ok=True)
        (home / note).write_bytes(data)
    for file in ollama_files(home, {}, service=home):
        assert file.path.parent == home / ".ollama/models/blobs"
    for files_of_store in (hugging_face_files, lm_studio_files):
        list(files_of_store(home, {}))
    hub_models._kept_flat(home / ".cache/llama.cpp", HubReference("a/b"))


def posted_rows(data: bytes) -> None:
    """A file of rows that somebody posted, as `compare` prints them."""
    path = FOLDER / "rows.md"
    path.write_bytes(data)
    with suppress(VelosweepError):
        rows = read_rows(path)
        rows.sort(key=_posted_speedup)
        shown = "".join(map(terminal_text, terminal_lines(rows_table(rows), width=80)))
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e]", shown)


def sweep_record(data: bytes) -> None:
    """A sweep.json."""
    path = FOLDER / "sweep.json"
    path.write_bytes(data)
    with suppress(VelosweepError):
        read_record(path)


def journal(data: bytes) -> None:
    """A journal whose checksums fit: whoever writes one can count them, too."""
    lines = [b'"kind":' + line for line in data.split(b"\n") if line]
    path = FOLDER / "journal.jsonl"
    path.write_bytes(b"".join(b'{"crc":"%08x",%s\n' % (crc32(line), line) for line in lines))
    with suppress(VelosweepError):
        journal_to_table(path)
    with suppress(VelosweepError):
        read_journal(path)


def server_answer(data: bytes) -> None:
    """An HTTP answer as it came over the wire, read as every kind of answer that we ask for."""
    try:
        reply = client._parse([(1.0, data[:9]), (2.0, data[9:])], 0.5, "GET /")
    except VelosweepError:
        return
    with suppress(VelosweepError):
        client.check_status(reply, "GET /")
    with suppress(VelosweepError):
        reply.json()
    server_events(reply.body)
    metrics(reply.body)


def server_events(data: bytes) -> None:
    """A stream of events, and the figures of its last one."""
    try:
        events = parse_events(data)
    except VelosweepError:
        return
    for event in events:
        done = Completion(final=event, tokens=(), text="", time_to_first_token_ms=1, total_time_ms=2)
        for name in TIMING_NAMES:
            with suppress(VelosweepError):
                done.number(name)
            with suppress(VelosweepError):
                done.count(name)


def metrics(data: bytes) -> None:
    """A page of counters."""
    found = parse_counters(data.decode(errors="replace"))
    if found is not None:
        assert len(found.accepted_per_position or ()) <= 10_000
        found.since(SpeculationCounters(rounds=1, draft_tokens=1, accepted_tokens=1, accepted_per_position=(1, 2)))


def program_output(data: bytes) -> None:
    """What a program of llama.cpp printed."""
    text = data.decode(errors="replace")
    parse_vanilla(text)
    parse_speculative(text)


def server_log(data: bytes) -> None:
    """The log of a server: where it listens, layers, how long drafting took, why it ended."""
    path = FOLDER / "server.log"
    path.write_bytes(data)
    assert (listening_port(data.decode(errors="replace")) or 1) < 1 << 16
    offloaded_layers(path)
    DraftingLog(path, kinds=1).skip()
    diagnose(data.decode(errors="replace"), 1)


def program_help(data: bytes) -> None:
    """What a program says of itself: flags, their defaults, version, devices."""
    text = data.decode(errors="replace")
    parse_defaults(text)
    parse_spec_types(parse_help(text))
    parse_version(text)
    parse_list(text)


SOUND_MODEL = model(
    vocabulary([f"t{i}" for i in range(12)]) | {"llama.block_count": 3, "general.name": "x", "f": 0.5, "a": [1, 2]},
    {"a.weight": ((64, 2), 0), "b.weight": ((64,), 8)},
)
SOUND_INFO = parse_header(SOUND_MODEL, Path("sound.gguf"), len(SOUND_MODEL))

HEADS = [
    model({"general.architecture": kind, **{f"{kind}.{name}": value for name, value in values.items()}}, tensors)
    for kind, values, tensors in (
        ("eagle3", {"target_hidden_size": 64, "target_layers": [0, 1, 2]}, {"fc.weight": ((64, 2), 0)}),
        ("dflash", {"block_size": 8, "embedding_length": 64}, {"markov_w1.weight": ((64, 2), 0)}),
        ("llama", {"nextn_predict_layers": 2, "embedding_length": 64}, {"blk.0.weight": ((64, 2), 0)}),
        ("gemma-assistant", {"nextn_predict_layers": 1, "embedding_length_out": 64}, {"a.weight": ((64, 2), 0)}),
    )
]
MANIFEST = b"""{"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:1"}],
 "ggufFile": {"rfilename": "a.gguf"}, "downloadsFolder": "nowhere"}"""
ROWS = b"""| device | model | n_draft | speedup | 95 % interval |
|---|:--|--:|---:|---|
| GPU | a \\| b (1.2 GB) | 8 | 1.53\xc3\x97 | 1.4\xe2\x80\xa61.6 |

| speedup | model | device |
"""
CONVERSATIONS = json.dumps([
    {"id": 1, "messages": [
        {"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]},
    {"conversations": [{"from": "human", "value": "d"}, {"from": "gpt", "value": "e"}], "category": "x"},
    {"turns": ["f", "g", "h", "i"]},
]).encode()  # fmt: skip
RECORD = {
    "schema_version": 1, "sweep_id": "s", "created_at": "2026-01-01T00:00:00Z", "command": ["velosweep"],
    "single": False, "jobs": [{
        "id": "j", "num": 0, "baseline_id": "b", "directory": "0", "overrides": ["n_draft=4"], "model_pair": "m",
        "main_model": "/m", "draft_model": None, "speculation": "draft", "n_draft": 4, "n_predict": 8,
        "prompt_set": "p", "prompt_ids": ["a"], "iterations": 2, "state": "done"}],
    "environment": {
        "velosweep": "1", "python": "3", "host": "h", "system": "s", "cpu": "c", "physical_cores": 1,
        "logical_cores": 1, "memory_bytes": 5, "devices": [], "engine": "e", "program": None, "program_sha256": None,
        "llama_cpp_build": "b"},
}  # fmt: skip
JOURNAL = b"""\
"journal","schema_version":1}
"sample","job_id":"j","mode":"vanilla","iteration":1,"status":"ok","started_at":"2026-01-01T00:00:00Z","order":0.5}
"launch","block":1}
"""

TIMINGS = dict.fromkeys(TIMING_NAMES, 7) | {"predicted_ms": 1.5}
EVENTS = b"".join(
    b"data: " + json.dumps(event).encode() + b"\n\n"
    for event in ({"content": "x", "tokens": [1], "stop": False}, {"stop": True, "timings": TIMINGS, "tokens": []})
)
METRICS = b"""# HELP llamacpp:spec_decode_num_drafts_total x
llamacpp:spec_decode_num_drafts_total 10
llamacpp:spec_decode_num_draft_tokens_total 1e3
llamacpp:spec_decode_num_accepted_tokens_total 20
llamacpp:spec_decode_num_accepted_tokens_per_pos_total{position="0"} 9
llamacpp:spec_decode_num_accepted_tokens_per_pos_total{position="12"} 2
"""
OUTPUT = b"""0.01.871.711 I common_perf_print: prompt eval time =      50.73 ms /    42 tokens (    1.21 ms per token)
common_perf_print:        eval time =    1550.03 ms /   199 runs   (    7.79 ms per token,   128.38 tokens per second)
encoded    8 tokens in    0.058 seconds, speed:  137.931 t/s
decoded  103 tokens in    0.246 seconds, speed:  419.219 t/s
n_drafted = 160
n_accept  = 82
"""
LOG = b"""load_tensors: offloaded 3/3 layers to GPU
main: server is listening on http://127.0.0.1:8080 - starting the main loop
statistics draft-simple: #calls(b,g,a) = 1 46 46, #gen tokens = 178, dur(b,g,a) = 0.001, 24.037, 0.031 ms
0.00.771.389 E llama_model_load: error loading model: tensor 'a' not found
#3  0x00007f in llama_decode () from /x/libllama.so
terminate called after throwing an instance of 'std::runtime_error'
"""
HELP = b"""----- common params -----
-c,    --ctx-size N                     size of the prompt context (default: 4096)
--spec-type none,draft-simple,ngram-mod  kind (default: none)
- 4: trace
version: 4191 (0bbd2262)
Available devices:
  CUDA0: NVIDIA H100 (81079 MiB, 80555 MiB free)
"""
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"

JSONL = b"""{"question_id": 81, "category": "writing", "turns": ["One", "Two"]}
{"prompt": "x"}
{"text": "y", "id": "z"}
"""
YAML = b"""items:
- {id: a, text: A, category: x}
- text
- id: &b b
  text: >-
    long
  category: *b
- {text: c, id: 2.5}
"""

# Bytes that mean something to one of the parsers.
WORDS = [
    b"\xff" * 8, b"\0" * 8, b"\xff\xff\xff\x7f", b"[" * 3000, b"{" * 50, b"9" * 5000, b"1e999", b"NaN", b"-1",
    b"\xc2\xb2", b'"\\ud800"', b"data:", b"\r\n\r\n", b"\x1b[2J", b"null", b"0x", b"...", b"\xe2\x80\xa8", b"&a",
    b"*a", b"!!",
]  # fmt: skip

TARGETS = {
    "gguf": Target(run=gguf_header, seeds=[SOUND_MODEL, b"GGUF\x03\0\0\0"]),
    "heads": Target(run=gguf_header, seeds=HEADS),
    "stores": Target(run=stores, seeds=[MANIFEST, b"main"]),
    "rows": Target(run=posted_rows, seeds=[ROWS]),
    "conversations": Target(run=conversations, seeds=[CONVERSATIONS]),
    "record": Target(run=sweep_record, seeds=[json.dumps(RECORD).encode()]),
    "journal": Target(run=journal, seeds=[JOURNAL]),
    "jsonl": Target(run=_prompts(".jsonl"), seeds=[JSONL]),
    "text": Target(run=_prompts(".txt"), seeds=["One\nTwo \u00fc\r\n".encode()]),
    "yaml": Target(run=_prompts(".yaml"), seeds=[YAML, b"x: [a, b]\ny: [{text: c}]"]),
    "json": Target(run=_prompts(".json"), seeds=[b'[{"text": "a"}, {"turns": [{"content": "b"}]}]']),
    "answer": Target(
        run=server_answer,
        seeds=[
            ANSWER + b"Content-Length: %d\r\n\r\n" % len(EVENTS) + EVENTS,
            ANSWER + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(EVENTS) + EVENTS + b"\r\n0\r\n\r\n",
            b'HTTP/1.1 400 Bad Request\r\n\r\n{"error": {"message": "exceeds the context"}}',
        ],
    ),
    "events": Target(run=server_events, seeds=[EVENTS, b'error: {"message": "x"}\n']),
    "metrics": Target(run=metrics, seeds=[METRICS]),
    "log": Target(run=server_log, seeds=[LOG]),
    "help": Target(run=program_help, seeds=[HELP]),
    "output": Target(run=program_output, seeds=[OUTPUT]),
}
