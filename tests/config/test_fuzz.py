"""Whatever is typed, only our own refusals come back, each with one line of message."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from velosweep.config.composing import compose
from velosweep.config.load import JobLoader, load_settings
from velosweep.config.schema import GROUPS, KEYS, nearest
from velosweep.config.settings import Job
from velosweep.errors import VelosweepError

ODD = [
    *("null", "true", "[]", "{}", "[1,2]", "{a:b}", "1,2", "range(1,3)", "''", "'a,b'", '"(x)"', "???", "1e400", "nan"),
    *("-0", "-1", "0x10", "1_000", "é", "~/x", "@", "a=b", "\\\\", "#", ")", "(", ",", "${n_draft}", "${oc.env:HOME}"),
    *("${x", "${oc.decode:a}", "${hydra:job.num}", "${hydra.job.num}", "${.x}", "${now:%Y}", "[a,[b]]", "{a:{b:c}}"),
    *("x{a,b}", "!!python/object:os.system", "99999999999999999999", "\x1b[31m"),
]
VALUES = st.one_of(st.text(max_size=12), st.integers().map(str), st.floats().map(str), st.sampled_from(ODD))
NAMES = st.one_of(st.sampled_from((*KEYS, *GROUPS)), st.text(max_size=12))
OVERRIDES = st.one_of(
    st.builds("{}{}={}".format, st.sampled_from(["", "+", "++", "~"]), NAMES, VALUES), st.text(max_size=20)
)

NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)  # composing takes a tenth of a second


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("fuzz"))


@settings(
    max_examples=40, deadline=None, phases=NO_SHRINKING, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(OVERRIDES, max_size=3))
def test_any_overrides_make_a_job_or_our_own_refusal(overrides: list[str]) -> None:
    check(overrides)


@pytest.mark.long
@settings(
    max_examples=20_000, deadline=None, phases=NO_SHRINKING, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(OVERRIDES, max_size=3))
def test_any_overrides_make_a_job_or_our_own_refusal_at_length(overrides: list[str]) -> None:
    check(overrides)


def check(overrides: list[str]) -> None:
    refusal = None
    try:
        cfg = compose(overrides)
        made = JobLoader(base=Path()).load(cfg, overrides=overrides)
        load_settings(cfg)
    except VelosweepError as error:
        refusal = error
    if refusal is not None:
        assert refusal.message.strip()
        assert "Traceback" not in str(refusal)
    else:
        assert isinstance(made, Job)
        assert made.n_draft >= 1
        assert made.n_predict >= 2
        assert made.protocol.iterations >= 1


@given(st.text(max_size=30))
def test_the_nearest_key_is_a_known_one(word: str) -> None:
    assert nearest(word, KEYS) in {*KEYS, None}


@given(st.sampled_from(tuple(KEYS)), st.data())
def test_a_key_with_one_letter_dropped_is_recognised(key: str, data: st.DataObject) -> None:
    leaf = key.rsplit(".", 1)[-1]
    at = data.draw(st.integers(0, len(leaf) - 1))
    wrong = key[: len(key) - len(leaf)] + leaf[:at] + leaf[at + 1 :]

    guess = nearest(wrong, KEYS)

    assert guess is not None or len(leaf) < 6
