"""Quantities as Kubernetes writes them, durations, and exact money.

Quantities are decimals, never floats: `0.1` CPU three times is 300 millicores, and bills are exact to the second.
Source: apimachinery `pkg/api/resource/quantity.go` (grammar and suffixes).
"""

from __future__ import annotations

import math
import re
from decimal import Decimal, InvalidOperation

_QUANTITY = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+))([eE][+-]?\d{1,2}|[numkMGTPE]|[KMGTPE]i)?")
_SUFFIX: dict[str, Decimal] = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|d|h|m|s)")
_DURATION_S = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PER_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
GIB = Decimal(2**30)


def parse_quantity(text: str | int | float | Decimal) -> Decimal:
    """Return the exact value of a Kubernetes quantity (`500m`, `4Gi`, `2`); raises ValueError with a sentence."""
    if isinstance(text, bool) or (isinstance(text, float) and not math.isfinite(text)):
        raise ValueError(f"{text!r} is not a quantity")
    if isinstance(text, Decimal):
        return text
    if isinstance(text, int | float):
        return Decimal(str(text))
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a quantity; write a number with a suffix such as 500m, 2, 4Gi or 1G")
    number, suffix = match.group(1), match.group(2) or ""
    if suffix[:1] in {"e", "E"} and len(suffix) > 1 and suffix != "Ei":
        return Decimal(number + suffix)
    return Decimal(number) * _SUFFIX[suffix]


def format_cpu(value: Decimal) -> str:
    """Return cores as Kubernetes prints them: `2`, `500m`."""
    millis = (value * 1000).to_integral_value(rounding="ROUND_CEILING")
    return str(millis // 1000) if millis % 1000 == 0 else f"{millis}m"


def format_bytes(value: Decimal | int) -> str:
    """Return bytes with the largest binary suffix that divides them: `4Gi`, `100Mi`, `1500`."""
    amount = int(value)
    for suffix in ("Ei", "Pi", "Ti", "Gi", "Mi", "Ki"):
        unit = int(_SUFFIX[suffix])
        if amount and amount % unit == 0:
            return f"{amount // unit}{suffix}"
    return str(amount)


def format_quantity(resource: str, value: Decimal) -> str:
    """Return `value` as the resource is usually written: cpu in millicores, memory and storage in binary bytes."""
    if resource == "cpu":
        return format_cpu(value)
    if resource in {"memory", "ephemeral-storage", "storage"} or resource.startswith("hugepages-"):
        return format_bytes(value)
    return format(value.normalize(), "f")


def human_bytes(size_bytes: float) -> str:
    """Return bytes for a person: `1.4 MB`, decimal as networks and bills count them."""
    amount = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(amount) < 1000 or unit == "TB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError("unreachable")


def parse_duration_s(text: str | float) -> float:
    """Return seconds of a duration such as `2h`, `1h30m`, `300ms`, `45` (seconds); raises ValueError with a sentence."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    if isinstance(text, str):
        cleaned = text.strip()
        if re.fullmatch(r"\d+(\.\d+)?", cleaned):
            return float(cleaned)
        parts = _DURATION_PART.findall(cleaned)
        if parts and "".join(a + b for a, b in parts) == cleaned:
            return sum(float(number) * _DURATION_S[unit] for number, unit in parts)
    raise ValueError(f"{text!r} is not a duration; write it as 45s, 10m, 2h, 1h30m or 3d")


def human_duration(seconds: float) -> str:
    """Return a duration for a person, two units at most: `45s`, `3m12s`, `2h5m`, `4d2h`."""
    total = max(0, round(seconds))
    for big, small, big_s, small_s in (("d", "h", 86400, 3600), ("h", "m", 3600, 60), ("m", "s", 60, 1)):
        if total >= big_s:
            rest = total % big_s // small_s
            return f"{total // big_s}{big}{rest}{small}" if rest else f"{total // big_s}{big}"
    return f"{total}s"


def parse_rate_per_s(text: str) -> Decimal:
    """Return a price per second, exactly.

    Args:
        text: `0.0000077/s`, `0.00000096/GiB-s`, `2.00/h`, `4.00/gpu-h`; the unit before the dash is the caller's.
    """
    amount, slash, per = text.partition("/")
    unit = per.rpartition("-")[2]
    try:
        value = Decimal(amount.strip())
    except InvalidOperation:
        value = Decimal("NaN")
    if not slash or unit not in _PER_S or not value.is_finite() or value < 0:
        raise ValueError(f"{text!r} is not a price; write it as 2.00/h, 0.0000077/s or 0.00000096/GiB-s")
    return value / _PER_S[unit]


def parse_bandwidth_bytes_per_s(text: str) -> Decimal:
    """Return bytes a second of `1Gbit/s`, `200Mbit/s` or `50MB/s`; raises ValueError with a sentence."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT]?)(bit|B)/s", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a bandwidth; write it as 1Gbit/s or 50MB/s")
    number, prefix, unit = match.groups()
    value = Decimal(number) * _SUFFIX[prefix]
    return value / 8 if unit == "bit" else value
