"""What a claim means for a pool, by table: refused for ever, waited for, or fine."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.data.state import DatasetState
from headrace.jobs.dataplane import _judge


def state(**fields: Any) -> DatasetState:
    shared: dict[str, Any] = {
        "claim": "ns/data",
        "dataset": "ns/data-x",
        "is_shared": True,
        "is_ready": True,
        "access_modes": ("ReadWriteMany",),
        "verified_pools": frozenset({"cloud"}),
        "size_bytes": 100,
        "cached_bytes": 30,
    }
    return DatasetState(**{**shared, **fields})


@pytest.mark.parametrize(
    ("fields", "mode", "only_read", "code"),
    [
        ({}, "broker", False, ""),
        ({"access_modes": ("ReadWriteOnce",)}, "broker", True, "ClaimOneNodeOnly"),
        ({"access_modes": ("ReadWriteOnce",)}, "native", True, ""),
        ({"read_only": True}, "broker", False, "ClaimReadOnly"),
        ({"read_only": True}, "broker", True, ""),
        ({"pools": frozenset({"own"})}, "broker", True, "PoolNotAllowed"),
        ({"pools": frozenset({"own"})}, "native", True, "PoolNotAllowed"),
        ({"is_ready": False, "reason": "ClaimNotFound", "message": "none"}, "native", True, "ClaimNotFound"),
        ({"is_ready": False, "reason": "ProfileNotFound", "message": "none"}, "native", True, ""),
    ],
)
def test_what_is_refused_for_ever(fields: dict[str, Any], mode: str, only_read: bool, code: str) -> None:
    refused, _ = _judge(state(**fields), "cloud", mode, only_read)
    assert (refused.code if refused else "") == code


def test_what_is_not_ready_yet_is_waited_for_with_its_sentence() -> None:
    refused, need = _judge(state(verified_pools=frozenset()), "cloud", "broker", True)
    assert refused is None
    assert need is not None
    assert not need.is_ready
    assert "has not been listed in pool cloud yet" in need.why_not_ready


def test_what_has_to_be_moved_is_what_is_not_cached() -> None:
    _, need = _judge(state(), "cloud", "broker", True)
    assert need is not None
    assert need.missing_bytes == 70
    _, unknown = _judge(state(size_bytes=None), "cloud", "broker", True)
    assert unknown is not None
    assert unknown.missing_bytes is None
