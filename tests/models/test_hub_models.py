"""Models by path and from a hub: a stand-in of it on loopback, asked by the real huggingface_hub."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from velosweep.errors import ModelFileError
from velosweep.models.hub_models import choose_file, resolve_model

DATA = b"GGUF" + bytes(range(256)) * 40
COMMIT = "c0ffee" + "0" * 34
FILES = {"model.gguf", "sub/q4.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-Q8_0.gguf"}
FILES |= {"big-00001-of-00002.gguf", "big-00002-of-00002.gguf"}


class Hub(BaseHTTPRequestHandler):
    """As much of a hub as a download asks for."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body):
        self.server.asked.append(f"{self.command} {self.path}")
        if self.path.startswith("/api/models/owner/repo/tree/"):
            listed = [{"type": "file", "path": name, "size": len(DATA), "oid": "0" * 40} for name in sorted(FILES)]
            self.reply(200, {"Content-Type": "application/json"}, json.dumps(listed).encode(), body)
            return
        match = re.fullmatch(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)", self.path)
        refusal = self.refusal(match)
        if refusal:
            status, code = refusal
            self.reply(status, {"X-Error-Code": code, "X-Error-Message": f"the hub says {code}"}, b"", body)
            return
        etag = sha256(DATA).hexdigest()
        self.reply(200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}, DATA, body)

    def refusal(self, match):
        if match is None or match["repo"] == "owner/gone":
            return 404, "RepoNotFound"
        if match["repo"] == "owner/gated":
            return 403, "GatedRepo"
        if match["revision"] not in {"main", "v2", COMMIT}:
            return 404, "RevisionNotFound"
        return None if match["file"] in FILES else (404, "EntryNotFound")

    def reply(self, status, headers, data, body):
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(data))}).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


CHILD = """
import json, sys, time
time.sleep = lambda seconds: None  # of huggingface_hub, which tries for 23 s to reach a hub
from velosweep.models.hub_models import resolve_model
from velosweep.errors import ModelFileError
answers = []
for reference in sys.argv[1:]:
    try:
        answers.append([resolve_model(reference, key="model_pair.main_model"), None, None])
    except ModelFileError as error:
        answers.append([None, error.message, error.remedy])
print(json.dumps(answers))
"""


@pytest.fixture
def resolve(hub, tmp_path):
    """Ask in a process of its own: huggingface_hub reads its endpoint and cache folder when it is imported."""
    pytest.importorskip("huggingface_hub")

    def ask(*references, **more):
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        environment |= {
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_ETAG_TIMEOUT": "2",
        }
        child = subprocess.run(
            [sys.executable, "-c", CHILD, *references],
            env=environment | more,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert child.returncode == 0, child.stderr
        return json.loads(child.stdout)

    return ask


def test_files_of_the_hub_are_fetched_once_into_its_usual_cache(resolve, hub, tmp_path):
    once, again, revision, split = resolve(
        "hf://owner/repo/model.gguf",
        "hf://owner/repo/model.gguf",
        "hf://owner/repo@v2/sub/q4.gguf",
        "hf://owner/repo/big-00001-of-00002.gguf",
    )
    path = Path(once[0])

    assert path.read_bytes() == DATA
    assert path.is_relative_to(tmp_path / "hf" / "hub" / "models--owner--repo" / "snapshots" / COMMIT)
    assert once == again
    assert sum(request.startswith("GET") and request.endswith("/model.gguf") for request in hub.asked) == 1
    assert revision[0].endswith("sub/q4.gguf")
    assert any("/resolve/v2/sub/q4.gguf" in request for request in hub.asked)
    assert split[0].endswith("big-00001-of-00002.gguf")
    assert Path(split[0]).with_name("big-00002-of-00002.gguf").read_bytes() == DATA  # all parts are


def test_what_the_hub_refuses_is_said_with_what_to_do(resolve):
    remedies = {
        "hf://owner/repo/nope.gguf": "check the file's name",
        "hf://owner/gone/model.gguf": "check the repository's name",
        "hf://owner/gated/model.gguf": "ask for access",
        "hf://owner/repo@v9/model.gguf": "check the revision",
    }
    for (path, message, said), remedy in zip(resolve(*remedies), remedies.values(), strict=True):
        assert path is None
        assert message.startswith("model_pair.main_model: ")
        assert "can't be fetched" in message
        assert remedy in said


def test_a_hub_out_of_reach_is_said_and_what_was_fetched_still_serves(resolve):
    (fetched,) = resolve("hf://owner/repo/model.gguf")
    cached, (_, message, remedy) = resolve(
        "hf://owner/repo/model.gguf", "hf://owner/repo/sub/q4.gguf", HF_ENDPOINT="http://127.0.0.1:1"
    )

    assert fetched == cached
    assert "can't be fetched" in message
    assert "network" in remedy


def test_a_quantisation_is_named_as_llama_cpp_s_own_hf_names_it(resolve, hub):
    references = ["owner/repo:q8_0", "hf://owner/repo:Q4_K_M", "hf://owner/repo"]

    found = resolve(*references)

    assert [Path(path).name for path, *_ in found] == ["m-Q8_0.gguf", "m-Q4_K_M.gguf", "m-Q4_K_M.gguf"]
    asked = len(hub.asked)
    assert resolve(*references) == found
    assert len(hub.asked) == asked  # nothing is asked of a hub whose file is in the cache


def test_a_quantisation_that_a_repository_lacks_is_refused_with_those_it_has(resolve):
    ((path, message, remedy),) = resolve("owner/repo:Q2_K")

    assert path is None
    assert "hf://owner/repo has no such file; it has" in message
    assert "Q4_K_M" in message
    assert "owner/repo:Q4_K_M" in remedy


@pytest.mark.parametrize("layout", ["hub", "flat", "own_hub"])
def test_what_llama_cpp_has_fetched_needs_no_hub(resolve, hub, tmp_path, layout):
    cache = tmp_path / "llama"
    snapshot = cache / "models--owner--repo" / "snapshots" / COMMIT
    file = {
        "hub": snapshot / "x-Q5_0.gguf",
        "flat": cache / "owner_repo_x-Q5_0.gguf",
        "own_hub": tmp_path / "hf" / "hub" / "models--owner--repo" / "snapshots" / COMMIT / "x-Q5_0.gguf",
    }[layout]
    file.parent.mkdir(parents=True)
    file.write_bytes(DATA)
    (cache / "manifest=owner=repo=Q5_0.json").parent.mkdir(exist_ok=True)
    (cache / "manifest=owner=repo=Q5_0.json").write_text(json.dumps({"ggufFile": {"rfilename": "x-Q5_0.gguf"}}))
    (cache / "owner_repo_other-Q5_1.gguf").write_bytes(DATA)  # perhaps of the repository owner/repo_other

    tagged, named = resolve("owner/repo:Q5_0", "hf://owner/repo/x-Q5_0.gguf", LLAMA_CACHE=str(cache))

    assert tagged[0] == named[0] == str(file)
    assert not hub.asked
    assert resolve("owner/repo:Q5_1", LLAMA_CACHE=str(cache))[0][0] is None


def test_a_file_of_that_name_comes_before_a_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "repo:Q8_0").touch()

    assert resolve_model("owner/repo:Q8_0", key="k") == str(tmp_path / "owner" / "repo:Q8_0")


