"""What a lane works with."""

from __future__ import annotations

from dataclasses import dataclass

from velosweep.machine.conditions import Monitor
from velosweep.measuring.interrupts import StopFlag
from velosweep.measuring.memory_estimates import MemoryEstimates
from velosweep.measuring.model_files import ModelWatch
from velosweep.measuring.preload import Preload
from velosweep.measuring.prepare import Prepared
from velosweep.measuring.recorder import Recorder
from velosweep.measuring.sample_rows import SampleMaker
from velosweep.measuring.server_logs import ServerLogs
from velosweep.values import Lane


@dataclass(frozen=True, kw_only=True)
class LaneContext:
    """The lane's own `samples`, `monitor` and `memory`; all else is shared by the lanes of a sweep."""

    lane: Lane
    samples: SampleMaker
    monitor: Monitor
    memory: MemoryEstimates
    prepared: Prepared
    recorder: Recorder
    stop: StopFlag
    model_files: ModelWatch
    logs: ServerLogs
    preload: Preload
