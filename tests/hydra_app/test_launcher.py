"""Jobs are composed as Hydra would have composed them, and Hydra gets back what it expects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.recorded import Recorded, recorded  # noqa: F401
from tests.results.made import record
from velosweep.errors import MismatchError, ModelFileError
from velosweep.results.sweep_record import write_record


def folder(recorded: Recorded) -> Path:  # noqa: F811
    root: Path = recorded.calls[0]["root"]
    return root


def test_all_jobs_of_a_sweep_come_in_one_call_later_keys_fastest(recorded: Recorded) -> None:  # noqa: F811
    assert recorded.main(["-m", "n_draft=4,8", "protocol=quick,rigorous", "hydra.sweep.dir=out"]) == 0

    assert len(recorded.calls) == 1
    assert [(job.num, job.n_draft, job.protocol.iterations, job.directory) for job in recorded.jobs] == [
        (0, 4, 3, "0"),
        (1, 4, 10, "1"),
        (2, 8, 3, "2"),
        (3, 8, 10, "3"),
    ]
    assert recorded.calls[0]["single"] is False
    assert recorded.calls[0]["command"][:2] == ["velosweep", "-m"]
    assert folder(recorded) == Path.cwd() / "out"


def test_one_job_is_measured_in_its_own_directory(recorded: Recorded) -> None:  # noqa: F811
    assert recorded.main(["n_draft=3", "hydra.run.dir=out"]) == 0

    assert recorded.calls[0]["single"] is True
    assert [(job.n_draft, job.directory, job.overrides) for job in recorded.jobs] == [(3, "", ("n_draft=3",))]
    assert (Path("out") / ".hydra" / "config.yaml").is_file()


@pytest.mark.parametrize("flag", [[], ["-m"]])
def test_an_experiment_file_is_a_whole_sweep_with_or_without_the_flag(
    recorded: Recorded,  # noqa: F811
    flag: list[str],
) -> None:
    assert recorded.main([*flag, "+experiment=ndraft_grid", "n_predict=20"]) == 0

    assert [job.n_draft for job in recorded.jobs] == [2, 4, 8, 12]
    assert {job.n_predict for job in recorded.jobs} == {20}
    assert {job.protocol.name for job in recorded.jobs} == {"quick"}


GRIDS: list[list[str]] = [
    ["n_draft=4,8", "engine.context=2048"],
    ["n_draft=range(1,3)", "protocol=quick,adaptive", "prompt='a, b'"],
    ["speculation=draft,none", "+speculation.parameters.x=1,2", "gpus=[0]"],
    ["model_pair=llama8b_1b,codellama13b_1b", "iterations=2", "engine.tensor_split=[1,2]"],
    ["+experiment=ndraft_grid", "hydra.job.name=mine", "++n_predict=5"],
    ["prompts.items=[{id:a,text:'x # y',category:null}],[hello]", "output=o.json"],
    ["n_draft=4,8", "iterations=${n_draft}", "output=${model_pair.name}-${hydra:job.num}.json"],
]


@pytest.mark.parametrize("overrides", GRIDS, ids=lambda overrides: overrides[0])
def test_the_hydra_folders_hold_what_the_basic_launcher_writes(
    recorded: Recorded,  # noqa: F811
    overrides: list[str],
) -> None:
    assert recorded.main(["-m", *overrides, "hydra.sweep.dir=ours"]) == 0
    ours = list(recorded.jobs)
    recorded.calls.clear()
    assert recorded.main(["-m", *overrides, "hydra.sweep.dir=theirs", "hydra/launcher=basic"]) == 0

    for mine, basic in zip(ours, recorded.jobs, strict=True):
        assert replace(mine, num=0, directory="") == basic
        for name in ("config.yaml", "overrides.yaml"):
            path = Path(str(mine.num)) / ".hydra" / name
            assert (Path("ours") / path).read_text() == (Path("theirs") / path).read_text()
        assert hydra_part("ours", mine.num) == hydra_part("theirs", mine.num)


def test_a_value_may_be_made_of_the_job_s_number(recorded: Recorded) -> None:  # noqa: F811
    for reference in ("${hydra.job.num}", "${hydra:job.num}"):
        recorded.calls.clear()
        assert recorded.main(["-m", "n_draft=4,8", f"output=out-{reference}.json"]) == 0

        assert [Path(job.output or "").name for job in recorded.jobs] == ["out-0.json", "out-1.json"]


def test_a_single_job_s_value_may_refer_to_another(recorded: Recorded) -> None:  # noqa: F811
    assert recorded.main(["n_draft=4", "iterations=${n_draft}"]) == 0

    assert [(job.protocol.iterations, job.overrides) for job in recorded.jobs] == [
        (4, ("n_draft=4", "iterations=${n_draft}"))
    ]


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def hydra_part(root: str, num: int) -> Any:
    """hydra.yaml without what differs by the launcher that was chosen."""
    found = read(Path(root) / str(num) / ".hydra" / "hydra.yaml")["hydra"]
    assert found["runtime"].pop("output_dir") == str(Path.cwd() / root / str(num))
    assert str(found["sweep"].pop("dir")) == root
    del found["launcher"], found["overrides"]["hydra"], found["runtime"]["choices"]["hydra/launcher"]
    return found


def test_multirun_yaml_is_hydra_s(recorded: Recorded) -> None:  # noqa: F811
    assert recorded.main(["-m", "n_draft=4,8", "hydra.sweep.dir=out"]) == 0

    assert read(Path("out/multirun.yaml"))["hydra"]["overrides"]["task"] == ["n_draft=4,8"]


def test_a_failed_job_gives_status_1_and_the_others_stand(recorded: Recorded) -> None:  # noqa: F811
    recorded.failing = {1}

    assert recorded.main(["-m", "n_draft=4,8,12"]) == 1


def test_batches_have_one_outcome_and_an_interruption_ends_them(recorded: Recorded) -> None:  # noqa: F811
    batches = ["-m", "n_draft=2,4,8", "hydra.sweeper.max_batch_size=1"]

    assert recorded.main(batches) == 0
    recorded.failing = {0}
    assert recorded.main([*batches, "hydra.sweep.dir=failing"]) == 1
    recorded.interrupted, recorded.calls[:] = True, []
    assert recorded.main([*batches, "hydra.sweep.dir=interrupted"]) == 130

    assert len(recorded.calls) == 1


def test_the_basic_launcher_measures_each_job_by_itself_and_reports_failures(
    recorded: Recorded,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert recorded.main(["-m", "n_draft=4,8", "hydra/launcher=basic"]) == 0
    assert [(call["single"], len(call["jobs"])) for call in recorded.calls] == [(True, 1), (True, 1)]

    recorded.failing = {0}

    assert recorded.main(["-m", "n_draft=4,8", "hydra/launcher=basic"]) == 3


def test_the_basic_sweeper_works_with_our_launcher(recorded: Recorded) -> None:  # noqa: F811
    assert recorded.main(["-m", "n_draft=4,8", "hydra/sweeper=basic"]) == 0
    recorded.failing = {0}
    assert recorded.main(["-m", "n_draft=4,8", "hydra/sweeper=basic"]) == 1


def test_a_refused_sweep_is_one_message_and_status_2(
    recorded: Recorded,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    recorded.raises = ModelFileError("No model at /m/x.gguf", remedy="set model_pair.main_model")

    for arguments in (["-m", "n_draft=4,8"], ["n_draft=4"], ["-m", "n_draft=4,8", "hydra/sweeper=basic"]):
        assert recorded.main(arguments) == 2
        assert capsys.readouterr().err == "velosweep: No model at /m/x.gguf\n  set model_pair.main_model\n"


def test_a_refused_sweep_leaves_no_folder_of_its_own_and_others_as_they_were(recorded: Recorded) -> None:  # noqa: F811
    recorded.raises = ModelFileError("No model at /m/x.gguf")
    assert recorded.main(["-m", "n_draft=4,8"]) == 2
    assert recorded.main(["-m", "n_draft=4,4", "hydra.sweep.dir=deep/out"]) == 2
    assert list(Path().iterdir()) == []

    Path("out").mkdir()
    Path("out/note.txt").write_text("mine")
    assert recorded.main(["-m", "n_draft=4,8", "hydra.sweep.dir=out"]) == 2
    assert Path("out/note.txt").read_text() == "mine"


def test_what_is_refused_leaves_the_configuration_of_an_earlier_sweep(recorded: Recorded) -> None:  # noqa: F811
    assert recorded.main(["n_draft=8", "hydra.run.dir=one"]) == 0
    assert recorded.main(["-m", "n_draft=4,8", "hydra.sweep.dir=many"]) == 0
    for folder in ("one", "many"):
        Path(folder, "sweep.json").write_text("{}")
    before = {path: path.read_bytes() for path in Path().rglob("*.yaml")}

    assert recorded.main(["n_draft=2", "hydra.run.dir=one", "dry_run=true"]) == 0
    recorded.raises = MismatchError("another job is there")
    assert recorded.main(["n_draft=2", "hydra.run.dir=one"]) == 2
    assert recorded.main(["-m", "n_draft=2,3", "hydra.sweep.dir=many"]) == 2

    assert {path: path.read_bytes() for path in Path().rglob("*.yaml")} == before


def test_a_job_outside_of_its_sweep_is_refused_before_anything_is_written(recorded: Recorded) -> None:  # noqa: F811
    assert recorded.main(["-m", "n_draft=2,4", "hydra.sweep.dir=s/deep", "hydra.sweep.subdir=../${n_draft}"]) == 2

    assert recorded.calls == []
    assert not Path("s").exists()


def test_paths_are_relative_to_where_they_were_typed_whatever_hydra_s_folder(recorded: Recorded) -> None:  # noqa: F811
    here = Path.cwd()

    assert recorded.main(["hydra.job.chdir=true", "output=out.json"]) == 0

    assert recorded.jobs[0].output == str(here / "out.json")


@pytest.mark.parametrize("arguments", [["-m", "n_draft=4,8"], ["n_draft=4"]])
def test_a_dry_run_leaves_no_folders(recorded: Recorded, arguments: list[str]) -> None:  # noqa: F811
    assert recorded.main([*arguments, "dry_run=true"]) == 0

    assert recorded.calls[0]["settings"].dry_run is True
    assert list(Path().iterdir()) == []


def test_a_refused_job_leaves_no_folder(recorded: Recorded) -> None:  # noqa: F811
    recorded.raises = ModelFileError("No model at /m/x.gguf")
    assert recorded.main(["n_draft=4"]) == 2
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    "words", [["hydra.run.dir=old/0"], ["-m", "hydra.sweep.dir=old/0"], ["hydra.run.dir=old/0/in"]]
)
def test_the_folder_of_a_sweeps_job_is_taken_for_no_other_sweep(
    recorded: Recorded,  # noqa: F811
    words: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert recorded.main(["-m", "n_draft=2,4", "hydra.sweep.dir=old"]) == 0
    write_record(Path("old/sweep.json"), record(2))
    before = {path: path.is_file() and path.read_bytes() for path in Path("old").rglob("*")}

    status = recorded.main([*words, "n_draft=8"])

    assert status == (0 if "old/0/in" in words[-1] else 2)
    if status:
        assert "is the folder of a job of the sweep" in capsys.readouterr().err
        assert {path: path.is_file() and path.read_bytes() for path in Path("old").rglob("*")} == before


def test_a_refused_single_job_leaves_nothing_in_the_folder_of_a_sweep(recorded: Recorded) -> None:  # noqa: F811
    Path("old").mkdir()
    Path("old/sweep.json").write_text("{}")
    recorded.raises = ModelFileError("No model at /m/x.gguf")

    assert recorded.main(["n_draft=4", "hydra.run.dir=old"]) == 2
    assert recorded.main(["-m", "n_draft=4,8", "hydra.sweep.dir=old"]) == 2
    assert [path.name for path in Path("old").iterdir()] == ["sweep.json"]


@pytest.mark.parametrize(("last", "refusal"), [("8", None), ("8", "No model at /m/x.gguf"), ("0", None)])
def test_a_refused_sweep_leaves_no_folders_of_jobs_that_the_earlier_one_did_not_have(
    recorded: Recorded,  # noqa: F811
    last: str,
    refusal: str | None,
) -> None:
    where = ["-m", "hydra.sweep.dir=old", "hydra.sweep.subdir=in/${hydra.job.num}"]
    assert recorded.main([*where, "n_draft=2,4"]) == 0
    Path("old/sweep.json").write_text("{}")
    before = {path: path.is_file() and path.read_bytes() for path in Path("old").rglob("*")}
    recorded.raises = ModelFileError(refusal) if refusal else None

    refused = recorded.main([*where, f"n_draft=2,4,6,{last}"]) == 2

    now = {path: path.is_file() and path.read_bytes() for path in Path("old").rglob("*")}
    assert refused == (refusal is not None or last == "0")
    assert (now == before) == refused


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["n_draft=range(5,5)"], "names no value"),
        (["n_draft=interval(1,5)"], "no finite list of values"),
        (["n_draft=4,4"], "are alike"),
        (["n_draft=4,x"], "'x' is not a whole number"),
        (["n_draft=4,0"], "n_draft is 0"),
        (["on_busy=wait,fail", "n_draft=1,2"], "different run settings"),
        (["n_draft=1,2", "hydra.sweep.subdir=same"], "would both write"),
        (["n_drafts=1,2"], "did you mean n_draft?"),
        (["model_pair=synthetic,foo"], "There is no model_pair=foo"),
        (["hydra/launcher=lanes"], "gpu_lanes"),
    ],
)
def test_a_grid_that_can_not_be_run_is_refused_before_anything_runs(
    recorded: Recorded,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    named: str,
) -> None:
    assert recorded.main(["-m", *arguments]) == 2

    assert named in capsys.readouterr().err
    assert recorded.calls == []


def test_a_subdirectory_may_be_named_by_the_overrides(recorded: Recorded) -> None:  # noqa: F811
    assert (
        recorded.main(["-m", "n_draft=4,8", "hydra.sweep.subdir=${hydra.job.override_dirname}", "hydra.sweep.dir=o"])
        == 0
    )

    assert [job.directory for job in recorded.jobs] == ["n_draft=4", "n_draft=8"]
    assert Path("o/n_draft=8/.hydra/config.yaml").is_file()


CALLBACK = """
from hydra.experimental.callback import Callback
from pathlib import Path

