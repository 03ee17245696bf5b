"""YAML's bombs: a few hundred bytes of anchors may stand for more values than any memory holds."""

from __future__ import annotations

from pathlib import Path

import yaml

from velosweep.errors import PromptError

_MOST_VALUES = 1_000_000
_LONGEST_NUMBER = 1_000  # characters: PyYAML's time for `1:1:1:…` grows with the square of the length


def load_bounded(text: str, path: Path) -> object:
    """As `yaml.safe_load`, but counts values before it makes any: merges (`<<`) and readers follow every repetition.

    Raises PromptError for more than a million, and whatever PyYAML and Python's dates and numbers raise.
    """
    loader = yaml.SafeLoader(text)
    node = loader.get_single_node()
    if node is None:
        return None
    _count(node, {}, path)
    return loader.construct_document(node)


def _count(node: yaml.Node, known: dict[yaml.Node, int], path: Path) -> int:
    """How many values a node stands for; `known`: of nodes that were counted. Raises PromptError."""
    if node in known:
        return known[node]
    known[node] = _MOST_VALUES  # one that holds itself never ends
    size = 1
    if isinstance(node, yaml.ScalarNode):
        if len(node.value) > _LONGEST_NUMBER and node.tag == "tag:yaml.org,2002:int":
            raise PromptError(
                f"{path}, line {node.start_mark.line + 1} has a number of {len(node.value)} characters",
                remedy="put it in quotes if it is a text",
            )
    else:
        for entry in node.value:
            size += sum(_count(part, known, path) for part in (entry if isinstance(entry, tuple) else (entry,)))
    if size > _MOST_VALUES:
        raise PromptError(
            f"{path} stands for more than {_MOST_VALUES:,} values with what its anchors repeat",
            remedy="write it as .jsonl, without anchors",
        )
    known[node] = size
    return size
