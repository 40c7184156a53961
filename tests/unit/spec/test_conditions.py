"""A condition's time moves only with its status, and setting what is there changes nothing."""

from __future__ import annotations

import datetime as dt

import pytest

from headrace.spec.conditions import Status, find_condition, is_true, set_condition, without_condition
from headrace.spec.kind import Doc, Json
from headrace.spec.kinds import DATASET

T0 = dt.datetime(2026, 11, 23, 20, 0, tzinfo=dt.UTC)
T1 = T0 + dt.timedelta(minutes=1)
READY: Json = {
    "type": "Ready",
    "status": "True",
    "reason": "Served",
    "message": "It is served.",
    "lastTransitionTime": "2026-11-23T20:00:00Z",
}


def test_the_first_one() -> None:
    assert set_condition(None, "Ready", "True", "Served", "It is served.", T0) == [READY]


@pytest.mark.parametrize(
    ("status", "reason", "message", "time"),
    [
        ("True", "Served", "It is served.", "2026-11-23T20:00:00Z"),
        ("True", "Again", "Another sentence.", "2026-11-23T20:00:00Z"),
        ("False", "Served", "It is served.", "2026-11-23T20:01:00Z"),
    ],
)
def test_time_moves_only_with_status(status: Status, reason: str, message: str, time: str) -> None:
    (condition,) = set_condition([READY], "Ready", status, reason, message, T1)
    assert (condition["reason"], condition["message"], condition["lastTransitionTime"]) == (reason, message, time)


def test_setting_the_same_is_nothing_to_write() -> None:
    assert set_condition([READY], "Ready", "True", "Served", "It is served.", T1) == [READY]


def test_order_and_unknown_keys_stay_and_input_is_untouched() -> None:
    before = [{"type": "A"}, {**READY, "lastUpdateTime": "x"}, {"type": "B"}]
    kept = [dict(condition) for condition in before]
    after = set_condition(before, "Ready", "False", "Gone", "", T1, generation=3)
    assert [condition["type"] for condition in after] == ["A", "Ready", "B"]
    assert (after[1]["lastUpdateTime"], after[1]["observedGeneration"]) == ("x", 3)
    assert before == kept


def test_a_doubled_condition_is_healed() -> None:
    assert len(set_condition([READY, READY], "Ready", "True", "Served", "", T1)) == 1


def test_finding() -> None:
    doc = Doc(DATASET, {"metadata": {"name": "d"}, "status": {"conditions": [READY]}})
    assert find_condition(doc, "Ready") == READY
    assert is_true(doc, "Ready")
    assert not is_true([{**READY, "status": "Unknown"}], "Ready")
    assert not is_true(None, "Ready")
    assert without_condition([READY, {"type": "B"}], "Ready", "C") == [{"type": "B"}]
