# ruff: noqa: PTH118, PTH123, PTH113, PTH202, SIM105
# (pathlib and contextlib would double the time it takes to start)
"""A stand-in for llama-server (build of October 2026) with exact timing and chosen faults. Standard library only.

It speaks what velosweep asks: --help, --version, --list-devices, port 0, /health, /slots, /metrics and a streamed
/completion. It starts in about 30 ms, computes nothing and sleeps as long as decoding is to take.

The JSON file named by STANDIN says how (all keys optional, read again at every run, so that a test may change its
mind):

    load_s, prompt_ms, ms_per_token, speculative_factor (a speculative run takes this share), acceptance (0..1),
    jitter (relative, seeded by run), models (true: the model files must exist and be non-empty),
    devices (list of names: GPUs that --list-devices shows), state (a folder: see below),
    hold (when so many runs of all processes have ended, the next ones wait until this says something else; a
    process's first run, its warm-up, neither counts nor waits),
    faults: list of {at: "load" | "run", kind, arm: "vanilla" | "speculative" | n_draft | null for any,
                     run: k (the k-th run of one process, from 1, the warm-up included; null: any),
                     from: l (the l-th start of the arm's server and later ones), times: n (null: always)}

`times` counts over all processes, by files claimed in `state`; there stands also `log`, one JSON line for every
process started and every run (monotonic times of its begin and end, device, arm).

Kinds at load: crash:SIGSEGV, crash:SIGABRT, oom (stderr and exit 1), hang, junk (no llama.cpp at all), deaf
(listens, never healthy). At run: crash:SIG…, crash-midway:SIG…, hang, hang-midway, garbage, half-json, status:500,
slow (times `factor`), oom, nan, absurd (a million tokens a second), negative, short, silent-close, stubborn-hang
(also ignores SIGTERM).
"""

import json
import os
import signal
import socket
import sys
import time
import zlib

HELP = """\
----- common params -----
-h,    --help, --usage                  print usage and exit
--version                               show version and build info
-t,    --threads N                      number of CPU threads to use during generation
-tb,   --threads-batch N                number of threads to use during batch and prompt processing
-c,    --ctx-size N                     size of the prompt context
-b,    --batch-size N                   logical maximum batch size
-ub,   --ubatch-size N                  physical maximum batch size
-fa,   --flash-attn [on|off|auto]       set Flash Attention use
-ctk,  --cache-type-k TYPE              KV cache data type for K
-ctv,  --cache-type-v TYPE              KV cache data type for V
-ngl,  --gpu-layers, --n-gpu-layers N   max. number of layers to store in VRAM
-dev,  --device <dev1,dev2,..>          comma-separated list of devices to use for offloading
--list-devices                          print list of available devices and exit
-m,    --model FNAME                    model path
--mmap, --no-mmap                       whether to memory-map model
-md,   --spec-draft-model, --model-draft FNAME
                                        draft model for speculative decoding
--spec-type [none,draft-simple,ngram-simple,ngram-mod]
                                        type of speculative decoding
--spec-draft-n-max N                    number of tokens to draft
--spec-draft-n-min N                    minimum number of draft tokens
--spec-draft-p-min P                    minimum speculative decoding probability
--spec-draft-ngl N                      number of draft layers to store in VRAM
--draft, --draft-n, --draft-max N       the argument has been removed. use --spec-draft-n-max
----- server params -----
--host HOST                             ip address to listen
--port PORT                             port to listen
-np,   --parallel N                     number of server slots
--metrics                               enable prometheus compatible metrics endpoint
--slots, --no-slots                     expose slots monitoring endpoint
--no-ui                                 disable the Web UI
"""


class MidwayError(Exception):
    """The answer is to break off here."""


def settings():
    try:
        with open(os.environ["STANDIN"], encoding="utf-8") as file:
            return json.load(file)
    except (KeyError, OSError, ValueError):
        return {}


