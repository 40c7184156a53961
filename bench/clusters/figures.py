"""Rows of the table, and how samples become one."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """One line: a figure, what it is compared with, and what Fluid was measured with on such a machine."""

    part: str
    name: str
    value: float
    unit: str
    goal: str = ""
    peer: str = ""


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the smallest sample that so many of all do not exceed."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def median(samples: Sequence[float]) -> float:
    return statistics.median(samples)


def ms(seconds: float) -> float:
    return seconds * 1000
