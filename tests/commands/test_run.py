"""`velosweep run`: ordinary flags become the configuration that they stand for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import assume, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from tests.recorded import Recorded, recorded  # noqa: F401
from velosweep.commands.run import words
from velosweep.config.command_words import quoted
from velosweep.config.flags import in_flags
from velosweep.errors import ConfigError


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_quoted_text_is_read_back_as_it_was(text: str) -> None:
    assume(text != "???")  # OmegaConf's sign for no value, and refused as that
    read = OverridesParser.create().parse_override(f"prompt={quoted(text)}").value()

    assert OmegaConf.create({"prompt": read}).prompt == text


def test_the_specifications_flags_are_one_job_with_the_same_configuration(recorded: Recorded) -> None:  # noqa: F811
    models = ["-m", "a.gguf", "-d", "b.gguf", "-l", "./llama.cpp"]
    numbers = ["--n-draft", "10", "-n", "200", "-i", "7", "-o", "out.json", "--skip-vanilla"]

    assert recorded.main(["run", *models, *numbers, "-p", "Sort a list, please: ${x}"]) == 0

    (call,) = recorded.calls
    (job,) = call["jobs"]
    assert (job.model_pair.main_model, job.model_pair.draft_model) == ("a.gguf", "b.gguf")
    assert (job.n_draft, job.n_predict, job.protocol.iterations, job.skip_vanilla) == (10, 200, 7, True)
    assert (job.output, job.engine.program) == (str(Path("out.json").absolute()), "llama.cpp")
    assert [prompt.text for prompt in job.prompts.prompts] == ["Sort a list, please: ${x}"]
    assert call["single"]
    assert list(call["command"][:3]) == ["velosweep", "run", "-m"]


def test_several_values_are_every_combination_without_m(recorded: Recorded) -> None:  # noqa: F811
    assert (
        recorded.main(["run", "--main", "a.gguf", "--draft", "b.gguf", "--draft", "c,", "d.gguf", "--n-draft", "2,4-5"])
        == 0
    )

    assert not recorded.calls[0]["single"]
    assert [(job.model_pair.draft_model, job.n_draft) for job in recorded.jobs] == [
        (draft, n_draft) for draft in ("b.gguf", "c", "d.gguf") for n_draft in (2, 4, 5)
    ]


def test_a_flag_that_is_given_again_adds_its_values(recorded: Recorded) -> None:  # noqa: F811
    assert recorded.main(["run", "--n-draft", "2", "--n-draft", "4", "-n", "20", "-n", "30"]) == 0

    assert [(job.n_draft, job.n_predict) for job in recorded.jobs] == [(2, 20), (2, 30), (4, 20), (4, 30)]


def test_keys_inside_a_map_are_keys_wherever_they_stand(recorded: Recorded) -> None:  # noqa: F811
    own = ["+speculation.parameters.ngram_simple.size_n=3", "+prompts.template_kwargs.enable_thinking=false"]

    assert recorded.main(["run", "--n-draft", "4", "--kind", "ngram-simple", *own, "prompts.chat=true"]) == 0

    (job,) = recorded.jobs
    assert job.prompts.template_kwargs == (("enable_thinking", False),)
    assert dict(job.speculation.parameters) == {"ngram_simple.size_n": 3}


def test_a_prompt_may_begin_as_a_key_does(recorded: Recorded) -> None:  # noqa: F811
    assert recorded.main(["run", "-p", "depth=4 is deep", "--prompt", "n_draft=2,3", "depth=8"]) == 0

    assert [prompt.text for prompt in recorded.jobs[0].prompts.prompts] == ["depth=4 is deep", "n_draft=2,3"]
    assert [job.depth for job in recorded.jobs] == [8]


def test_a_draft_flag_goes_with_a_main_model_that_a_key_names(recorded: Recorded) -> None:  # noqa: F811
    assert recorded.main(["run", "model_pair.main_model=a.gguf", "--draft", "b.gguf"]) == 0

    pair = recorded.jobs[0].model_pair
    assert (pair.main_model, pair.draft_model) == ("a.gguf", "b.gguf")


def test_a_pattern_stands_for_the_files_it_matches(recorded: Recorded, tmp_path: Path) -> None:  # noqa: F811
    for name in ("x, y.gguf", "ü.gguf"):
        (tmp_path / name).touch()

    assert recorded.main(["run", "--main", "a.gguf", "-md", "*.gguf"]) == 0

    assert [job.model_pair.draft_model for job in recorded.jobs] == ["x, y.gguf", "ü.gguf"]


def test_models_of_a_hub_are_taken_as_they_are_written(recorded: Recorded) -> None:  # noqa: F811
    main, drafts = "hf://o/r/main.gguf", ["hf://o/r@v1/a.gguf", "o/r:Q4_K_M"]

    assert recorded.main(["run", "--main", main, "--draft", ",".join(drafts)]) == 0

    assert [(job.model_pair.main_model, job.model_pair.draft_model) for job in recorded.jobs] == [
        (main, draft) for draft in drafts
    ]


def test_keys_and_groups_are_taken_beside_flags(recorded: Recorded) -> None:  # noqa: F811
    assert recorded.main(["run", "--n-draft", "4", "-m", "engine.cache_type_k=f16,q8_0", "protocol=quick"]) == 0

    assert [job.engine.cache_type_k for job in recorded.jobs] == ["f16", "q8_0"]
    assert {job.protocol.name for job in recorded.jobs} == {"quick"}


def test_llama_servers_spellings_are_taken(recorded: Recorded) -> None:  # noqa: F811
    words = (
        "-hf o/r:Q4_K_M -md b.gguf -c 2048 -t=3 -ngl 99 -ngld 0 -fa on -ctk q8_0 -np 2 --draft-max 4,8 --temp 0.5 -s 7"
    )

    assert recorded.main(["run", *words.split()]) == 0

    job, engine, sampling = recorded.jobs[1], recorded.jobs[1].engine, recorded.jobs[1].sampling
    assert (job.model_pair.main_model, job.model_pair.draft_model, job.n_draft) == ("o/r:Q4_K_M", "b.gguf", 8)
    assert (engine.context, engine.threads, engine.gpu_layers, engine.draft_gpu_layers) == (2048, 3, 99, 0)
    assert (engine.flash_attention, engine.cache_type_k, job.concurrency) == ("on", "q8_0", 2)
    assert (sampling.temperature, sampling.seed) == (0.5, 7)


def test_streams_and_depths_have_flags(recorded: Recorded) -> None:  # noqa: F811
    assert recorded.main(["run", "--streams", "1,4", "--depth", "2000"]) == 0

    assert [(job.concurrency, job.depth) for job in recorded.jobs] == [(1, 2000), (4, 2000)]


def test_tune_is_a_search_and_prompts_come_from_a_file_or_a_set(recorded: Recorded, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "my questions.txt").write_text("Why?\nWhy not?\n")

    assert (
        recorded.main(["run", "--n-draft", "1-3", "--tune", "--budget", "10min", "--prompts", "my questions.txt"]) == 0
    )
    assert recorded.main(["run", "--prompts", "mixed"]) == 0

    first, second = recorded.calls
    assert first["settings"].tuner.budget_s == 600
    assert [prompt.text for prompt in first["jobs"][0].prompts.prompts] == ["Why?", "Why not?"]
    assert (second["settings"].tuner, second["jobs"][0].prompts.name) == (None, "mixed")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--draft", "b.gguf"], "--draft is given without --main"),
        (["--budget", "1min"], "add --tune"),
        (["--main", "a.gguf", "--draft", "nothing-*.gguf"], "No file matches nothing-*.gguf"),
        (["--prompt", "a", "--prompts", "b"], "one would be ignored"),
        (["--main", "a.gguf", "--jinja"], "if it is llama-server's, write it as 'engine.args=[--jinja]'"),
        (["--main", "a.gguf", "--ndraft", "4"], "did you mean --n-draft?"),
        (["main=a.gguf", "draft=b c.gguf"], "write --main a.gguf --draft 'b c.gguf'"),
        (["a.gguf", "b.gguf"], "velosweep run --main a.gguf --draft b.gguf"),
    ],
)
def test_contradictions_are_refused(flags: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        words(flags)

    assert said in str(caught.value)


def test_prompts_go_through_the_chat_template_where_there_is_one_unless_told_otherwise(recorded: Recorded) -> None:  # noqa: F811
    models = ["--main", "a.gguf", "--draft", "b.gguf"]

    assert recorded.main(["run", *models]) == 0
    assert recorded.main(["run", *models, "prompts.chat=false"]) == 0
    assert recorded.main(["run", *models, "prompts.chat=true"]) == 0
    assert recorded.main(["model_pair.main_model=a.gguf", "model_pair.draft_model=b.gguf"]) == 0

    assert [job.prompts.chat for job in recorded.jobs] == [None, False, True, False]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--n-draft 0", "velosweep: --n-draft is 0\n"),
        ("--n-draft x", "one value is --n-draft 8; several are --n-draft A,B or --n-draft START-STOP\n"),
        ("--kind nosuch", "There is no --kind nosuch\n"),
        ("--prompts nosuch", "There is no --prompts nosuch\n"),
        ("--prompts no.txt", "\n  check --prompts\n"),
        ("--tune --budget 3x", "velosweep: --budget is '3x'\n"),
        ("--kind none --skip-vanilla", "--skip-vanilla with --kind none leaves nothing to measure\n"),
        ("n_draft=0", "velosweep: n_draft is 0\n"),
        ("--n-draft 4 n_draft=8", "velosweep: n_draft is given twice, as 4 and as 8\n  give it once\n"),
        ("--n-draft 1-100000000", "1-100000000 is more than 10000 numbers\n"),
        ("n_draft=range(1,100000000)", "names more than 10000 values\n"),
        ("--kind ngram-simple engine.contxt=8", "no key 'engine.contxt'\n  did you mean engine.context?\n"),
        ("--draft-max 0 -c 8192", "velosweep: --n-draft is 0\n"),
        ("-c 0", "engine.context is 0\n"),
        ("--retries 2", "velosweep run can't read '--retries'\n  did you mean protocol.retries=VALUE? "),
        ("--n-draft 8-4", "velosweep: 8-4 names no number\n  write the smaller one first: 4-8\n"),
        ("--kind ,", "velosweep: --kind , names no value\n"),
        ("--main a.gguf --draft 16", "for the length: --n-draft 16\n"),
    ],
)
def test_errors_are_said_in_the_words_that_were_typed(
    words: str,
    said: str,
    recorded: Recorded,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert recorded.main(["run", *words.split()]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "in_words_of_run"),
    [
        ("No model at x; set model_pair.draft_model to a file", "No model at x; set --draft to a file"),
        (
            "llama_cpp.path=/x does not exist, set llama_cpp.path",
            "--llama-server /x does not exist, set --llama-server",
        ),
        ("2 things:\n  - iterations is 0\n  - prompts.chat=1", "2 things:\n  - --iterations is 0\n  - prompts.chat=1"),
        ("leave prompt out to use prompts=, lower n_predict", "leave --prompt out to use --prompts, lower --n-predict"),
        ("n_draft 4 failed: the prompt is long", "n_draft 4 failed: the prompt is long"),
    ],
)
def test_keys_in_a_sentence_become_flags_where_they_are_keys(said: str, in_words_of_run: str) -> None:
    assert in_flags(said, "run", ["run", "--main", "x"]) == in_words_of_run
