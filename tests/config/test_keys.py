"""What a key declares is what is checked: limits, choices, types and null."""

from __future__ import annotations

import pytest

from velosweep.config.keys import freeze, keys_of
from velosweep.config.schema import KEYS
from velosweep.config.settings import Sampling
from velosweep.errors import ConfigError


@pytest.mark.parametrize("name", [name for name, key in KEYS.items() if key.least is not None])
def test_a_number_may_be_the_least_and_not_below(name: str) -> None:
    key, least = KEYS[name], KEYS[name].least
    assert least is not None
    below = least - 1 if isinstance(least, int) else least - 1e-9

    assert freeze(key, name, least) == least
    with pytest.raises(ConfigError, match=f"^{name} is .*; it must be at least {least}$"):
        freeze(key, name, below)


@pytest.mark.parametrize("name", [name for name, key in KEYS.items() if key.most is not None])
def test_a_number_may_be_the_most_and_not_above(name: str) -> None:
    key, most = KEYS[name], KEYS[name].most
    assert most is not None

    assert freeze(key, name, most) == most
    with pytest.raises(ConfigError, match=f"^{name} is .*; it can be {most:g} at most$"):
        freeze(key, name, most + 1e-9)


@pytest.mark.parametrize("name", [name for name, key in KEYS.items() if key.choices])
def test_only_the_choices_are_taken(name: str) -> None:
    key = KEYS[name]
    is_list = key.type_word == "list"

    for choice in key.choices:
        assert freeze(key, name, [choice, choice] if is_list else choice) == ((choice,) if is_list else choice)
    with pytest.raises(ConfigError, match=", ".join(key.choices)):
        freeze(key, name, ["nothing-like-it"] if is_list else "nothing-like-it")


@pytest.mark.parametrize("name", [name for name, key in KEYS.items() if key.type_word not in ("", "any")])
def test_null_is_taken_where_the_type_says_so(name: str) -> None:
    if KEYS[name].optional:
        assert freeze(KEYS[name], name, None) is None
    else:
        with pytest.raises(ConfigError, match=f"^{name} has no value; set {name}=VALUE$"):
            freeze(KEYS[name], name, None)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_is_finite(value: float) -> None:
    with pytest.raises(ConfigError, match=r"^target_speedup is -?(nan|inf); "):
        freeze(KEYS["target_speedup"], "target_speedup", value)


def test_all_that_is_wrong_with_a_section_is_said() -> None:
    usual = {key.name: key.default for key in keys_of(Sampling)}
    wrong = {**usual, **dict.fromkeys(("seed", "temperature"))}

    with pytest.raises(ConfigError, match="2 things are wrong:") as caught:
        freeze(KEYS["sampling"], "sampling", wrong)

    assert [str(cause) for cause in caught.value.causes] == [
        "sampling.temperature has no value; set sampling.temperature=VALUE",
        "sampling.seed has no value; set sampling.seed=VALUE",
    ]
