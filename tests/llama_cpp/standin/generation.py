"""One program of one generation of llama.cpp, as far as velosweep looks. Standard library only, starts in 20 ms.

Every fourth of its drafts is wrong at its last position but one. Traits: `settings` (which speculative key a response
has), `draft_n`, `cache_n`, `tokens` (whether it returns them), `drafts_need_cache` (cache_prompt: false turns drafting
off), `repeats_drafts` (a repeated prompt is drafted from the answer before), `counters` (/metrics has speculative
ones), `type_needed` (-md alone does not draft), `unfit` (the draft's vocabulary does not fit), `speculates_anyway`.
"""

# ruff: noqa: PTH123, E501, SIM105, B905 - starts fast, imports little, prints long lines

import json
import re
import socket
import sys
import time
import zlib

TOKEN_MS = 4.0
DRAFT_MS = 0.25
PROMPT_MS = 10.0


def main(config):
    argv = sys.argv[1:]
    with open(config["help"], encoding="utf-8") as file:
        text = file.read()
    if "--help" in argv:
        sys.stdout.write(text)
        return
    if "--version" in argv:
        say(f"version: {config['build']}\nbuilt with nothing for a test")
        return
    refuse(argv, text)
    options = parse(argv)
    if not config.get("unfit") and not exists(options.get("--model")):
        fail_to_load(options.get("--model"))
    if config["program"] == "llama-server":
        Server(config, options).serve()
    elif "speculative" in config["program"]:
        speculate(config, options)
    else:
        complete(config, options)


def say(text):
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def refuse(argv, text):
    """End as llama.cpp does at a flag that it doesn't know, or has removed."""
    for flag in argv:
        if not re.match(r"^--?[A-Za-z]", flag):
            continue
        entry = re.search(rf"(?m)^(?:-[^\n]*[ ,])?{re.escape(flag)}(?=[ ,\n]).*(?:\n {{5,}}.*)*", text)
        if entry is None:
            say(f"error: invalid argument: {flag}")
            sys.exit(1)
        if "has been removed" in entry.group(0):
            say(f'error while handling argument "{flag}": the argument has been removed')
            sys.exit(1)


def parse(argv):
    options = {}
    for position, flag in enumerate(argv):
        if flag.startswith("--"):
            value = argv[position + 1] if position + 1 < len(argv) else ""
            options[flag] = value
    return options


def first(options, *names, default=None):
    return next((options[name] for name in names if name in options), default)


def exists(path):
    try:
        with open(path or "", "rb") as file:
            return file.read(4) == b"GGUF"
    except OSError:
        return False


def fail_to_load(path):
    say(f"gguf_init_from_file: failed to open GGUF file '{path}' (No such file or directory)")
    say(f"srv    load_model: failed to load model, '{path}'")
    sys.exit(1)


def answer_tokens(prompt, count):
    return [97 + zlib.crc32(f"{prompt} {index}".encode()) % 26 for index in range(count)]


def rounds_of(count, n_draft):
    """(rounds, drafted, accepted, accepted per position) of `count` tokens after the first."""
    rounds = drafted = accepted = 0
    positions = [0] * n_draft
    left = count - 1
    while left > 0:
        rounds += 1
        right = n_draft if rounds % 4 else max(0, n_draft - 2)
        drafted += n_draft
        taken = min(right, left - 1)
        accepted += taken
        for position in range(taken):
            positions[position] += 1
        left -= taken + 1
    return rounds, drafted, accepted, positions


# ------------------------------------------------------------------ llama-completion, llama-speculative


