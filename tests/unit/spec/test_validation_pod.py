"""Pods: what a server must not let pass, by path."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.spec.defaults import apply_defaults
from headrace.spec.kind import Json
from headrace.spec.kinds import POD
from headrace.spec.validation import validate

APP: Json = {"name": "app", "image": "host"}


def _paths(old: Json | None = None, subresource: str = "", **spec: Any) -> list[str]:
    return [p.path for p in validate(POD, _pod(**spec), old, subresource=subresource)]


def _pod(**spec: Any) -> Json:
    return apply_defaults(POD, {"metadata": {"name": "web"}, "spec": {"containers": [APP], **spec}})


def _app(**fields: Any) -> Json:
    return {"containers": [{**APP, **fields}]}


def _init(**fields: Any) -> Json:
    return {"initContainers": [{"name": "init", "image": "host", **fields}]}


_PROBE: Json = {"exec": {"command": ["true"]}}


@pytest.mark.parametrize(
    "spec",
    [
        {},
        _app(ports=[{"containerPort": 80, "name": "http"}, {"containerPort": 81, "name": "admin"}]),
        _app(
            env=[
                {"name": "A", "value": "1"},
                {"name": "a.b-c", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            ]
        ),
        _app(resources={"requests": {"cpu": "500m"}, "limits": {"cpu": 1, "nvidia.com/gpu": 1}}),
        _app(volumeMounts=[{"name": "v", "mountPath": "/v", "subPath": "a/b"}])
        | {"volumes": [{"name": "v", "emptyDir": {}}]},
        _app(lifecycle={"preStop": {"sleep": {"seconds": 1}}}, livenessProbe=_PROBE),
        _init(restartPolicy="Always", startupProbe=_PROBE),
        {"tolerations": [{"operator": "Exists"}, {"key": "a", "value": "b", "effect": "NoSchedule"}]},
        {"volumes": [{"name": "unknown-here", "nfs": {"server": "a", "path": "/"}}]},
        {
            "restartPolicy": "Never",
            "nodeSelector": {"node-restriction.kubernetes.io/headrace-pool": "own"},
            "hostname": "web-0",
        },
    ],
    ids=str,
)
def test_good_pods(spec: Json) -> None:
    assert _paths(**spec) == []


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"containers": []}, "spec.containers"),
        ({"containers": [{"name": "App", "image": "a"}]}, "spec.containers[0].name"),
        ({"containers": [{"name": "app"}]}, "spec.containers[0].image"),
        ({"containers": [APP, APP]}, "spec.containers[1].name"),
        (_init(name="app"), "spec.containers[0].name"),
        ({"restartPolicy": "always"}, "spec.restartPolicy"),
        (_app(imagePullPolicy="Sometimes"), "spec.containers[0].imagePullPolicy"),
        (_app(image=" host"), "spec.containers[0].image"),
        (_app(env=[{"name": "1A"}]), "spec.containers[0].env[0].name"),
        (_app(env=[{"name": "A", "valueFrom": {}}]), "spec.containers[0].env[0].valueFrom"),
        (
            _app(env=[{"name": "A", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
            "spec.containers[0].env[0].valueFrom",
        ),
        (_app(ports=[{"containerPort": 0}]), "spec.containers[0].ports[0].containerPort"),
        (_app(ports=[{"containerPort": 1, "name": "123"}]), "spec.containers[0].ports[0].name"),
        (_app(ports=[{"containerPort": 1, "name": "a" * 16}]), "spec.containers[0].ports[0].name"),
        (
            _app(ports=[{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]),
            "spec.containers[0].ports[1].name",
        ),
        (_app(ports=[{"containerPort": 1, "protocol": "tcp"}]), "spec.containers[0].ports[0].protocol"),
        (_app(resources={"limits": {"cpu": "lots"}}), "spec.containers[0].resources.limits.cpu"),
        (_app(resources={"limits": {"memory": "-1Gi"}}), "spec.containers[0].resources.limits.memory"),
        (_app(resources={"requests": {"cpu": 2}, "limits": {"cpu": 1}}), "spec.containers[0].resources.requests.cpu"),
        (
            _app(resources={"requests": {"nvidia.com/gpu": 1}, "limits": {"nvidia.com/gpu": 2}}),
            "spec.containers[0].resources.requests[nvidia.com/gpu]",
        ),
        (_app(livenessProbe={**_PROBE, "successThreshold": 2}), "spec.containers[0].livenessProbe.successThreshold"),
        (_app(livenessProbe={**_PROBE, "periodSeconds": 0}), "spec.containers[0].livenessProbe.periodSeconds"),
        (_app(livenessProbe={**_PROBE, "tcpSocket": {"port": 1}}), "spec.containers[0].livenessProbe"),
        (_app(livenessProbe={"exec": {}}), "spec.containers[0].livenessProbe.exec.command"),
        (_app(lifecycle={"preStop": {}}), "spec.containers[0].lifecycle.preStop"),
        (_init(livenessProbe=_PROBE), "spec.initContainers[0].livenessProbe"),
        (_init(lifecycle={"preStop": {"exec": {}}}), "spec.initContainers[0].lifecycle"),
        (_app(volumeMounts=[{"name": "v", "mountPath": "/v"}]), "spec.containers[0].volumeMounts[0].name"),
        (
            _app(volumeMounts=[{"name": "v", "mountPath": "v"}]) | {"volumes": [{"name": "v", "emptyDir": {}}]},
            "spec.containers[0].volumeMounts[0].mountPath",
        ),
        (
            _app(volumeMounts=[{"name": "v", "mountPath": "/v", "subPath": "../x"}])
            | {"volumes": [{"name": "v", "emptyDir": {}}]},
            "spec.containers[0].volumeMounts[0].subPath",
        ),
        (
            _app(volumeMounts=[{"name": "v", "mountPath": "/v"}] * 2) | {"volumes": [{"name": "v", "emptyDir": {}}]},
            "spec.containers[0].volumeMounts[1].mountPath",
        ),
        (
            _app(volumeMounts=[{"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}])
            | {"volumes": [{"name": "v", "emptyDir": {}}]},
            "spec.containers[0].volumeMounts[0].mountPropagation",
        ),
        ({"volumes": [{"name": "v", "emptyDir": {}}] * 2}, "spec.volumes[1].name"),
        ({"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]}, "spec.volumes[0].hostPath"),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/a/../b"}}]}, "spec.volumes[0].hostPath.path"),
        (
            {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": ""}}]},
            "spec.volumes[0].persistentVolumeClaim.claimName",
        ),
        ({"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "big"}}]}, "spec.volumes[0].emptyDir.sizeLimit"),
        (
            {"volumes": [{"name": "v", "configMap": {"name": "c", "items": [{"key": "", "path": "a"}]}}]},
            "spec.volumes[0].configMap.items[0].key",
        ),
        (
            {"volumes": [{"name": "v", "downwardAPI": {"items": [{"path": "a"}]}}]},
            "spec.volumes[0].downwardAPI.items[0]",
        ),
        ({"tolerations": [{"value": "x"}]}, "spec.tolerations[0].operator"),
        ({"tolerations": [{"key": "a", "operator": "Exists", "value": "x"}]}, "spec.tolerations[0].value"),
        ({"tolerations": [{"key": "a", "effect": "Never"}]}, "spec.tolerations[0].effect"),
        ({"activeDeadlineSeconds": 0}, "spec.activeDeadlineSeconds"),
        ({"hostname": "a.b"}, "spec.hostname"),
        ({"nodeSelector": {"a": "b c"}}, "spec.nodeSelector.a"),
        ({"containers": [{"name": "a", "image": 3}]}, "spec.containers[0].image"),
    ],
    ids=str,
)
def test_bad_pods(spec: Json, path: str) -> None:
    assert path in _paths(**spec)


_GATED: Json = {"schedulingGates": [{"name": "a"}, {"name": "b"}]}


@pytest.mark.parametrize(
    ("before", "after", "paths"),
    [
        (_app(image="train:1"), _app(image="train:2"), []),
        ({}, {"activeDeadlineSeconds": 5}, []),
        ({"activeDeadlineSeconds": 5}, {"activeDeadlineSeconds": 3}, []),
        ({"activeDeadlineSeconds": 5}, {"activeDeadlineSeconds": 9}, ["spec.activeDeadlineSeconds"]),
        ({}, {"tolerations": [{"operator": "Exists"}]}, []),
        ({"tolerations": [{"operator": "Exists"}]}, {}, ["spec.tolerations"]),
        (_GATED, {"schedulingGates": [{"name": "b"}]}, []),
        ({}, _GATED, ["spec.schedulingGates"]),
        ({}, _app(command=["other"]), ["spec.containers"]),
        ({}, {"nodeName": "own"}, ["spec.nodeName"]),
        ({}, {"volumes": [{"name": "v", "emptyDir": {}}]}, ["spec.volumes"]),
        ({}, {"unknownField": 1}, ["spec.unknownField"]),
    ],
    ids=str,
)
def test_updates(before: Json, after: Json, paths: list[str]) -> None:
    assert _paths(_pod(**before), **after) == paths


def test_binding_and_status_write_what_an_update_may_not() -> None:
    assert _paths(_pod(), "binding", nodeName="own") == []
    assert _paths(_pod(), "status", nodeName="own") == []
