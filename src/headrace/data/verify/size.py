"""Sizes as a Dataset's status holds them: Fluid's `ufsTotal`, such as `1.50GiB`."""

from __future__ import annotations

from headrace.units import parse_quantity

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def format_size(size_bytes: int) -> str:
    """Return a size as Fluid prints it (docker/go-units BytesSize with two decimals)."""
    amount, unit = float(size_bytes), 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.2f}{_UNITS[unit]}"


def parse_size(text: object) -> int | None:
    """Return bytes of `1.50GiB`; None for an empty text, `N/A` and anything else that is no size."""
    if not isinstance(text, str) or not text.endswith("B"):
        return None
    try:
        return int(parse_quantity(text.removesuffix("B")))
    except ValueError:
        return None