def complete(config, options):
    count = int(first(options, "--predict", "--n-predict"))
    text = "".join(map(chr, answer_tokens(options["--prompt"], count)))
    sys.stdout.write(text + "\n")
    prefix = config["prefix"]
    runs = count - 1
    say(f"{prefix}       load time =     334.33 ms")
    say(
        f"{prefix}prompt eval time = {PROMPT_MS:10.2f} ms /    12 tokens (    1.20 ms per token,   833.33 tokens per second)"
    )
    say(
        f"{prefix}       eval time = {runs * TOKEN_MS:10.2f} ms / {runs:5d} runs   "
        f"( {TOKEN_MS:7.2f} ms per token, {1000 / TOKEN_MS:8.2f} tokens per second)"
    )
    say(f"{prefix}      total time = {PROMPT_MS + runs * TOKEN_MS:10.2f} ms / {12 + runs:5d} tokens")


def speculate(config, options):
    count = int(first(options, "--predict", "--n-predict"))
    n_draft = int(first(options, "--spec-draft-n-max", "--draft-max"))
    if config.get("unfit"):
        say("the target and draft vocabs are not compatible")
        say("terminate called after throwing an instance of 'std::runtime_error'")
        sys.exit(134)
    rounds, drafted, accepted, _ = rounds_of(count + 3, n_draft)
    decoded = count + 3  # overshot, as it does
    seconds = rounds * (TOKEN_MS + n_draft * DRAFT_MS) / 1000
    sys.stdout.write(
        "\n\n" + options["--prompt"] + "".join(map(chr, answer_tokens(options["--prompt"], decoded))) + "\n"
    )
    stamp = "0.00.921.236 I " if config["prefix"].startswith("0.") else ""
    say(f"{stamp}encoded   12 tokens in    {PROMPT_MS / 1000:.3f} seconds, speed: {12 / PROMPT_MS * 1000:8.3f} t/s")
    say(f"{stamp}decoded {decoded:4d} tokens in    {seconds:.3f} seconds, speed: {decoded / seconds:8.3f} t/s")
    say(f"{stamp}n_draft   = {n_draft}\n{stamp}n_predict = {decoded}\n{stamp}n_drafted = {drafted}")
    say(f"{stamp}n_accept  = {accepted}\n{stamp}accept    = {100 * accepted / drafted:.3f}%")
    say(
        f"{config['prefix']}       eval time =       0.00 ms /     1 runs   (    0.00 ms per token,      inf tokens per second)"
    )


# ------------------------------------------------------------------ llama-server


