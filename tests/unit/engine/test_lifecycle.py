"""What the server decides about objects: deletion step by step, metadata on update, generation."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from headrace.engine.pipeline import lifecycle
from headrace.engine.pipeline.registry import Resource
from headrace.spec.kinds import CONFIG_MAP, DATASET, NAMESPACE, POD

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
SOON = "2026-01-01T00:00:30Z"
AT_ONCE = "2026-01-01T00:00:00Z"
POD_RESOURCE = Resource(kind=POD)
DATASET_RESOURCE = Resource(kind=DATASET, source="headrace")


def thing(kind: str = "ConfigMap", **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "x", "uid": "1", **metadata}}


def pod(node: str = "own", phase: str = "Running", **metadata: Any) -> dict[str, Any]:
    spec = {"nodeName": node, "terminationGracePeriodSeconds": 30}
    return thing("Pod", **metadata) | {"spec": spec, "status": {"phase": phase}}


def deleted(
    raw: dict[str, Any], grace_s: int | None = None, propagation: lifecycle.Propagation = None
) -> dict[str, Any] | None:
    left = lifecycle.marked(raw, now=NOW, grace_s=grace_s, propagation=propagation)
    return None if left is None else left["metadata"]


@pytest.mark.parametrize(
    ("raw", "grace_s", "expected"),
    [
        pytest.param(thing(), None, None, id="nothing keeps it"),
        pytest.param(thing(), 30, None, id="only pods have grace"),
        pytest.param(thing(finalizers=["f"]), None, (AT_ONCE, 0), id="finalizers keep it"),
        pytest.param(pod(node=""), None, None, id="a pod without node"),
        pytest.param(pod(phase="Succeeded"), None, None, id="a pod that has ended"),
        pytest.param(pod(), 0, None, id="by force"),
        pytest.param(pod(), None, (SOON, 30), id="a running pod"),
        pytest.param(pod(), 5, ("2026-01-01T00:00:05Z", 5), id="another grace"),
        pytest.param(pod(), -1, ("2026-01-01T00:00:01Z", 1), id="a negative grace is one second"),
        pytest.param(pod(deletionTimestamp=SOON, deletionGracePeriodSeconds=30), 60, (SOON, 30), id="never longer"),
        pytest.param(pod(deletionTimestamp=SOON, deletionGracePeriodSeconds=30), None, (SOON, 30), id="again"),
        pytest.param(pod(deletionTimestamp=SOON, deletionGracePeriodSeconds=30), 0, None, id="the node is done"),
        pytest.param(
            pod(deletionTimestamp=SOON, deletionGracePeriodSeconds=30, finalizers=["f"]), 0, (AT_ONCE, 0),
            id="the node is done and a finalizer is not",
        ),
    ],
)  # fmt: skip
def test_deletion(raw: dict[str, Any], grace_s: int | None, expected: tuple[str, int] | None) -> None:
    metadata = deleted(raw, grace_s)
    found = None if metadata is None else (metadata["deletionTimestamp"], metadata["deletionGracePeriodSeconds"])
    assert found == expected


@pytest.mark.parametrize(
    ("finalizers", "propagation", "expected"),
    [
        ([], "Background", None),
        ([], "Foreground", ["foregroundDeletion"]),
        ([], "Orphan", ["orphan"]),
        (["f"], "Foreground", ["f", "foregroundDeletion"]),
        (["foregroundDeletion"], None, ["foregroundDeletion"]),
        (["foregroundDeletion"], "Background", None),
        (["foregroundDeletion", "f"], "Orphan", ["f", "orphan"]),
        (["orphan"], "Foreground", ["foregroundDeletion"]),
    ],
)
def test_propagation(finalizers: list[str], propagation: Any, expected: list[str] | None) -> None:
    metadata = deleted(thing(finalizers=finalizers), propagation=propagation)
    assert (None if metadata is None else metadata["finalizers"]) == expected


def test_a_namespace_is_kept_by_its_own_finalizer() -> None:
    raw = thing("Namespace") | {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
    left = lifecycle.marked(raw, now=NOW, grace_s=None, propagation="Background")
    assert left is not None
    assert left["status"] == {"phase": "Terminating"}
    emptied = lifecycle.changed_object(left | {"spec": {}}, left, Resource(kind=NAMESPACE), "finalize")
    assert emptied["spec"] == {"finalizers": []}
    assert lifecycle.is_gone(emptied)


def test_a_namespaces_finalizer_is_not_taken_off_by_an_update() -> None:
    raw = thing("Namespace") | {"spec": {"finalizers": ["kubernetes"]}}
    assert lifecycle.changed_object(raw | {"spec": {}}, raw, Resource(kind=NAMESPACE), "")["spec"] == raw["spec"]


def test_deletion_counts_as_a_generation() -> None:
    metadata = deleted(thing(finalizers=["f"], generation=4))
    assert metadata is not None
    assert metadata["generation"] == 5


def test_an_update_cannot_touch_the_servers_metadata() -> None:
    old = pod(creationTimestamp="t", resourceVersion="7", generation=3, deletionTimestamp="d")
    new = pod(creationTimestamp="T", resourceVersion="7", generation=9, uid="2", labels={"a": "b"}, selfLink="/x")
    changed = lifecycle.changed_object(new, old, POD_RESOURCE, "")
    assert changed["metadata"] == old["metadata"] | {"labels": {"a": "b"}}


def test_a_status_of_a_core_kind_may_bring_labels_and_that_of_a_custom_one_not() -> None:
    new = pod(phase="Failed", labels={"a": "b"}, ownerReferences=[{"name": "new"}]) | {"spec": {}}
    changed = lifecycle.changed_object(new, pod(), POD_RESOURCE, "status")
    assert changed == pod(phase="Failed", labels={"a": "b"})
    custom = lifecycle.changed_object(new, pod(), DATASET_RESOURCE, "status")
    assert custom == pod(phase="Failed")


def test_a_status_may_be_removed() -> None:
    new = pod()
    del new["status"]
    assert "status" not in lifecycle.changed_object(new, pod(), POD_RESOURCE, "status")


@pytest.mark.parametrize(
    ("kind", "change", "expected"),
    [
        (DATASET, {"spec": {"a": 2}}, 2),
        (DATASET, {"status": {"a": 2}}, 1),
        (DATASET, {"metadata": {"generation": 1, "labels": {"a": "b"}}}, 1),
    ],
)
def test_generation(kind: Any, change: dict[str, Any], expected: int) -> None:
    old = {"metadata": {"generation": 1}, "spec": {"a": 1}, "status": {}}
    assert lifecycle.with_generation(old | change, old, DATASET_RESOURCE)["metadata"]["generation"] == expected


def test_kinds_without_generation_get_none() -> None:
    old = thing() | {"data": {}}
    assert lifecycle.with_generation(old | {"data": {"a": "b"}}, old, Resource(kind=CONFIG_MAP)) == old | {
        "data": {"a": "b"}
    }
