"""Rests of a lane whose machine has become slower, until it is as cool as in the first round."""

import time
from collections.abc import Callable

from velosweep.config.settings import Protocol
from velosweep.machine.conditions import Monitor
from velosweep.measuring.interrupts import StopFlag

_POLL_S = 1.0


class Cooldown:
    """Rests of one lane. The temperature that they wait for is the one at the first call."""

    def __init__(self, monitor: Monitor, stop: StopFlag) -> None:
        self._temperature_c = monitor.temperature_c
        self._stop = stop
        self._target_c: float | None = None
        self._looked = False

    def rest(self, protocol: Protocol, *, baseline: float, latest: float) -> bool:
        """Rest if the vanilla server's tokens per second fell too far from `baseline`; whether a rest was taken.

        Ends early as soon as an end of the sweep is asked for, or when the lane is cool.
        """
        if not self._looked:
            self._target_c, self._looked = self._temperature_c(), True
        needed_s = rest_needed_s(baseline=baseline, latest=latest, protocol=protocol)
        if needed_s:
            wait_until_cool(needed_s, self._temperature_c, target_c=self._target_c, wait=self._stop.wait)
        return needed_s > 0


def rest_needed_s(*, baseline: float, latest: float, protocol: Protocol) -> float:
    """Seconds to rest, by how far the vanilla server (tokens per second) fell from its first round.

    0 up to a relative fall of `cooldown_drift`, then in proportion to the excess, at most `cooldown_max_s`, which
    twice the drift reaches. Getting faster never asks for a rest.
    """
    if not protocol.cooldown or baseline <= 0 or protocol.cooldown_drift <= 0:
        return 0.0
    excess = (1 - latest / baseline) / protocol.cooldown_drift - 1
    return protocol.cooldown_max_s * min(1.0, max(0.0, excess))


def wait_until_cool(
    rest_s: float,
    temperature_c: Callable[[], float | None],
    *,
    target_c: float | None,
    wait: Callable[[float], bool],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Rest for `rest_s` seconds, or until the temperature has come down to `target_c` (None: no thermometer).

    `wait(seconds)` sleeps and returns True as soon as an end is asked for.
    """
    end = clock() + rest_s
    while (left := end - clock()) > 0:
        now_c = temperature_c() if target_c is not None else None
        if now_c is not None and target_c is not None and now_c <= target_c:
            return
        if wait(min(_POLL_S, left)):
            return