class Server:
    def __init__(self, config, options):
        self.config = config
        self.port = int(options.get("--port", "8080"))
        draft = first(options, "--spec-draft-model", "--model-draft")
        kinds = options.get("--spec-type", "none")
        if config["settings"] != "types" and draft:
            kinds = "draft"
        self.n_draft = int(first(options, "--spec-draft-n-max", "--draft-max", default="3")) if kinds != "none" else 0
        self.drafts = bool(self.n_draft) and not config.get("unfit")
        if config.get("speculates_anyway"):
            self.drafts, self.n_draft, kinds = True, 4, "draft-simple"
        self.kinds = kinds
        self.last_prompt = None
        self.cache = True
        self.key = None
        self.totals = [0, 0, 0, [0] * self.n_draft]

    def serve(self):
        import os

        self.key = os.environ.get("LLAMA_API_KEY")
        listener = socket.socket()
        listener.bind(("127.0.0.1", self.port))
        listener.listen(16)
        if self.config.get("unfit"):
            say("0.00.028.030 E spec common_specu: the target and draft vocabs are not compatible")
        if not self.config.get("silent"):
            say(f"main: server is listening on http://127.0.0.1:{listener.getsockname()[1]} - starting the main loop")
        while True:
            connection, _ = listener.accept()
            with connection:
                try:
                    self.answer(connection)
                except OSError:
                    pass  # the client went away

    def answer(self, connection):
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                return
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        while length and len(body) < int(length.group(1)):
            body += connection.recv(65536)
        path = head.split(b" ")[1].decode()
        if path != "/health" and self.key and f"Bearer {self.key}".encode() not in head:
            reply(connection, 401, {"error": {"message": "Invalid API Key"}})
        elif path == "/health":
            reply(connection, 200, {"status": "ok"})
        elif path == "/slots":
            drafts = self.drafts and (self.cache or not self.config["drafts_need_cache"])
            reply(connection, 200, [{"id": 0, "speculative": drafts}])
        elif path == "/props":
            reply(connection, 200, {"build_info": "b" + self.config["build"], "model_path": "m.gguf"})
        elif path == "/v1/models":
            meta = {"n_params": self.config.get("n_params", 1000), "n_vocab": 260}
            reply(connection, 200, {"data": [{"meta": meta}]})
        elif path == "/apply-template":
            text = json.loads(body)["messages"][0]["content"]
            reply(connection, 200, {"prompt": f"<user>{text}<assistant>"})
        elif path == "/metrics":
            reply(connection, 200, self.metrics().encode())
        else:
            self.complete(connection, json.loads(body))

    def metrics(self):
        if not self.config["counters"] or not self.n_draft:
            return "llamacpp:prompt_tokens_total 12\n"
        rounds, drafted, accepted, positions = self.totals
        lines = [
            f"llamacpp:spec_decode_num_draft_tokens_total {drafted}",
            f"llamacpp:spec_decode_num_accepted_tokens_total {accepted}",
            f"llamacpp:spec_decode_num_drafts_total {rounds}",
        ]
        lines += [
            f'llamacpp:spec_decode_num_accepted_tokens_per_pos_total{{position="{i}"}} {n}'
            for i, n in enumerate(positions)
        ]
        return "\n".join(lines) + "\n"

    def complete(self, connection, request):
        count, prompt, config = int(request["n_predict"]), request["prompt"], self.config
        self.cache = request.get("cache_prompt", True)
        n_draft = self.n_draft
        if config["settings"] != "types":
            n_draft = min(n_draft, request.get("speculative.n_max", n_draft))
        drafts = self.drafts and n_draft > 0 and (self.cache or not config["drafts_need_cache"])
        rounds, drafted, accepted, positions = rounds_of(count, n_draft) if drafts else (0, 0, 0, [])
        if config["repeats_drafts"] and prompt == self.last_prompt:
            drafted = accepted
        cached = 11 if self.cache and prompt == self.last_prompt else 0
        self.last_prompt = prompt
        self.totals = [
            self.totals[0] + rounds,
            self.totals[1] + drafted,
            self.totals[2] + accepted,
            [a + b for a, b in zip(self.totals[3], positions)] if positions else self.totals[3],
        ]
        steps_ms = rounds * (TOKEN_MS + n_draft * DRAFT_MS) if drafts else (count - 1) * TOKEN_MS
        timings = {"prompt_n": 12 - cached, "prompt_ms": PROMPT_MS, "predicted_n": count, "predicted_ms": steps_ms}
        timings["predicted_per_second"] = 1e9  # its meaning changed, so nobody may use it
        if config["cache_n"]:
            timings["cache_n"] = cached
        if config["draft_n"] and drafted:
            timings.update(draft_n=drafted, draft_n_accepted=accepted)
        settings = {"n_predict": count}
        if config["settings"] == "types":
            settings["speculative.types"] = "none," + self.kinds if self.drafts else "none"
        else:
            settings.update({"speculative.n_max": n_draft, "speculative.n_min": 0})
            if config["settings"] == "type":
                settings["speculative.type"] = "none"
        events = []
        for token in answer_tokens(prompt, count):
            body = {"content": chr(token), "stop": False}
            if config["tokens"]:
                body["tokens"] = [token]
            events.append(body)
        final = {"content": "", "stop": True, "truncated": False, "generation_settings": settings, "timings": timings}
        stream(connection, [*events, final])


def stream(connection, events):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    for event in events:
        data = b"data: " + json.dumps(event).encode() + b"\n\n"
        connection.sendall(b"%x\r\n%s\r\n" % (len(data), data))
    connection.sendall(b"0\r\n\r\n")
    time.sleep(0)


def reply(connection, status, body):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.sendall(
        b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(data), data)
    )
