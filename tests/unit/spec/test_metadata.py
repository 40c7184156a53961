"""Names, labels and annotations, as Kubernetes allows them."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.spec.kind import Json, Kind
from headrace.spec.kinds import CONFIG_MAP, DATASET, EVENT, NAMESPACE, NODE, QUEUE, SERVICE
from headrace.spec.validation.metadata import check_metadata


def _paths(kind: Kind[Any], raw: Json) -> list[str]:
    return [problem.path for problem in check_metadata(kind, raw)]


@pytest.mark.parametrize(
    ("kind", "name", "allowed"),
    [
        (CONFIG_MAP, "a.b-c", True),
        (CONFIG_MAP, "0", True),
        (CONFIG_MAP, "A", False),
        (CONFIG_MAP, "a_b", False),
        (CONFIG_MAP, "a" * 253, True),
        (CONFIG_MAP, "a" * 254, False),
        (NAMESPACE, "a.b", False),
        (NAMESPACE, "vision", True),
        (SERVICE, "0web", True),
        (SERVICE, "web", True),
        (DATASET, "starfs.pvc", False),
        (DATASET, "starfs-pvc", True),
        (EVENT, "Pod.17F3", True),
        (EVENT, "a/b", False),
    ],
)
def test_names(kind: Kind[Any], name: str, allowed: bool) -> None:
    assert (_paths(kind, {"metadata": {"name": name}}) == []) is allowed


@pytest.mark.parametrize(
    ("metadata", "paths"),
    [
        (None, ["metadata"]),
        ({}, ["metadata.name"]),
        ({"generateName": "web-"}, []),
        ({"generateName": "Web-"}, ["metadata.generateName"]),
        ({"name": 5}, ["metadata.name"]),
        ({"name": "a", "namespace": "A"}, ["metadata.namespace"]),
        ({"name": "a", "labels": {"app": "web", "example.org/app": "Web_1.x"}}, []),
        ({"name": "a", "labels": {"app": 1}}, ["metadata.labels.app"]),
        ({"name": "a", "labels": {"app": "-"}}, ["metadata.labels.app"]),
        ({"name": "a", "labels": {"app": "a" * 64}}, ["metadata.labels.app"]),
        ({"name": "a", "labels": {"Example.org/a": ""}}, ["metadata.labels[Example.org/a]"]),
        ({"name": "a", "labels": {"-a": ""}}, ["metadata.labels.-a"]),
        ({"name": "a", "labels": []}, ["metadata.labels"]),
        ({"name": "a", "annotations": {"note": "anything at all\n"}}, []),
        ({"name": "a", "annotations": {"note": True}}, ["metadata.annotations.note"]),
        ({"name": "a", "annotations": {"a b": ""}}, ["metadata.annotations[a b]"]),
        ({"name": "a", "annotations": {"note": "x" * 262144}}, ["metadata.annotations"]),
        ({"name": "a", "finalizers": ["headrace.io/metered", "a b"]}, ["metadata.finalizers[1]"]),
    ],
)
def test_metadata(metadata: Any, paths: list[str]) -> None:
    assert _paths(CONFIG_MAP, {"metadata": metadata}) == paths


@pytest.mark.parametrize("kind", [NODE, QUEUE], ids=str)
def test_cluster_scoped_kinds_have_no_namespace(kind: Kind[Any]) -> None:
    assert _paths(kind, {"metadata": {"name": "a", "namespace": "vision"}}) == ["metadata.namespace"]