def note(config, **what):
    if "state" in config:
        line = json.dumps({"pid": os.getpid(), **what}) + "\n"
        handle = os.open(os.path.join(config["state"], "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)


def noted(config):
    with open(os.path.join(config["state"], "log"), encoding="utf-8") as file:
        return list(map(json.loads, file))


class Server:
    def __init__(self, argv):
        self.port = int(option(argv, "--port", "8080"))
        self.model = option(argv, "--model", None)
        self.draft = option(argv, "--spec-draft-model", None)
        spec = option(argv, "--spec-type", "none")
        self.kinds = spec
        self.n_draft = int(option(argv, "--spec-draft-n-max", "3")) if spec != "none" else 0
        self.arm = "speculative" if spec != "none" else "vanilla"
        self.key = os.environ.get("LLAMA_API_KEY")
        self.runs = 0
        self.rounds = self.drafted = self.accepted = 0
        self.device = os.environ.get("CUDA_VISIBLE_DEVICES", "")

    # -------------------------------------------------------- faults

    def fault(self, config, at):
        for number, fault in enumerate(config.get("faults", [])):
            if fault.get("at", "run") != at or fault.get("arm") not in (None, self.arm, self.n_draft or "-"):
                continue
            if at == "run" and fault.get("run") not in (None, self.runs):
                continue
            if fault.get("from") is not None and self.launch(config) < fault["from"]:
                continue
            if fault.get("times") is not None and not claim(config, number, fault["times"]):
                continue
            note(config, event="fault", at=at, kind=fault["kind"], arm=self.arm, n_draft=self.n_draft)
            return fault
        return None

    def launch(self, config):
        """Which start of this arm's server this is, from 1."""
        starts = [event for event in noted(config) if event["event"] == "start"]
        same = [event["pid"] for event in starts if event["n_draft"] == self.n_draft]
        return same.index(os.getpid()) + 1

    def load(self):
        config = settings()
        note(config, event="start", time=time.monotonic(), arm=self.arm, n_draft=self.n_draft, device=self.device)
        fault = self.fault(config, "load")
        kind = fault["kind"] if fault else ""
        if kind.startswith("crash:"):
            die(kind)
        if kind == "oom":
            say("ggml_aligned_malloc: insufficient memory (attempted to allocate 70000.00 MB)")
            say("alloc_tensor_range: failed to allocate CPU buffer of size 73400320000")
            sys.exit(1)
        if kind == "junk":
            say("Segment registers are not what they were.")
            sys.exit(3)
        if config.get("models"):
            for path in filter(None, (self.model, self.draft)):
                if not os.path.isfile(path) or not os.path.getsize(path):
                    say(f"gguf_init_from_file: failed to open GGUF file '{path}' (No such file or directory)")
                    say("error: failed to load model")
                    sys.exit(1)
        if kind == "hang":
            time.sleep(3600)
        time.sleep(config.get("load_s", 0))
        return kind == "deaf"

    # -------------------------------------------------------- HTTP

    def serve(self):
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        listener = socket.socket()
        listener.bind(("127.0.0.1", self.port))
        listener.listen(16)
        deaf = self.load()
        port = listener.getsockname()[1]
        note(settings(), event="listening", port=port)
        say(f"main: server is listening on http://127.0.0.1:{port}")
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                self.answer(connection, deaf)
            except OSError:
                pass  # the client went away
            finally:
                connection.close()

    def answer(self, connection, deaf):
        head, body = receive(connection)
        method, path = head.split(" ")[:2]
        if path == "/health":
            reply(connection, 503 if deaf else 200, b'{"status":"ok"}')
        elif self.key and f"Authorization: Bearer {self.key}" not in head:
            reply(connection, 401, b'{"error":{"code":401,"message":"Invalid API Key"}}')
        elif path == "/slots":
            reply(connection, 200, json.dumps([{"id": 0, "speculative": self.n_draft > 0}]).encode())
        elif path == "/metrics":
            reply(connection, 200, self.metrics().encode())
        elif method == "POST" and path == "/completion":
            try:
                self.complete(connection, json.loads(body))
            except MidwayError:
                pass
        elif method == "POST" and path == "/apply-template":
            text = json.loads(body)["messages"][0]["content"]
            reply(connection, 200, json.dumps({"prompt": f"<user>{text}<assistant>"}).encode())
        else:
            reply(connection, 404, b'{"error":{"code":404,"message":"File Not Found"}}')

    def metrics(self):
        if not self.n_draft:
            return "llamacpp:requests_processing 0\n"
        names = {"drafts": self.rounds, "draft_tokens": self.drafted, "accepted_tokens": self.accepted}
        return "".join(f"llamacpp:spec_decode_num_{name}_total {value}\n" for name, value in names.items())

    # -------------------------------------------------------- a run

    def complete(self, connection, request):
        config = settings()
        wanted = int(request["n_predict"])
        measured = wanted > 1  # the first question after loading asks for one token
        self.runs += measured
        began = time.monotonic()
        config = self.held(config) if measured and self.runs > 1 else config
        fault = (self.fault(config, "run") if measured else None) or {}
        kind = fault.get("kind", "")
        rounds, drafted, accepted = self.speculation(wanted, config.get("acceptance", 0.75))
        prompt_ms = config.get("prompt_ms", 1.0)
        predicted_ms = wanted * config.get("ms_per_token", 0.2) * self.jitter(config)
        if self.n_draft:
            predicted_ms *= config.get("speculative_factor", 0.5)
        if kind == "slow":
            predicted_ms *= fault.get("factor", 100)
        before(kind, connection)
        time.sleep(prompt_ms / 1000)
        tokens = [zlib.crc32(f"{request['prompt']} {index}".encode()) % 30000 for index in range(wanted)]
        if kind == "short":
            tokens = tokens[: wanted // 2]
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
            b"Connection: close\r\n\r\n" + chunk(event(tokens[:1]))
        )
        if kind == "hang-midway":
            time.sleep(3600)
        time.sleep(predicted_ms / 1000 * (0.5 if kind.startswith("crash-midway:") else 1))
        midway(kind, connection)
        self.rounds += rounds
        self.drafted += drafted
        self.accepted += accepted
        # all other time is the prompt's: a stand-in that was held up, by a test or by a busy machine, says so
        prompt_ms = max(prompt_ms, (time.monotonic() - began) * 1000 - predicted_ms)
        timings = {"cache_n": 0, "prompt_n": 12, "prompt_ms": prompt_ms, "predicted_n": len(tokens)}
        timings["predicted_ms"] = {"nan": float("nan"), "absurd": 1e-6, "negative": -5.0}.get(kind, predicted_ms)
        if self.n_draft:
            timings.update(draft_n=drafted, draft_n_accepted=accepted)
        final = {
            "index": 0, "content": "", "tokens": [], "stop": True, "truncated": False, "timings": timings,
            "generation_settings": {"speculative.types": self.kinds},
        }  # fmt: skip
        note(
            config, event="run", arm=self.arm, n_draft=self.n_draft, device=self.device, measured=measured,
            counts=measured and self.runs > 1, begin=began, end=time.monotonic(), cores=sorted(os.sched_getaffinity(0)),
        )  # fmt: skip  # before the answer: who has that finds this noted
        connection.sendall(
            chunk(event(tokens[1:])) + chunk(b"data: " + json.dumps(final).encode() + b"\n\n") + b"0\r\n\r\n"
        )

    def held(self, config):
        """What the file says when this run may begin."""
        hold = config.get("hold")
        if hold is not None and sum(event.get("counts", False) for event in noted(config)) >= hold:
            note(config, event="held")
            while settings().get("hold") == hold:
                time.sleep(0.005)
            config = settings()
        return config

    def jitter(self, config):
        share = config.get("jitter", 0.0)
        return 1 + share * (zlib.crc32(f"{os.getpid()} {self.runs}".encode()) % 2001 - 1000) / 1000

    def speculation(self, wanted, acceptance):
        if not self.n_draft:
            return 0, 0, 0
        each = 1 + round(acceptance * self.n_draft)
        rounds = max(1, -(-wanted // each))
        return rounds, rounds * self.n_draft, rounds * (each - 1)


def before(kind, connection):
    """Faults in place of an answer."""
    if kind.startswith("crash:"):
        die(kind)
    if kind == "oom":
        say("CUDA error: out of memory")
        say("  current device: 0, in function alloc at ggml-cuda.cu:503")
        die("crash:SIGABRT")
    if kind == "stubborn-hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if kind in ("hang", "stubborn-hang"):
        time.sleep(3600)
    if kind == "silent-close":
        raise MidwayError
    if kind == "garbage":
        connection.sendall(bytes(range(256)) * 8)
        raise MidwayError
    if kind.startswith("status:"):
        reply(connection, int(kind[7:]), b'{"error":{"code":500,"message":"the slot is on fire"}}')
        raise MidwayError


def midway(kind, connection):
    """Faults within an answer."""
    if kind.startswith("crash-midway:"):
        die(kind)
    if kind == "half-json":
        connection.sendall(chunk(b'data: {"index":0,"content":"ab","stop":tr') + b"0\r\n\r\n")
        raise MidwayError


def event(tokens):
    body = {"index": 0, "content": "x" * len(tokens), "tokens": tokens, "stop": False}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def reply(connection, status, body):
    connection.sendall(
        b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
        % (status, len(body), body)
    )


def receive(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            raise OSError("closed")
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    length = next((int(line[15:]) for line in lines if line.lower().startswith("content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head.decode(), body


def claim(config, number, times):
    """Whether one of `times` occurrences is still free; of all processes only one gets each."""
    for occurrence in range(times):
        path = os.path.join(config["state"], f"fault-{number}-{occurrence}")
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        return True
    return False


def die(kind):
    number = getattr(signal, kind.partition(":")[2])
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    time.sleep(10)


def say(text):
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def option(argv, name, default):
    return argv[argv.index(name) + 1] if name in argv else default


def main():
    argv = sys.argv[1:]
    if "--help" in argv:
        sys.stdout.write(HELP)
    elif "--version" in argv:
        say("version: 9999 (5ta4d14)\nbuilt with nothing for this test")
    elif "--list-devices" in argv:
        sys.stdout.write("Available devices:\n")
        for index, name in enumerate(settings().get("devices", [])):
            sys.stdout.write(f"  CUDA{index}: {name} (81920 MiB, 81000 MiB free)\n")
    else:
        Server(argv).serve()


if __name__ == "__main__":
    main()
