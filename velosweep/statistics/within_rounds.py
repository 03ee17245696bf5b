"""Ratios to vanilla of settings that were measured in the same rounds, by the two-way model of all of them."""

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from velosweep.statistics.comparison import RoundRatios
from velosweep.statistics.intervals import (
    MODERATED_LAUNCHES,
    MODERATED_ONE_LAUNCH,
    NO_RATIO,
    PAIRED_LAUNCHES,
    PAIRED_ONE_LAUNCH,
    Ratio,
    log_ratio_interval,
    sequential,
)
from velosweep.statistics.two_way import Contrasts, TwoWayModel


def ratios_within_rounds(series: Sequence[RoundRatios], stopped_at: Mapping[int, float]) -> list[Ratio]:
    """The ratio of each series to vanilla, with its interval where there are two rounds or more.

    `stopped_at`: by index, the confidence of series whose own interval decided how long they are. They are judged by
    that interval alone, whose error the rule was calibrated for. So are those of drawn texts: a text suits all drafts
    of a round, or none, so that from how they agree nothing follows for vanilla.
    """
    tables: dict[Hashable, list[int]] = defaultdict(list)
    for number, own in enumerate(series):
        alone = number if number in stopped_at or own.drawn else None
        tables[own.table, own.launches, alone].append(number)
    ratios = [NO_RATIO] * len(series)
    of_one_size: dict[tuple[object, ...], list[tuple[list[int], Any]]] = defaultdict(list)
    for numbers in tables.values():
        values = table_of([series[number] for number in numbers])
        if not values.shape[1]:
            continue
        of_one_size[values.shape].append((numbers, values))
    for members in of_one_size.values():
        found = TwoWayModel.of(np.stack([values for _, values in members])).contrasts(0)
        for table, (numbers, _) in enumerate(members):
            for arm, number in enumerate(numbers, 1):
                ratios[number] = _ratio(series[number], found, (table, arm), len(numbers), stopped_at.get(number))
    return ratios


def table_of(series: Sequence[RoundRatios]) -> Any:
    """Log ratios, arms x rounds, of which vanilla is the first arm; NaN where an arm was not measured."""
    rounds = series[0].rounds
    if all(own.rounds == rounds for own in series):
        return np.array([(0.0,) * len(rounds), *(own.logs for own in series)])
    column = {name: place for place, name in enumerate(sorted({name for own in series for name in own.rounds}))}
    values = np.full((len(series) + 1, len(column)), np.nan)
    values[0] = 0.0
    for arm, own in enumerate(series, 1):
        values[arm, [column[name] for name in own.rounds]] = own.logs
    return values


def _ratio(own: RoundRatios, found: Contrasts, place: tuple[int, int], arms: int, stopped_at: float | None) -> Ratio:
    n = len(own.rounds)
    if not n:
        return NO_RATIO
    center = math.fsum(own.logs) / n  # to the last bit the same whatever settings are beside it
    if n < 2:
        return Ratio(ratio=math.exp(center), interval=None)
    if own.launches:
        method = MODERATED_LAUNCHES if arms > 1 else PAIRED_LAUNCHES
    elif stopped_at is not None:
        method = sequential(stopped_at)
    else:
        method = MODERATED_ONE_LAUNCH if arms > 1 else PAIRED_ONE_LAUNCH
    confidence = 0.95 if stopped_at is None else stopped_at
    interval = log_ratio_interval(
        center, float(found.standard_error[place]), df=float(found.df[place]), n=n, confidence=confidence, method=method
    )
    return Ratio(ratio=interval.ratio, interval=interval)
