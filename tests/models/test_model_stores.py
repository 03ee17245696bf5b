"""Stores of four programs, laid out as their documentation says."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.models.model_files import write_model
from velosweep.models.found_models import list_files
from velosweep.models.model_stores import (
    gguf_files,
    hugging_face_files,
    llama_cpp_cache,
    llama_cpp_files,
    lm_studio_files,
    ollama_files,
)


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, ".cache/huggingface/hub"),
        ({"HF_HOME": "own"}, "own/hub"),
        ({"HF_HUB_CACHE": "hub of mine"}, "hub of mine"),
        ({"XDG_CACHE_HOME": "xdg"}, "xdg/huggingface/hub"),
    ],
)
def test_hugging_faces_cache_gives_the_revision_that_main_refers_to(
    variables: dict[str, str], place: str, tmp_path: Path
) -> None:
    repository = tmp_path / place / "models--bartowski--Llama-3.2-1B-GGUF"
    blob = write_model(repository / "blobs" / "5d21")
    for revision in ("aaa", "bbb"):
        folder = repository / "snapshots" / revision
        folder.mkdir(parents=True)
        (folder / "Llama-3.2-1B-Q4_K_M.gguf").symlink_to(blob)
    (repository / "snapshots" / "aaa" / "only-here.gguf").symlink_to(blob)
    (repository / "snapshots" / "bbb" / "README.md").touch()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("bbb")
    environment = {name: str(tmp_path / value) for name, value in variables.items()}

    files = list(hugging_face_files(tmp_path, environment))

    assert [(file.name, file.path.parent.name) for file in files] == [
        ("bartowski/Llama-3.2-1B-GGUF/Llama-3.2-1B-Q4_K_M.gguf", "bbb"),
        ("bartowski/Llama-3.2-1B-GGUF/only-here.gguf", "aaa"),
    ]


def test_llama_cpps_cache_has_files_beside_each_other_or_as_hugging_face_does(tmp_path: Path) -> None:
    cache = tmp_path / ".cache" / "llama.cpp"
    write_model(cache / "ggml-org_gemma-3-1b-it-GGUF_gemma-3-1b-it-Q4_K_M.gguf")
    (cache / "manifest=ggml-org=gemma-3-1b-it-GGUF=latest.json").write_text("{}")
    write_model(cache / "models--a--b" / "snapshots" / "c0" / "d.gguf")

    names = [file.name for file in llama_cpp_files(tmp_path, {})]
    elsewhere = list(llama_cpp_files(tmp_path / "nobody", {"LLAMA_CACHE": str(cache)}))

    assert names == ["ggml-org_gemma-3-1b-it-GGUF_gemma-3-1b-it-Q4_K_M.gguf", "a/b/d.gguf"]
    assert [file.name for file in elsewhere] == names


def test_each_system_has_its_folder_for_caches(tmp_path: Path) -> None:
    def folder(platform: str, **environment: str) -> Path:
        return llama_cpp_cache(tmp_path, environment, platform)

    assert folder("linux") == tmp_path / ".cache/llama.cpp"
    assert folder("linux", XDG_CACHE_HOME="/xdg") == Path("/xdg/llama.cpp")
    assert folder("darwin") == tmp_path / "Library/Caches/llama.cpp"
    assert folder("win32", LOCALAPPDATA="/local") == Path("/local/llama.cpp")


def test_lm_studios_folder_is_the_usual_one_or_that_of_its_settings(tmp_path: Path) -> None:
    write_model(tmp_path / ".lmstudio/models/infra-ai/ocelot-v1/ocelot-v1-instruct-q4_0.gguf")
    write_model(tmp_path / "chosen/publisher/model/file.gguf")
    assert [file.name for file in lm_studio_files(tmp_path, {})] == ["infra-ai/ocelot-v1/ocelot-v1-instruct-q4_0.gguf"]

    (tmp_path / ".lmstudio/settings.json").write_text(json.dumps({"downloadsFolder": str(tmp_path / "chosen")}))

    assert "publisher/model/file.gguf" in [file.name for file in lm_studio_files(tmp_path, {})]


@pytest.mark.parametrize("damaged", ["not JSON", "[]", "{}", '{"layers": [1]}'])
def test_ollamas_models_are_the_model_layers_of_its_manifests(damaged: str, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    blob = write_model(folder / "blobs" / "sha256-6a0746")
    (folder / "blobs" / "sha256-license").touch()
    layers = [
        {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:6a0746"},
        {"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:license"},
        {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:gone"},
    ]
    for place in ("registry.ollama.ai/library/llama3.1/8b", "hf.co/bartowski/Llama-GGUF/Q4_K_M"):
        manifest = folder / "manifests" / place
        manifest.parent.mkdir(parents=True)
        manifest.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))
    (folder / "manifests/registry.ollama.ai/library/llama3.1/broken").write_text(damaged)

    files = list(ollama_files(tmp_path, {"OLLAMA_MODELS": str(folder)}))

    assert [(file.name, file.path) for file in files] == [
        ("hf.co/bartowski/Llama-GGUF:Q4_K_M", blob),
        ("llama3.1:8b", blob),
    ]


def test_ollamas_usual_folders_are_the_persons_and_the_services(tmp_path: Path) -> None:
    for place in (tmp_path / "home/.ollama/models", tmp_path / "service"):
        manifest = place / "manifests/registry.ollama.ai/me" / place.name / "latest"
        manifest.parent.mkdir(parents=True)
        layer = {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:1"}
        manifest.write_text(json.dumps({"layers": [layer]}))
        write_model(place / "blobs" / "sha256-1")

    files = ollama_files(tmp_path / "home", {}, service=tmp_path / "service")

    assert [file.name for file in files] == ["me/models:latest", "me/service:latest"]


def test_a_folder_is_read_some_levels_deep_and_without_hidden_ones(tmp_path: Path) -> None:
    for place in ("a.gguf", "b/C.GGUF", "b/c/d.gguf", "b/c/d/too-deep.gguf", ".hidden/e.gguf", "b/notes.txt"):
        write_model(tmp_path / place)

    assert [file.name for file in gguf_files(tmp_path, "here")] == ["a.gguf", "b/C.GGUF", "b/c/d.gguf"]
    assert list(gguf_files(tmp_path / "nowhere", "there")) == []


@pytest.mark.parametrize(
    "digest",
    ["../../outside", "/outside.gguf", "sha256:../../outside", "sha256-x/../../../outside", "sha256:" + "1" * 300],
)
def test_a_manifest_names_no_file_outside_its_store(digest: str, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    write_model(tmp_path / "outside")
    (folder / "blobs" / "sha256-x").mkdir(parents=True)
    manifest = folder / "manifests/registry.ollama.ai/library/llama3.1/8b"
    manifest.parent.mkdir(parents=True)
    digest = digest.replace("/outside.gguf", str(tmp_path / "outside"))
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": digest}
    manifest.write_text(json.dumps({"layers": [layer]}))

    assert list(ollama_files(tmp_path, {"OLLAMA_MODELS": str(folder)})) == []


NOTES = (
    ".lmstudio-home-pointer",
    ".lmstudio/settings.json",
    ".cache/huggingface/hub/models--a--b/refs/main",
    ".ollama/models/manifests/h/n/m/t",
)


@pytest.mark.parametrize("content", [b"\xff", b"\0", b'{"downloadsFolder": "\\u0000"}', b"[" * 100_000, None])
@pytest.mark.parametrize("note", NOTES)
def test_a_store_whose_notes_make_no_sense_has_no_models(note: str, content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / note
    file.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        os.mkfifo(file)  # which nobody writes to: opening it would wait for ever
    else:
        file.write_bytes(content)

    assert list(list_files((), tmp_path, {})) == []
