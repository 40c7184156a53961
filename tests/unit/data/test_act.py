"""Two plans for one object: what both write is one patch, and what they do keeps its order."""

from __future__ import annotations

from typing import Any

from headrace.data.act import Create, Patch, Plan, in_one_write
from headrace.spec.kind import Doc, Json
from headrace.spec.kinds import CONFIG_MAP, DATASET, POD


def status(doc: Doc[Any], body: Json) -> Patch:
    return Patch(doc.kind, doc.ref, {"metadata": {"resourceVersion": doc.version}, "status": body}, "status")


def test_two_writes_of_a_status_are_one(make: Any) -> None:
    dataset = make.dataset(status={"fileNum": "4"})
    config, probe = Create(CONFIG_MAP, {"metadata": {"name": "c"}}), Create(POD, {"metadata": {"name": "probe"}})
    told: list[Json] = []

    def further(about: Doc[Any]) -> Plan:
        told.append(about.status)
        return Plan((status(about, {"conditions": ["Ready", "MountVerified"], "pools": []}), probe), 5.0)

    first = Plan((config, status(dataset, {"phase": "Bound", "conditions": ["Ready"]})), 7.0)
    joined = in_one_write(first, dataset, further)
    assert told == [{"fileNum": "4", "phase": "Bound", "conditions": ["Ready"]}]
    both = {"phase": "Bound", "conditions": ["Ready", "MountVerified"], "pools": []}
    assert joined == Plan((config, status(dataset, both), probe), 7.0)


def test_a_status_that_is_not_written_begins_nothing(make: Any) -> None:
    dataset = make.dataset()
    held = Plan((Patch(DATASET, dataset.ref, {"metadata": {"finalizers": ["x"]}}),))

    def further(_about: Doc[Any]) -> Plan:
        raise AssertionError

    assert in_one_write(held, dataset, further) == held
