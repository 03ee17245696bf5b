"""What a sweep imports, from its first line to its report: imported once by the server of tests/forked.py."""

import gc
import importlib

from hydra.core.plugins import Plugins

import tests.forked  # noqa: F401
import velosweep.hydra_app.application
import velosweep.hydra_app.dask
import velosweep.hydra_app.slurm
import velosweep.sweep  # noqa: F401
from velosweep.cli import COMMANDS
from velosweep.measuring.lane_context import Preload

Plugins.instance()  # imports and registers Hydra's and ours
for command in COMMANDS:
    importlib.import_module(f"velosweep.commands.{command}")
Preload().finish()
gc.freeze()
