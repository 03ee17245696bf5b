"""Top-level values of one configuration after another, each resolved once for all that are alike.

OmegaConf takes a millisecond to resolve an interpolation and as long to copy out a section; the jobs of a sweep
differ in a few values only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from typing import Any

from omegaconf import DictConfig, OmegaConf

Token = Callable[[str], Hashable]

_REFERENCE = re.compile(r"\$\{\s*([A-Za-z_]\w*)\s*([.}\[:]?)")
_CONSTANT = re.compile(r"\$\{\s*oc\.(env|decode|deprecated)\s*:")


class Values:
    """Reads top-level keys of the configuration at hand.

    `token(key)` must give equal answers only where the text under that key is the same; without it nothing is
    remembered. Interpolations are followed: a value is the same where all keys that it refers to are.
    """

    def __init__(self) -> None:
        self._cfg = DictConfig({})
        self._token: Token | None = None
        self._known: dict[Hashable, Any] = {}
        self._refers: dict[Hashable, frozenset[str] | None] = {}

    def look_at(self, cfg: DictConfig, token: Token | None) -> None:
        """Read from `cfg` from now on."""
        self._cfg, self._token = cfg, token

    def __getitem__(self, key: str) -> Any:
        """The value, resolved: plain lists, dicts and scalars. Raises what OmegaConf raises."""
        cause = self.cause(key)
        if cause is None:
            return self._read(key)
        if (key, cause) not in self._known:
            self._known[key, cause] = self._read(key)
        return self._known[key, cause]

    def _read(self, key: str) -> Any:
        value = self._cfg[key]
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value

    def cause(self, *keys: str) -> Hashable | None:
        """What decided the values of these keys: equal causes, equal values. None where that can't be told."""
        if self._token is None:
            return None
        decided: dict[str, Hashable] = {}
        todo = list(keys)
        while todo:
            key = todo.pop()
            if key in decided:
                continue
            decided[key] = self._token(key)
            referred = self._references(key, decided[key])
            if referred is None:
                return None
            todo += referred
        return tuple(sorted(decided.items(), key=lambda item: item[0]))

    def _references(self, key: str, token: Hashable) -> frozenset[str] | None:
        """Top-level keys that the value of `key` refers to; None for a reference that can't be followed."""
        if (key, token) not in self._refers:
            self._refers[key, token] = references(self._cfg, key)
        return self._refers[key, token]


def references(cfg: DictConfig, key: str) -> frozenset[str] | None:
    """Top-level keys named by `${…}` under `key`; None where a reference is relative, nested or a resolver's."""
    if key not in cfg:
        return frozenset()
    text = _CONSTANT.sub("", repr(OmegaConf.to_container(OmegaConf.masked_copy(cfg, [key]), resolve=False)))
    found = _REFERENCE.findall(text)
    if len(found) != text.count("${") or any(end == ":" or root == "hydra" for root, end in found):
        return None
    return frozenset(root for root, _ in found)
