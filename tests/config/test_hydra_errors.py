"""Overrides that Hydra's grammar can't read."""

from __future__ import annotations

import pytest

from velosweep.config.composing import compose
from velosweep.config.load import JobLoader
from velosweep.errors import ConfigError

THEIRS = (
    "mismatched input",
    "extraneous input",
    "no viable",
    "Error parsing",
    "BRACKET_OPEN",
    "<EOF>",
    "defaults list",
)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("n_draft=[4,8", "[ is never closed; several values are: -m n_draft=4,8"),
        ("n_draft=range(1,", "( is never closed; one value"),
        ("n_draft=4)", ") has no ( before it"),
        ("n_draft=[4)", ") has no ( before it"),
        ("n_draft=4,", "a value is missing beside a comma"),
        ("n_draft=4,,8", "a value is missing beside a comma"),
        ("n_draft=rang(1,4)", "Unknown function 'rang'; one value is n_draft=8; several are -m n_draft=A,B or"),
        ("n_draft=range(a,b)", "mismatch type argument start: str is incompatible with Union[int, float]; one value"),
        ("n_draft=int(abc)", "invalid literal for int() with base 10: 'abc'; one value"),
        ("n_draft=4 # x", "it holds a character that must be in quotes"),
        ("engine.args=[--foo", "[ is never closed; write a list: 'engine.args=[--foo]'"),
        ("engine.args=--a,", "a value is missing beside a comma; write a list: 'engine.args=[--a]'"),
        ("model_pair=[a,b", "[ is never closed; several values are: -m model_pair=a,b"),
        ("prompt=Hello: (yes", "it holds a character that must be in quotes; text with"),
        ("prompt=is(it)", "it holds a character that must be in quotes; text with"),
        ("prompt=a=b", """'prompt="a=b"'"""),
        ("n draft=4", "There is no key 'n draft'; did you mean n_draft?"),
        (".n_draft=4", "There is no key '.n_draft'; did you mean n_draft?"),
        ("n_draft=${x", "{ is never closed"),
        ("=4", "'=4' has no key"),
        ("~", "'~' has no key"),
    ],
)
def test_it_is_refused_in_the_words_of_who_wrote_it(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose([override])

    assert said in str(caught.value)
    assert caught.value.remedy
    assert not any(word in str(caught.value) for word in THEIRS)


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("gpus=0,1", "gpus=[0,1]"),
        ("engine.args=--foo", "engine.args=[--foo]"),
        ("engine.args=--foo,--bar", "engine.args=[--foo,--bar]"),
        ("engine.tensor_split=null", "engine.tensor_split=[]"),
        ("prompt=a=b", 'prompt="a=b"'),
        ("prompt=a,b", 'prompt="a,b"'),
        ("+engine=server", "engine=server"),
        ("speculation.parameters.x=1", "+speculation.parameters.x=VALUE"),
        ("+experiment=ndraft", "+experiment=ndraft_grid"),
        ("n_draft==4", "n_draft=4"),
    ],
)
def test_what_is_advised_works_when_pasted(override: str, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose([override])

    assert meant in str(caught.value.remedy)
    assert JobLoader().load(compose([meant]))


@pytest.mark.parametrize(
    "words", [["gpus=0,1"], ["dry_run=true,false"], ["gpus=0", "gpus=1"], ["output=a", "output=b"]]
)
def test_no_sweep_is_advised_over_what_holds_for_all_its_jobs(words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(words)

    assert "-m" not in str(caught.value.remedy)