@pytest.mark.parametrize(
    ("files", "tag", "chosen"),
    [
        (["a-Q4_K_M.gguf", "a-Q8_0.gguf"], None, "a-Q4_K_M.gguf"),
        (["a-Q8_0.gguf", "a-F16.gguf"], None, "a-Q8_0.gguf"),
        (["a-F16.gguf"], None, "a-F16.gguf"),
        (["a-F16.gguf"], "Q8_0", None),
        (["a-Q8_0-00002-of-00002.gguf", "a-Q8_0-00001-of-00002.gguf"], "q8_0", "a-Q8_0-00001-of-00002.gguf"),
        (["mtp-a-Q8_0.gguf", "mmproj-Q8_0.gguf", "Q8_0/a-Q8_0.gguf"], "Q8_0", "Q8_0/a-Q8_0.gguf"),
        (["readme.md"], None, None),
    ],
)
def test_a_repository_s_file_is_chosen_as_llama_cpp_chooses(files, tag, chosen):
    assert choose_file(files, tag) == chosen


def test_without_huggingface_hub_the_extra_is_named(tmp_path):
    (tmp_path / "huggingface_hub.py").write_text("raise ImportError('not installed')")
    script = (
        "from velosweep.models.hub_models import resolve_model; resolve_model('hf://owner/repo/model.gguf', key='k')"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])

    ended = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )

    assert ended.returncode == 1
    assert re.search(r"ModelFileError: .*not installed; .* -m pip install .*\[hf\]", ended.stderr)


@pytest.mark.parametrize("reference", ["hf://", "hf://owner", "hf://owner/repo/", "hf://owner/repo:", "hf://a@b/c"])
def test_a_reference_that_names_no_file_is_refused(reference):
    with pytest.raises(ModelFileError, match=r"write hf://owner/repo/file.gguf"):
        resolve_model(reference, key="k")


def test_a_path_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))

    assert str(tmp_path / "a b.gguf") == resolve_model("a b.gguf", key="k")
    assert str(tmp_path / "home" / "m.gguf") == resolve_model("~/m.gguf", key="k")
    assert resolve_model("/m.gguf", key="k") == "/m.gguf"


@pytest.mark.parametrize("reference", ["", " ", "a\0b"])
def test_what_is_no_path_is_refused(reference):
    with pytest.raises(ModelFileError, match="k is "):
        resolve_model(reference, key="k")
