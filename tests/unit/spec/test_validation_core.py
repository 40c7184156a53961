"""Core kinds other than Pod: mistakes by path, and what may not change."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.spec.crds import crd
from headrace.spec.defaults import apply_defaults
from headrace.spec.kind import Json, Kind
from headrace.spec.kinds import (
    CONFIG_MAP,
    CRD,
    CSI_DRIVER,
    LEASE,
    MUTATING_WEBHOOKS,
    NODE,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    PRIORITY_CLASS,
    SECRET,
    SERVICE,
    STORAGE_CLASS,
    TRAIN_JOB,
    VALIDATING_WEBHOOKS,
)
from headrace.spec.validation import validate

CLAIM: Json = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
CSI: Json = {"driver": "fuse.headrace.io", "volumeHandle": "v"}
VOLUME: Json = {"accessModes": ["ReadWriteMany"], "capacity": {"storage": "1Gi"}, "csi": CSI}
PORTS: Json = {"ports": [{"port": 80}]}


def _paths(kind: Kind[Any], body: Json, old: Json | None = None) -> list[str]:
    def whole(part: Json) -> Json:
        return apply_defaults(kind, {"metadata": {"name": "a"}, **part})

    return [p.path for p in validate(kind, whole(body), None if old is None else whole(old))]


@pytest.mark.parametrize(
    ("kind", "body", "paths"),
    [
        (PERSISTENT_VOLUME_CLAIM, {"spec": CLAIM}, []),
        (PERSISTENT_VOLUME_CLAIM, {"spec": {**CLAIM, "storageClassName": ""}}, []),
        (PERSISTENT_VOLUME_CLAIM, {"spec": {}}, ["spec.accessModes", "spec.resources.requests.storage"]),
        (PERSISTENT_VOLUME_CLAIM, {"spec": {**CLAIM, "accessModes": ["RWX"]}}, ["spec.accessModes[0]"]),
        (
            PERSISTENT_VOLUME_CLAIM,
            {"spec": {**CLAIM, "resources": {"requests": {"storage": "0"}}}},
            ["spec.resources.requests.storage"],
        ),
        (
            PERSISTENT_VOLUME_CLAIM,
            {"spec": {**CLAIM, "accessModes": ["ReadWriteOncePod", "ReadOnlyMany"]}},
            ["spec.accessModes"],
        ),
        (PERSISTENT_VOLUME_CLAIM, {"spec": {**CLAIM, "storageClassName": "A B"}}, ["spec.storageClassName"]),
        (PERSISTENT_VOLUME, {"spec": VOLUME}, []),
        (PERSISTENT_VOLUME, {"spec": {**VOLUME, "csi": None, "rbd": {}}}, []),
        (PERSISTENT_VOLUME, {"spec": {"csi": CSI}}, ["spec.accessModes", "spec.capacity.storage"]),
        (PERSISTENT_VOLUME, {"spec": {**VOLUME, "nfs": {"server": "a", "path": "/"}}}, ["spec"]),
        (PERSISTENT_VOLUME, {"spec": {**VOLUME, "csi": {**CSI, "volumeHandle": ""}}}, ["spec.csi.volumeHandle"]),
        (PERSISTENT_VOLUME, {"spec": {**VOLUME, "csi": {"driver": "a"}}}, ["spec.csi"]),
        (
            PERSISTENT_VOLUME,
            {"spec": {**VOLUME, "csi": None, "local": {"path": "/a/../b"}}},
            ["spec.nodeAffinity", "spec.local.path"],
        ),
        (
            PERSISTENT_VOLUME,
            {"spec": {**VOLUME, "persistentVolumeReclaimPolicy": "Keep"}},
            ["spec.persistentVolumeReclaimPolicy"],
        ),
        (STORAGE_CLASS, {"provisioner": "a"}, []),
        (STORAGE_CLASS, {"volumeBindingMode": "Later"}, ["provisioner", "volumeBindingMode"]),
        (CSI_DRIVER, {"spec": {"volumeLifecycleModes": ["Persistent", "Inline"]}}, ["spec.volumeLifecycleModes[1]"]),
        (SECRET, {"data": {"a": "MQ=="}, "stringData": {"b": "plain"}}, []),
        (SECRET, {"data": {"a": "plain text"}}, ["data.a"]),
        (SECRET, {"data": {"a b": "MQ=="}}, ["data[a b]"]),
        (SECRET, {"stringData": {"a": "x" * 1048577}}, ["data"]),
        (CONFIG_MAP, {"data": {"config.json": "{}"}, "binaryData": {"b": "MQ=="}}, []),
        (CONFIG_MAP, {"data": {"..": ""}}, ["data[..]"]),
        (CONFIG_MAP, {"data": {"a": ""}, "binaryData": {"a": "MQ=="}}, ["binaryData.a"]),
        (CONFIG_MAP, {"data": {"a": 5}}, ["data[...]"]),
        (SERVICE, {"spec": PORTS}, []),
        (SERVICE, {"spec": {"clusterIP": "None"}}, []),
        (SERVICE, {"spec": {}}, ["spec.ports"]),
        (SERVICE, {"spec": {"ports": [{"port": 80}, {"port": 81}]}}, ["spec.ports[0].name", "spec.ports[1].name"]),
        (SERVICE, {"spec": {"ports": [{"port": 0}], "type": "Web"}}, ["spec.type", "spec.ports[0].port"]),
        (NODE, {"spec": {"taints": [{"key": "a", "effect": "Never"}]}}, ["spec.taints[0].effect"]),
        (NODE, {"status": {"capacity": {"cpu": "lots"}}}, ["status.capacity.cpu"]),
        (LEASE, {"spec": {"leaseDurationSeconds": 0}}, ["spec.leaseDurationSeconds"]),
        (PRIORITY_CLASS, {"value": 2000000000}, ["value"]),
        (
            CRD,
            {"spec": {"group": "example.org", "names": {"kind": "A", "plural": "as"}, "scope": "Everywhere"}},
            ["metadata.name", "spec.scope", "spec.versions"],
        ),
    ],
    ids=str,
)
def test_mistakes(kind: Kind[Any], body: Json, paths: list[str]) -> None:
    body = {
        key: {k: v for k, v in part.items() if v is not None} if isinstance(part, dict) else part
        for key, part in body.items()
    }
    assert _paths(kind, body) == paths


def test_our_own_definitions_pass() -> None:
    assert validate(CRD, crd(TRAIN_JOB)) == []


def test_a_definition_without_a_schema() -> None:
    definition = crd(TRAIN_JOB)
    definition["spec"]["versions"][0]["schema"] = {}
    assert [p.path for p in validate(CRD, definition)] == ["spec.versions[0].schema.openAPIV3Schema"]


@pytest.mark.parametrize(
    ("kind", "old", "new", "paths"),
    [
        (PERSISTENT_VOLUME_CLAIM, {"spec": CLAIM}, {"spec": {**CLAIM, "volumeName": "v"}}, []),
        (
            PERSISTENT_VOLUME_CLAIM,
            {"spec": CLAIM},
            {"spec": {**CLAIM, "resources": {"requests": {"storage": "2Gi"}}}},
            [],
        ),
        (PERSISTENT_VOLUME_CLAIM, {"spec": CLAIM}, {"spec": {**CLAIM, "storageClassName": "x"}}, []),
        (
            PERSISTENT_VOLUME_CLAIM,
            {"spec": {**CLAIM, "volumeName": "v"}},
            {"spec": {**CLAIM, "volumeName": "w"}},
            ["spec.volumeName"],
        ),
        (PERSISTENT_VOLUME, {"spec": VOLUME}, {"spec": {**VOLUME, "claimRef": {"name": "c"}}}, []),
        (PERSISTENT_VOLUME, {"spec": VOLUME}, {"spec": {**VOLUME, "csi": {**CSI, "volumeHandle": "w"}}}, ["spec.csi"]),
        (STORAGE_CLASS, {"provisioner": "a"}, {"provisioner": "b"}, ["provisioner"]),
        (SECRET, {"data": {"a": "MQ=="}}, {"data": {"a": "Mg=="}}, []),
        (SECRET, {"data": {"a": "MQ=="}, "immutable": True}, {"data": {"a": "Mg=="}, "immutable": True}, ["data"]),
        (SECRET, {"immutable": True}, {}, ["immutable"]),
        (SECRET, {"type": "Opaque"}, {"type": "x"}, ["type"]),
        (CONFIG_MAP, {"data": {"a": "1"}, "immutable": True}, {"data": {"a": "2"}, "immutable": True}, ["data"]),
        (SERVICE, {"spec": PORTS}, {"spec": {**PORTS, "clusterIP": "10.0.0.1"}}, []),
        (
            SERVICE,
            {"spec": {**PORTS, "clusterIP": "10.0.0.1"}},
            {"spec": {**PORTS, "clusterIP": "None"}},
            ["spec.clusterIP"],
        ),
    ],
    ids=str,
)
def test_updates(kind: Kind[Any], old: Json, new: Json, paths: list[str]) -> None:
    assert _paths(kind, new, old) == paths


@pytest.mark.parametrize(
    ("service", "paths"),
    [
        ({"namespace": "n", "name": ""}, ["webhooks[0].clientConfig.service.name"]),
        ({"namespace": "", "name": "s"}, ["webhooks[0].clientConfig.service.namespace"]),
        ({"namespace": "n", "name": "s", "path": "//"}, ["webhooks[0].clientConfig.service.path"]),
        ({"namespace": "n", "name": "s", "path": "/a/b/"}, []),
    ],
)
def test_services_of_webhooks(service: Json, paths: list[str]) -> None:
    """Kubernetes takes name and namespace for each other here (it says of an empty name that the namespace is required)."""
    hook = {
        "name": "a.example.org",
        "clientConfig": {"service": service},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    for kind in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
        assert _paths(kind, {"webhooks": [hook]}) == paths
