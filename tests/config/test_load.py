"""What the command line says is what the job holds, or it is refused with key, value and remedy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from velosweep.config.command_words import prepare_words, read_words
from velosweep.config.composing import compose
from velosweep.config.load import JobLoader, load_settings
from velosweep.config.settings import Adaptive, Job, ModelPair
from velosweep.errors import ConfigError
from velosweep.models.synthetic.pair import DEFAULT_SHAPE


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LLAMA_CPP_PATH", raising=False)
    monkeypatch.delenv("VELOSWEEP_MODELS", raising=False)


def job(*overrides: str) -> Job:
    return JobLoader().load(compose(overrides), overrides=overrides)


def test_the_defaults_are_the_specification_s() -> None:
    made = job()

    assert (made.n_draft, made.n_predict, made.protocol.iterations) == (8, 100, 5)
    assert made.model_pair == ModelPair(name="synthetic", main_model="", synthetic=DEFAULT_SHAPE)
    assert [prompt.text for prompt in made.prompts.prompts] == ["Explain quantum computing in simple terms"]
    assert (made.target_speedup, made.skip_vanilla, made.output) == (1.5, False, None)
    assert (made.id, made.baseline_id, made.engine.kind) == ("", "", "auto")


def test_two_files_replace_the_synthetic_pair_and_name_it() -> None:
    made = job("model_pair.main_model=/m/big-q4.gguf", "model_pair.draft_model=~/small.gguf")

    assert made.model_pair == ModelPair(
        name="big-q4 + small", main_model="/m/big-q4.gguf", draft_model=str(Path.home() / "small.gguf")
    )


@pytest.mark.parametrize(
    ("pair", "draft"), [("llama8b_1b", "llama-3.2-1b"), ("llama70b_3b", "llama-3.2-3b"), ("codellama13b_1b", "1b")]
)
def test_the_specification_s_pairs_lie_where_the_environment_says(
    pair: str, draft: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VELOSWEEP_MODELS", "/data/gguf")

    made = job(f"model_pair={pair}").model_pair

    assert made.name == pair
    assert Path(made.main_model).parent == Path("/data/gguf")
    assert made.draft_model is not None
    assert draft in made.draft_model


def test_iterations_come_from_the_protocol_unless_given() -> None:
    assert job("protocol=rigorous").protocol.iterations == 10
    assert job("protocol=rigorous", "iterations=4").protocol.iterations == 4
    assert job("protocol.iterations=7").protocol.iterations == 7
    assert job("protocol=adaptive").protocol.adaptive == Adaptive()


def test_llama_cpp_is_where_the_key_or_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert job("llama_cpp.path=/opt/llama.cpp").engine.program == "/opt/llama.cpp"
    monkeypatch.setenv("LLAMA_CPP_PATH", "/srv/llama.cpp")
    assert job().engine.program == "/srv/llama.cpp"


def test_flash_attention_understands_yaml_s_words_for_true_and_false() -> None:
    assert job("engine.flash_attention=on").engine.flash_attention == "on"
    assert job("engine.flash_attention=false").engine.flash_attention == "off"


def test_kind_specific_settings_are_flat_and_sorted() -> None:
    made = job("speculation=ngram-mod", "+speculation.parameters={ngram_mod:{n_min:3,n_match:24}}")

    assert made.speculation.parameters == (("ngram_mod.n_match", 24), ("ngram_mod.n_min", 3))


def test_a_kind_can_be_asked_for_by_llama_cpp_s_name_whether_we_know_it_or_not() -> None:
    assert job("speculation=draft-simple").speculation == job("speculation=draft").speculation
    assert job("speculation.kinds=[draft-simple,ngram-mod,draft]").speculation.kinds == ("draft", "ngram-mod")
    assert job("speculation=ngram-of-next-month").speculation.kinds == ("ngram-of-next-month",)


def test_models_of_a_hub_are_named_as_llama_cpp_names_them() -> None:
    pair = job("model_pair.main_model=o/Big-3.2-1B:Q4_K_M", "model_pair.draft_model=hf://o/Small-GGUF:Q8_0").model_pair

    assert (pair.main_model, pair.draft_model) == ("o/Big-3.2-1B:Q4_K_M", "hf://o/Small-GGUF:Q8_0")
    assert pair.name == "Big-3.2-1B:Q4_K_M + Small-GGUF:Q8_0"


def test_patterns_of_tensors_need_no_quotes_of_hydra_s() -> None:
    engine = job(r"engine.override_tensor=blk\.(1|2)\.ffn_.*=CPU,b=CUDA0", "engine.draft_n_cpu_moe=3").engine

    assert (engine.override_tensor, engine.draft_n_cpu_moe) == (r"blk\.(1|2)\.ffn_.*=CPU,b=CUDA0", 3)
    assert job("engine.override_tensor=null").engine.override_tensor is None
    assert job("engine.override_tensor='a=CPU'").engine.override_tensor == "a=CPU"


def test_settings_that_change_no_result_are_apart() -> None:
    settings = load_settings(compose(["gpus=[0,GPU-1a]", "on_busy=fail", "display.quiet=true", "report.plots=true"]))

    assert settings.gpus == (0, "GPU-1a")
    assert (settings.on_busy, settings.verbosity, settings.report_plots) == ("fail", -1, True)
    assert load_settings(compose(["gpus=1"])).gpus == (1,)
    assert load_settings(compose(["gpus=[]"])).gpus == ()


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("n_draft=0", "n_draft is 0; it must be at least 1"),
        ("n_draft=999999", "n_draft is 999999, and engine.context is 4096"),
        ("n_draft=abc", "n_draft: 'abc' is not a whole number"),
        ("n_predict=1", "n_predict is 1"),
        ("iterations=0", "iterations is 0"),
        ("iterations=x", "iterations: 'x' is not a whole number"),
        ("protocol.launches=6", "protocol.launches"),
        ("n_drafts=4", "did you mean n_draft?"),
        ("engine.threds=2", "did you mean engine.threads?"),
        ("main_model=/x.gguf", "did you mean model_pair.main_model?"),
        ("temperature=1", "did you mean sampling.temperature?"),
        ("+n_drafts=4", "did you mean n_draft?"),
        ("+engine.colour=red", "engine.colour"),
        ("model_pair=lama8b_1b", "did you mean model_pair=llama8b_1b?"),
        ("model_pairs=x", "did you mean model_pair?"),
        ("+experiment=ndraft_gird", "did you mean +experiment=ndraft_grid?"),
        ("prompts=/a/own.jsonl", "a file of prompts is prompts.file=/a/own.jsonl. There are: default, mixed"),
        ("n_draft=4,8", "add -m"),
        ("prompt=a,b", 'prompt="a,b"'),
        ("prompt=f(x", "prompts.file"),
        ("~n_draft", "n_draft was taken out"),
        ("n_draft=null", "n_draft"),
        ("on_busy=never", "choose one of wait, fail"),
        ("engine.kind=gpu", "choose one of auto, embedded"),
        ("engine=attached", "engine.vanilla_url"),
        ("protocol.order=up", "abba, random, block"),
        ("sampling.temperature=nan", "sampling.temperature is nan; give a finite number"),
        ("sampling.repeat_penalty=0", "sampling.repeat_penalty is 0.0; it must be at least 0.01"),
        ("speculation.p_min=1.5", "it can be 1 at most"),
        ("speculation.kinds=[a_kind]", "'a_kind'"),
        ("model_pair.main_model=/x.gguf", "model_pair.draft_model has no value"),
        ("model_pair.synthetic.kept_layers=99", "kept_layers"),
        ("output=.", "is a folder"),
        ("prompts.limit=0", "prompts.limit is 0; it must be at least 1"),
        ("nonsense", "neither a command nor key=value"),
        ("n_predict=4096", "set engine.context=8192"),
        ("experiment=mine", "did you mean +experiment=NAME?"),
        ("n_draft=4;8", "several values are: -m n_draft=4,8"),
        ("prompt=a;b", 'prompt="a;b"'),
        ("big.gguf", "model_pair.main_model=big.gguf"),
        ("model_pair.main_model=${nowhere}", "${nowhere} refers to a key that does not exist; write the value itself"),
    ],
)
def test_what_can_not_be_run_is_refused_with_key_value_and_remedy(override: str, named: str) -> None:
    def load() -> None:
        job(override)
        load_settings(compose([override]))

    with pytest.raises(ConfigError) as caught:
        load()

    assert named in str(caught.value)


def test_values_with_spaces_between_them_are_refused_with_how_to_write_them() -> None:
    with pytest.raises(ConfigError, match="without spaces: n_draft=4,8,12"):
        read_words(["n_draft=4,", "8,", "12"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("n_draft=4", "n_draft=8"), "as 4 and as 8; give it once; to measure each: velosweep -m n_draft=4,8"),
        (("+n_draft=4", "iterations=3", "++n_draft=8"), "n_draft is given twice"),
        (("n_draft=4", "n_draft=4"), "n_draft=4 is given twice; give it once"),
        (("model_pair=synthetic", "model_pair=mine"), "velosweep -m model_pair=synthetic,mine"),
        (("prompt=a", "prompt=b=c"), """prompts.items=["a","b=c"]"""),
    ],
)
def test_a_key_given_twice_is_refused_with_both_values(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(words)

    assert said in str(caught.value)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        job(f"model_pair.main_model={tmp_path}/none.gguf", "n_draft=0", "protocol.launches=0")

    said = str(caught.value)
    assert said.startswith("4 things are wrong:\n  - n_draft is 0; it must be at least 1\n")
    assert f"\n  - No model at {tmp_path}/none.gguf; set model_pair.main_model" in said
    assert "\n  - model_pair.draft_model has no value; " in said
    assert "\n  - protocol.launches is 0" in said


def test_an_attached_servers_model_need_not_be_here(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        job("engine=attached", "engine.vanilla_url=http://x", f"model_pair.main_model={tmp_path}/a.gguf", "n_draft=0")

    assert "No model at" not in str(caught.value)


def test_a_running_server_is_given_no_setting_that_it_was_not_started_with() -> None:
    with pytest.raises(ConfigError, match=r"engine\.cache_type_k=q8_0, engine\.mmap=False can't be given to a server"):
        job("engine=attached", "engine.vanilla_url=http://x", "engine.cache_type_k=q8_0", "engine.mmap=false")


def test_letters_beyond_ascii_need_no_quotes(tmp_path: Path) -> None:
    found = job("prompt=Erkläre es kurz", f"model_pair.main_model={tmp_path}/ü b.gguf", "model_pair.draft_model=ö.gguf")

    assert found.prompts.prompts[0].text == "Erkläre es kurz"
    assert (found.model_pair.main_model, found.model_pair.draft_model) == (f"{tmp_path}/ü b.gguf", "ö.gguf")
    assert prepare_words(["prompt='schön'", "x=ä,ö", "n_draft=4", "~ä"]) == [
        "prompt='schön'",
        "x=ä,ö",
        "n_draft=4",
        "~ä",
    ]


def test_an_experiment_without_its_package_is_told_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf/experiment").mkdir(parents=True)
    (tmp_path / "conf/experiment/bare.yaml").write_text("n_draft: 4\n")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError, match="# @package _global_"):
        job("+experiment=bare")


def test_keys_that_only_look_alike_can_all_be_given() -> None:
    read_words(["engine=server", "engine.kind=server", "hydra/launcher=basic", "~prompts", "prompts=mixed"])


def test_the_lexers_class_names_are_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        compose(["prompt=a;b"])

    assert "Exception" not in str(caught.value)


def test_gpus_that_are_no_gpus_are_refused() -> None:
    for value in ("[0,0]", "[-1]", "[1.5]", "true"):
        with pytest.raises(ConfigError, match="gpus"):
            load_settings(compose([f"gpus={value}"]))


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing to measure"):
        job("skip_vanilla=true", "speculation=none")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_that_can_not_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)

    with pytest.raises(ConfigError, match="locked"):
        job(f"output={tmp_path}/locked/summary.json")


def test_output_is_absolute_and_may_be_new(tmp_path: Path) -> None:
    assert job("output=new/deeper/summary.json").output == str(tmp_path / "new/deeper/summary.json")


def test_jobs_share_the_parts_that_are_alike() -> None:
    loader = JobLoader()
    first = loader.load(compose(["n_draft=4"]), num=0, overrides=(), directory="0")
    second = loader.load(compose(["n_draft=8"]), num=1, overrides=(), directory="1")

    assert first.engine is second.engine
    assert first.prompts is second.prompts


def test_values_for_a_template_are_written_as_one_map() -> None:
    found = job("prompts.template_kwargs={enable_thinking:false,effort:low}", "prompts.chat=true")

    assert found.prompts.template_kwargs == (("effort", "low"), ("enable_thinking", False))
