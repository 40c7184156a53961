"""Defaults are filled in once, without touching what was given or tripping over what is malformed."""

from __future__ import annotations

import base64
import copy
from typing import Any

import pytest

from headrace.spec.defaults import apply_defaults
from headrace.spec.kind import Json, Kind
from headrace.spec.kinds import (
    ALL_KINDS,
    DATA_LOAD,
    NAMESPACE,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    POOL,
    QUEUE,
    SECRET,
    SERVICE,
    STORAGE_CLASS,
    THIN_RUNTIME_PROFILE,
    TRAIN_JOB,
)


def test_the_smallest_job() -> None:
    assert apply_defaults(TRAIN_JOB, {"spec": {"command": ["a"]}})["spec"] == {
        "command": ["a"],
        "framework": "none",
        "queue": "default",
        "priority": "preferred",
        "retry": {"limit": 3, "on": ["NodeLost", "Preempted"]},
        "checkpoint": {"signal": "SIGTERM", "graceSeconds": 30},
    }


@pytest.mark.parametrize(
    ("kind", "raw", "spec"),
    [
        (TRAIN_JOB, {"spec": {"roles": {"ps": {}}, "retry": {"limit": 0}}}, {"roles": {"ps": {"replicas": 1}}}),
        (QUEUE, {}, {"burst": {"allow": True, "waitPrice": "1.00/h"}, "expectedDuration": "1h"}),
        (
            QUEUE,
            {"spec": {"budget": {"amount": "5"}}},
            {"budget": {"amount": "5", "period": "month", "onExhausted": "ownOnly"}},
        ),
        (POOL, {"spec": {"kind": "own"}}, {"kind": "own", "dataAccess": {"mode": "native"}, "startTimeout": "5m"}),
        (
            POOL,
            {"spec": {"price": {}}},
            {"price": {"currency": "USD", "startsAt": "Start", "granularity": "1s", "minimum": "0s"}},
        ),
        (POOL, {"spec": {"gpus": {"A100": {}}}}, {"gpus": {"A100": {"resource": "nvidia.com/gpu"}}}),
        (DATA_LOAD, {"spec": {}}, {"policy": "Once"}),
        (THIN_RUNTIME_PROFILE, {"spec": {}}, {"nodePublishSecretPolicy": "MountNodePublishSecretIfExists"}),
        (SERVICE, {"spec": {"ports": [{"port": 80}]}}, {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]}),
        (PERSISTENT_VOLUME_CLAIM, {}, {"volumeMode": "Filesystem"}),
        (PERSISTENT_VOLUME, {}, {"persistentVolumeReclaimPolicy": "Retain"}),
    ],
    ids=str,
)
def test_specs(kind: Kind[Any], raw: Json, spec: Json) -> None:
    result = apply_defaults(kind, raw)["spec"]
    assert {key: result.get(key) for key in spec} == spec


def test_zero_is_not_absence() -> None:
    raw = {"spec": {"command": ["a"], "retry": {"limit": 0, "on": []}, "checkpoint": {"graceSeconds": 0}}}
    spec = apply_defaults(TRAIN_JOB, raw)["spec"]
    assert spec["retry"] == {"limit": 0, "on": []}
    assert spec["checkpoint"]["graceSeconds"] == 0


def test_a_pod() -> None:
    pod = apply_defaults(
        POD,
        {
            "spec": {
                "containers": [
                    {
                        "name": "a",
                        "image": "registry:5000/train",
                        "resources": {"limits": {"cpu": 1, "memory": "1Gi"}, "requests": {"cpu": "500m"}},
                        "ports": [{"containerPort": 80}],
                        "livenessProbe": {"httpGet": {"port": 80}, "periodSeconds": 3},
                        "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                    }
                ],
                "initContainers": [{"name": "b", "image": "host"}],
                "volumes": [{"name": "tmp"}, {"name": "s", "secret": {"secretName": "x"}}],
            }
        },
    )
    spec = pod["spec"]
    container, init = spec["containers"][0], spec["initContainers"][0]
    assert (spec["restartPolicy"], spec["dnsPolicy"], spec["terminationGracePeriodSeconds"]) == (
        "Always",
        "ClusterFirst",
        30,
    )
    assert container["resources"]["requests"] == {"cpu": "500m", "memory": "1Gi"}
    assert (container["imagePullPolicy"], init["imagePullPolicy"]) == ("Always", "IfNotPresent")
    assert container["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert container["livenessProbe"] == {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
        "periodSeconds": 3,
        "timeoutSeconds": 1,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    assert container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] == "v1"
    assert spec["volumes"] == [
        {"name": "tmp", "emptyDir": {}},
        {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}},
    ]


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("train", "Always"),
        ("train:latest", "Always"),
        ("train:1", "IfNotPresent"),
        ("reg:5000/a/train", "Always"),
        ("train@sha256:abc", "IfNotPresent"),
    ],
)
def test_pull_policies(image: str, policy: str) -> None:
    pod = apply_defaults(POD, {"spec": {"containers": [{"name": "a", "image": image}]}})
    assert pod["spec"]["containers"][0]["imagePullPolicy"] == policy


def test_a_secret_in_plain_text() -> None:
    secret = apply_defaults(SECRET, {"data": {"a": "MQ=="}, "stringData": {"a": "2", "b": "3"}})
    assert secret["data"] == {"a": base64.b64encode(b"2").decode(), "b": base64.b64encode(b"3").decode()}
    assert "stringData" not in secret
    assert secret["type"] == "Opaque"


def test_a_namespace() -> None:
    namespace = apply_defaults(NAMESPACE, {"metadata": {"name": "vision"}})
    assert namespace["metadata"]["labels"] == {"kubernetes.io/metadata.name": "vision"}
    assert namespace["status"] == {"phase": "Active"}


def test_a_storage_class() -> None:
    assert apply_defaults(STORAGE_CLASS, {"volumeBindingMode": "WaitForFirstConsumer"}) == {
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Delete",
    }


_MALFORMED: tuple[Json, ...] = (
    {},
    {"metadata": None, "spec": None},
    {"metadata": 1, "spec": []},
    {"metadata": {"name": 1}, "spec": {"containers": {}, "ports": 3, "roles": [], "mounts": {}, "names": 1}},
    {"spec": {"containers": [None, {"resources": 1, "env": [1, {"valueFrom": 2}], "lifecycle": []}], "ports": [1]}},
    {"stringData": 3, "data": 4, "spec": {"retry": 1, "price": [], "fuse": "x", "hostPath": 1}},
)


@pytest.mark.parametrize("kind", ALL_KINDS, ids=str)
@pytest.mark.parametrize("raw", _MALFORMED, ids=lambda raw: str(raw)[:30])
def test_idempotent_and_harmless(kind: Kind[Any], raw: Json) -> None:
    before = copy.deepcopy(raw)
    once = apply_defaults(kind, raw)
    assert raw == before
    assert apply_defaults(kind, once) == once
