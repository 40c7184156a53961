"""Merge keys, unknown fields and wrong types, read from the vendored OpenAPI."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headrace.engine.openapi.fields import examine
from headrace.engine.openapi.merge_keys import REPLACE, MergeStrategy, merge_strategy, supports_strategic_merge
from headrace.spec.kind import Json, Kind


class Anything(msgspec.Struct):
    """A view that reads nothing."""


POD = Kind(group="", version="v1", name="Pod", plural="pods", view=Anything)
NODE = Kind(group="", version="v1", name="Node", plural="nodes", view=Anything)
CUSTOM = Kind(group="example.org", version="v1", name="Pod", plural="pods", view=Anything)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (("spec", "containers"), MergeStrategy(merges=True, key="name")),
        (("spec", "containers", "env"), MergeStrategy(merges=True, key="name")),
        (("spec", "containers", "volumeMounts"), MergeStrategy(merges=True, key="mountPath")),
        (("spec", "volumes"), MergeStrategy(merges=True, key="name", retains_keys=True)),
        (("metadata", "finalizers"), MergeStrategy(merges=True)),
        (("metadata", "ownerReferences"), MergeStrategy(merges=True, key="uid")),
        (("spec", "tolerations"), REPLACE),
        (("spec", "containers", "command"), REPLACE),
        (("metadata", "labels", "finalizers"), REPLACE),
        (("nothing", "of", "this"), REPLACE),
        ((), REPLACE),
    ],
)
def test_pod_lists_merge_as_kubernetes_publishes(path: tuple[str, ...], expected: MergeStrategy) -> None:
    assert merge_strategy(POD, path) == expected


def test_custom_resources_are_not_patched_strategically() -> None:
    assert supports_strategic_merge(POD)
    assert not supports_strategic_merge(CUSTOM)
    assert merge_strategy(CUSTOM, ("spec", "containers")) == REPLACE


def pod(**spec: Any) -> Json:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"any": "thing"}}, "spec": spec}


def test_a_right_object_is_returned_itself() -> None:
    body = pod(
        containers=[
            {
                "name": "main",
                "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": 1, "memory": "1Gi", "nvidia.com/gpu": "1"}},
                "livenessProbe": {"httpGet": {"port": "http"}, "periodSeconds": None},
            }
        ]
    )
    found = examine(POD, body)
    assert found.body is body
    assert found.unknown == ()
    assert found.wrong == ()


def test_unknown_fields_are_named_by_path_and_dropped() -> None:
    body = pod(containers=[{"name": "main", "imagePulPolicy": "Never"}], restart="Never")
    found = examine(POD, body)
    assert found.unknown == ("spec.containers[0].imagePulPolicy", "spec.restart")
    assert found.body["spec"] == {"containers": [{"name": "main"}]}
    assert body["spec"]["restart"] == "Never"


@pytest.mark.parametrize(
    ("spec", "path", "sentence"),
    [
        ({"containers": {}}, "spec.containers", "must be a list, not an object"),
        ({"containers": [{"name": 5}]}, "spec.containers[0].name", "must be a string, not a number"),
        ({"priority": "1"}, "spec.priority", "must be an integer, not a string"),
        ({"priority": True}, "spec.priority", "must be an integer, not a bool"),
        ({"hostNetwork": "yes"}, "spec.hostNetwork", "must be a boolean, not a string"),
        ({"nodeSelector": {"a": 1}}, "spec.nodeSelector.a", "must be a string, not a number"),
    ],
)
def test_wrong_types_are_named_by_path(spec: Json, path: str, sentence: str) -> None:
    assert examine(POD, pod(**spec)).wrong == ((path, sentence),)


def test_kinds_without_a_published_schema_are_left_alone() -> None:
    body = {"spec": {"whatever": 1}}
    assert examine(CUSTOM, body).body is body


def test_quantities_may_be_numbers() -> None:
    assert examine(NODE, {"status": {"capacity": {"cpu": 4, "memory": "8Gi"}}}).wrong == ()
