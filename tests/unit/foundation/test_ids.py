"""Names: what is one, and that mapping any name to a DNS label never makes two meet."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.ids import (
    dns_1035_name,
    is_dns_1035_label,
    is_dns_label,
    is_dns_subdomain,
    name_suffix,
    new_uid,
    short_hash,
)


@pytest.mark.parametrize(
    ("name", "label", "subdomain", "dns_1035"),
    [
        ("web", True, True, True),
        ("0web", True, True, False),
        ("web-1", True, True, True),
        ("web-", False, False, False),
        ("Web", False, False, False),
        ("a.b", False, True, False),
        ("a..b", False, False, False),
        ("", False, False, False),
        ("a" * 63, True, True, True),
        ("a" * 64, False, True, False),
        ("a" * 254, False, False, False),
        ("web\n", False, False, False),
    ],
)
def test_what_is_a_name(name: str, label: bool, subdomain: bool, dns_1035: bool) -> None:
    assert is_dns_label(name) is label
    assert is_dns_subdomain(name) is subdomain
    assert is_dns_1035_label(name) is dns_1035


@given(st.text(max_size=300))
def test_every_name_maps_to_a_label(source: str) -> None:
    assert is_dns_1035_label(dns_1035_name(source))
    assert is_dns_1035_label(dns_1035_name(source, "salt"))


@given(st.lists(st.text(alphabet="ab.-0A", max_size=80), unique=True, max_size=20))
def test_different_names_do_not_meet(sources: list[str]) -> None:
    assert len({dns_1035_name(source) for source in sources}) == len(sources)


def test_a_good_name_is_kept() -> None:
    assert dns_1035_name("starfs-pvc") == "starfs-pvc"
    assert dns_1035_name("starfs-pvc", "vision") != "starfs-pvc"


def test_parts_of_a_hash_cannot_run_over() -> None:
    assert short_hash("ab", "c") != short_hash("a", "bc")
    assert short_hash("a") == short_hash("a")
    assert len(short_hash("a", length=12)) == 12


def test_generated_values_differ() -> None:
    assert new_uid() != new_uid()
    assert str(uuid.UUID(new_uid()))
    assert len(name_suffix()) == 5
    assert is_dns_label(name_suffix(10))
