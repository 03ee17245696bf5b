"""The `.hydra/` folder of each job, as Hydra writes it, without dumping a configuration a job.

Hydra's three files differ from job to job in the lines of the overridden keys and in five values of `hydra`, so
the text of each top-level key is kept, and `hydra.yaml` is a template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from velosweep.hydra_app.job_configs import Point
from velosweep.results.paths import is_sweep

_NUM = 918273645
_ID, _OUT, _NAME, _TASK = "@job id@", "@output dir@", "@override dirname@", "@overrides@"


class Records:
    """Writes jobs' `.hydra/` folders below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._begun = is_sweep(root)
        self._blocks: dict[Any, str] = {}
        self._templates: dict[tuple[str, ...], Template] = {}

    def write(self, point: Point, *, num: int, directory: str) -> None:
        """Write config.yaml, hydra.yaml and overrides.yaml of the job whose results go to `root/directory`.

        Where a sweep stands already, a job's files stay: if it goes on they are the same, if it is another job the
        pipeline refuses it, and the former one must still be there to be resumed.
        """
        template = self._template(point)
        if template.subdir is None:
            return
        folder = self._root / directory / template.subdir
        if self._begun and (folder / "config.yaml").is_file():
            return
        folder.mkdir(parents=True, exist_ok=True)
        task = [override.input_line or "" for override in point.overrides if not override.is_hydra_override()]
        lines = "".join(f"- {scalar(line)}\n" for line in task) or "[]\n"
        name = dirname(point.overrides, template)
        (folder / "config.yaml").write_text(self.config_text(point), encoding="utf-8")
        (folder / "hydra.yaml").write_text(
            template.filled(num, name, str(self._root / directory), lines), encoding="utf-8"
        )
        (folder / "overrides.yaml").write_text(lines, encoding="utf-8")

    def _template(self, point: Point) -> Template:
        key = point.selection.overrides
        if key not in self._templates:
            self._templates[key] = Template.of(point.cfg)
        return self._templates[key]

    def config_text(self, point: Point) -> str:
        """The job's own configuration as YAML."""
        return "".join(self._block(point, str(key)) for key in point.cfg if key != "hydra")

    def _block(self, point: Point, root: str) -> str:
        token = (root, point.token(root))
        if token not in self._blocks:
            self._blocks[token] = OmegaConf.to_yaml(OmegaConf.masked_copy(point.cfg, [root]))
        return self._blocks[token]


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """hydra.yaml of a selection of groups, with marks where jobs differ, and what naming a job needs.

    All marks need YAML's single quotes, so they are found exactly.
    """

    text: str
    subdir: str | None
    kv_sep: str
    item_sep: str
    exclude_keys: tuple[str, ...]

    @classmethod
    def of(cls, composed: DictConfig) -> Template:
        """The template for jobs with this configuration."""
        cfg = OmegaConf.masked_copy(composed, "hydra")
        with read_write(cfg), open_dict(cfg):
            cfg.hydra.job.num = _NUM
            cfg.hydra.job.id = _ID
            if not OmegaConf.is_interpolation(cfg.hydra.job, "override_dirname"):  # one from Hydra 1.4 on
                cfg.hydra.job.override_dirname = _NAME
            cfg.hydra.runtime.output_dir = _OUT
            cfg.hydra.overrides.task = [_TASK]
        rule = composed.hydra.job.config.override_dirname
        return cls(
            text=OmegaConf.to_yaml(cfg),
            subdir=None if composed.hydra.output_subdir is None else str(composed.hydra.output_subdir),
            kv_sep=rule.kv_sep,
            item_sep=rule.item_sep,
            exclude_keys=tuple(rule.exclude_keys),
        )

    def filled(self, num: int, name: str, output_dir: str, task_lines: str) -> str:
        """hydra.yaml of one job."""
        indented = "".join(f"    {line}\n" for line in task_lines.splitlines())
        return (
            self.text.replace(f"    - '{_TASK}'\n", indented)
            .replace(f"num: {_NUM}\n", f"num: {num}\n")
            .replace(f"'{_ID}'", f"'{num}'")
            .replace(f"'{_NAME}'", scalar(name))
            .replace(f"'{_OUT}'", scalar(output_dir))
        )


def dirname(overrides: Sequence[Override], rule: Any) -> str:
    """Hydra's `override_dirname` of a job; `rule` is hydra.job.config.override_dirname."""
    lines = sorted(
        override.input_line or ""
        for override in overrides
        if not override.is_hydra_override() and override.key_or_group not in rule.exclude_keys
    )
    return str(rule.item_sep).join(lines).replace("=", rule.kv_sep)


@lru_cache(maxsize=4096)
def scalar(text: str) -> str:
    """`text` as a YAML scalar on one line."""
    style = None if text.isprintable() else '"'
    dumped: str = yaml.safe_dump(
        [text], default_flow_style=False, default_style=style, allow_unicode=True, width=float("inf")
    )
    return dumped[2:].rstrip("\n")