class Log(Callback):
    def note(self, text):
        with Path("events.txt").open("a") as file:
            file.write(text + "\\n")
    def on_multirun_start(self, config, **kwargs):
        self.note("start")
    def on_multirun_end(self, config, **kwargs):
        self.note("end")
    def on_job_start(self, config, **kwargs):
        self.note(f"job {config.hydra.job.num} n_draft {config.n_draft}")
    def on_job_end(self, config, job_return, **kwargs):
        self.note(f"done {job_return.status.name} {job_return.cfg.n_draft} {job_return.hydra_cfg.hydra.job.num}")
"""


def test_a_person_s_callbacks_are_called(
    recorded: Recorded,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("mine").mkdir()
    Path("mine/my_callbacks.py").write_text(CALLBACK)
    monkeypatch.syspath_prepend(str(Path("mine").absolute()))
    recorded.failing = {1}

    assert recorded.main(["-m", "n_draft=4,8", "+hydra.callbacks.log._target_=my_callbacks.Log"]) == 1

    assert Path("events.txt").read_text().splitlines() == [
        "start",
        "job 0 n_draft 4",
        "job 1 n_draft 8",
        "done COMPLETED 4 0",
        "done FAILED 8 1",
        "end",
    ]


def test_a_conf_folder_of_one_s_own_adds_and_overrides_group_files(recorded: Recorded) -> None:  # noqa: F811
    for name, text in {
        "model_pair/mine.yaml": "name: mine\nmain_model: /m/a.gguf\ndraft_model: /m/b.gguf\n",
        "protocol/quick.yaml": "name: quick\niterations: 2\n",
    }.items():
        path = Path("conf") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    assert recorded.main(["-m", "n_draft=4", "model_pair=mine,llama8b_1b", "protocol=quick"]) == 0

    assert [(job.model_pair.name, job.protocol.iterations) for job in recorded.jobs] == [("mine", 2), ("llama8b_1b", 2)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["hydra/launcher=dask", "hydra.launcher.workers=0"], "hydra.launcher.workers is 0\n  it must be at least 1"),
        (["hydra/launcher=slurm", "hydra.launcher.tasks=-2"], "hydra.launcher.tasks is -2\n  it must be at least 1"),
        (["hydra/launcher=slurm", "hydra.launcher.mem_gb=-1"], "hydra.launcher.mem_gb is -1.0"),
        (["hydra/launcher=slurm", "hydra.launcher.cluster=pbs"], "choose one of slurm, local, debug"),
        (["hydra.sweeper.max_batch_size=-1"], "hydra.sweeper.max_batch_size is -1\n  it must be at least 1"),
    ],
)
def test_a_launcher_s_number_that_could_measure_nothing_is_refused(
    recorded: Recorded,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    assert recorded.main(["-m", "n_draft=4,8", "hydra.sweep.dir=out", "dry_run=true", *words]) == 2

    assert said in capsys.readouterr().err
    assert not Path("out").exists()
