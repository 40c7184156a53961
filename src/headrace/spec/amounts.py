"""Amounts of resources as integers: CPU in thousandths of a core, memory in bytes, everything else in pieces.

Integers keep the scheduler's arithmetic exact and quick; decimals come back where money is computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from headrace.units import format_bytes, format_cpu, parse_quantity

Amounts = Mapping[str, int]
"""Such as `{"cpu": 2000, "memory": 4294967296, "gpu/A100": 1}`; a missing name means zero."""


def parse(quantities: Mapping[str, str | int | float | Decimal]) -> dict[str, int]:
    """Return amounts of Kubernetes quantities; raises ValueError for a bad one. Fractions of a piece are rounded up."""
    return {name: in_units(name, parse_quantity(text)) for name, text in quantities.items()}


def in_units(name: str, value: Decimal) -> int:
    """Return `value` (cores, bytes, pieces) in this module's integer unit of the resource `name`, rounded up."""
    scaled = value * 1000 if name == "cpu" else value
    return int(scaled.to_integral_value(rounding="ROUND_CEILING"))


def in_whole(name: str, amount: int) -> Decimal:
    """Return an integer amount as cores, bytes or pieces again."""
    return Decimal(amount) / 1000 if name == "cpu" else Decimal(amount)


def text(name: str, amount: int) -> str:
    """Return an amount for a person: `2`, `500m`, `4Gi`."""
    if name == "cpu":
        return format_cpu(in_whole(name, amount))
    if name in {"memory", "ephemeral-storage"}:
        return _rounded_bytes(amount)
    return str(amount)


def _rounded_bytes(amount: int) -> str:
    exact = format_bytes(amount)
    if len(exact) <= 7:
        return exact
    for suffix, size in (("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10)):
        if abs(amount) >= size:
            return f"{amount / size:.1f}{suffix}"
    return exact


def describe(amounts: Amounts) -> str:
    """Return `cpu 2, memory 4Gi` with the resources in a stable order, zeros left out."""
    order = sorted((n for n, a in amounts.items() if a), key=lambda n: (n not in {"cpu", "memory"}, n))
    return ", ".join(f"{name} {text(name, amounts[name])}" for name in order) or "nothing"


def add(*parts: Amounts) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for name, amount in part.items():
            total[name] = total.get(name, 0) + amount
    return total


def subtract(left: Amounts, right: Amounts) -> dict[str, int]:
    """Return `left - right`; negative where more is used than there is."""
    return {name: left.get(name, 0) - right.get(name, 0) for name in {**left, **right}}


def times(amounts: Amounts, count: int) -> dict[str, int]:
    return {name: amount * count for name, amount in amounts.items()}


def fits(need: Amounts, free: Amounts) -> bool:
    return all(amount <= free.get(name, 0) for name, amount in need.items() if amount > 0)


def missing(need: Amounts, free: Amounts) -> dict[str, int]:
    """Return what `free` lacks for `need`; empty when it fits."""
    lacks = {name: amount - max(0, free.get(name, 0)) for name, amount in need.items()}
    return {name: amount for name, amount in lacks.items() if amount > 0}


def maximum(parts: Iterable[Amounts]) -> dict[str, int]:
    """Return the largest amount of each resource over `parts`."""
    largest: dict[str, int] = {}
    for part in parts:
        for name, amount in part.items():
            largest[name] = max(largest.get(name, 0), amount)
    return largest
