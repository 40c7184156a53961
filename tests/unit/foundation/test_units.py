"""Quantities are exact both ways, and nothing a user writes makes them raise anything but ValueError."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.units import (
    format_bytes,
    format_cpu,
    format_quantity,
    human_bytes,
    human_duration,
    parse_bandwidth_bytes_per_s,
    parse_duration_s,
    parse_quantity,
    parse_rate_per_s,
)

_FACTORS = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "P": 10**15,
    "E": 10**18,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "Pi": 2**50,
    "Ei": 2**60,
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500m", "0.5"),
        ("0.1", "0.1"),
        (".5", "0.5"),
        ("5.", "5"),
        ("+2", "2"),
        ("-1Ki", "-1024"),
        ("1e3", "1000"),
        ("12E2", "1200"),
        ("1E", "1000000000000000000"),
        ("100u", "0.0001"),
        ("7n", "0.000000007"),
        (" 4Gi ", "4294967296"),
        (2, "2"),
        (0.5, "0.5"),
    ],
)
def test_quantities(text: Any, value: str) -> None:
    assert parse_quantity(text) == Decimal(value)


@pytest.mark.parametrize(
    "text", ["", "Gi", "4 Gi", "4gi", "4GB", "1.2.3", "--1", "1e", "1e999999999", "NaN", "inf", True, float("nan")]
)
def test_what_is_no_quantity(text: Any) -> None:
    with pytest.raises(ValueError, match="quantity"):
        parse_quantity(text)


@given(st.text(max_size=20))
def test_any_text_is_a_quantity_or_a_value_error(text: Any) -> None:
    try:
        value = parse_quantity(text)
    except ValueError:
        return
    assert value.is_finite()


@given(st.integers(min_value=0, max_value=10**6), st.sampled_from(sorted(_FACTORS)))
def test_suffixes_multiply_exactly(number: int, suffix: str) -> None:
    assert parse_quantity(f"{number}{suffix}") == number * _FACTORS[suffix]


@given(st.integers(min_value=0, max_value=10**9))
def test_cpu_round_trip(millis: int) -> None:
    assert parse_quantity(format_cpu(Decimal(millis) / 1000)) == Decimal(millis) / 1000


@given(st.integers(min_value=0, max_value=2**62))
def test_bytes_round_trip(size_bytes: int) -> None:
    assert parse_quantity(format_bytes(size_bytes)) == size_bytes


def test_cpu_is_never_rounded_down() -> None:
    assert format_cpu(Decimal("0.0001")) == "1m"


def test_format_quantity_by_resource() -> None:
    assert format_quantity("cpu", Decimal("1.5")) == "1500m"
    assert format_quantity("memory", Decimal(2**30)) == "1Gi"
    assert format_quantity("nvidia.com/gpu", Decimal("1E+3")) == "1000"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45s", 45), ("1h30m", 5400), ("300ms", 0.3), ("3d", 259200), ("90", 90), (12, 12), ("1.5h", 5400), ("0s", 0)],
)
def test_durations(text: Any, seconds: Any) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "1x", "1 h", "-5s", "1h30", "five minutes", True, None])
def test_what_is_no_duration(text: Any) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-3, "0s"),
        (59.4, "59s"),
        (59.6, "1m"),
        (192, "3m12s"),
        (7500, "2h5m"),
        (3600, "1h"),
        (356400, "4d3h"),
    ],
)
def test_durations_for_people(seconds: Any, text: Any) -> None:
    assert human_duration(seconds) == text


@given(st.integers(min_value=0, max_value=10**7))
def test_a_duration_for_people_is_at_most_one_small_unit_short(seconds: Any) -> None:
    shown = parse_duration_s(human_duration(seconds))
    assert shown <= seconds < shown + 3600


def test_prices_are_exact() -> None:
    assert parse_rate_per_s("3.60/h") == Decimal("0.001")
    assert parse_rate_per_s("0.00000096/GiB-s") == Decimal("0.00000096")
    assert parse_rate_per_s("4.00/gpu-h") * 3600 == Decimal(4)


@pytest.mark.parametrize("text", ["", "2.00", "2.00/", "/h", "x/h", "2/week", "-1/h", "NaN/h", "Infinity/s"])
def test_what_is_no_price(text: Any) -> None:
    with pytest.raises(ValueError, match="price"):
        parse_rate_per_s(text)


def test_bandwidth() -> None:
    assert parse_bandwidth_bytes_per_s("1Gbit/s") == Decimal(125_000_000)
    assert parse_bandwidth_bytes_per_s("50MB/s") == Decimal(50_000_000)
    with pytest.raises(ValueError, match="bandwidth"):
        parse_bandwidth_bytes_per_s("fast")


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (999, "999 B"), (1400, "1.4 kB"), (5e15, "5000.0 TB")])
def test_bytes_for_people(size: float, text: Any) -> None:
    assert human_bytes(size) == text
